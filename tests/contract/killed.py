"""A process of its own that converts an image and stops at a phase, to be killed there.

Usage: killed.py MERGER SEARCH_PATH FOLDER PHASE. It prints a line when it stands in the phase.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from test_stream import ROWS, image

from hpcimg.runtime.stream import StreamConverter
from hpcimg.settings import Limits


def main() -> None:
    """Convert until the phase is reported, then wait for the end."""
    merger, search_path, folder, phase = sys.argv[1:]
    stop = threading.Event()

    def reached(progress) -> None:
        # A report for one layer is told in the midst of its download.
        if ("download" if progress.part else progress.phase) == phase:
            sys.stdout.write("there\n")
            sys.stdout.flush()
            stop.wait()

    made = StreamConverter(merger, search_path, Limits())
    made.convert(image(*ROWS), Path(folder, "image.sif"), Path(folder), reached)


if __name__ == "__main__":
    main()
