"""What `hpcimg doctor` makes of what was read: pure judgements, each a finding and its advice."""
