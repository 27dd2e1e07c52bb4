"""Run the command line with `python -m hpcimg`."""

import sys

from hpcimg.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
