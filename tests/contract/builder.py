"""One process that asks a store for one entry; the tests start several and let them race.

Usage: builder.py STORE DIGEST MODE LOCK [STALE [LOCK_TIMEOUT]]. It says "waiting" and "building"
on its standard output; what it does while it builds is MODE:
now: makes the image at once; hold: first waits for a line on its standard input;
die: kills itself when the image is made and not yet published.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from sif import sif_bytes

from hpcimg.progress import Progress
from hpcimg.store import lock as locks
from hpcimg.store.store import Store
from hpcimg.store.workspace import BuiltImage, Workspace

CONVERTER = "fake-1.0-1"


def main(
    root: str, digest: str, mode: str, lock: str, stale: str = "60", timeout: str = "60"
) -> None:
    """Ask once and print the entry's path."""
    locks.HEARTBEAT_SECONDS = 0.1  # so that a test's waiters need little patience
    said: set[str] = set()

    def say(word: str) -> None:
        if word not in said:
            said.add(word)
            print(word, flush=True)  # noqa: T201 - the protocol with the test

    def build(workspace: Workspace) -> BuiltImage:
        say("building")
        if mode == "hold":
            sys.stdin.readline()
        workspace.image.write_bytes(sif_bytes())
        with (Path(root).parent / "built").open("a") as built:
            built.write(f"{os.getpid()}\n")
        return BuiltImage((f"pid {os.getpid()}",), (), ())

    def on_progress(progress: Progress) -> None:
        if progress.phase == "wait":
            say("waiting")
        if progress.phase == "publish" and mode == "die":
            os.kill(os.getpid(), signal.SIGKILL)

    store = Store(
        Path(root), os.geteuid(), stale=float(stale), lock_timeout=float(timeout), lock=lock
    )
    entry = store.ensure(digest, CONVERTER, build, on_progress=on_progress, job="4711")
    say(str(entry.path))


if __name__ == "__main__":
    main(*sys.argv[1:])
