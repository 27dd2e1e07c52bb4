"""What one node offers: its profile, and the probes that find it."""
