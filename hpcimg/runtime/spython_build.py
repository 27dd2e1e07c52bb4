"""The child process of a conversion: spython runs `apptainer build`, and this ends as that did.

A program of its own, started by path; it must import nothing of hpcimg.
spython takes the environment and the working directory of its process, prints, and may exit:
here that is contained.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, arguments: list[str]) -> int:
    """Run `singularity ARGUMENTS`, the name spython calls, and return its exit status."""
    _die_with(parent)
    os.umask(0o022)
    from spython.utils import run_command

    try:
        # Not Client.build: it drops the exit status and the messages of a failed build.
        ended = run_command(["singularity", *arguments], quiet=True)
    except UnicodeDecodeError as error:
        sys.stderr.buffer.write(error.object)
        sys.stderr.write("\nthe output was not UTF-8, so spython lost the exit status\n")
        return 1
    sys.stderr.write("".join(ended["message"]))
    status = int(ended["return_code"])
    return status if status >= 0 else 128 - status


def _die_with(parent: int) -> None:
    """Let the whole process group end with the builder, however that ends.

    A build without its builder would go on for minutes and fill the store's file system.
    """
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
