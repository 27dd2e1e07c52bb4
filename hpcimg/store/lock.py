"""The exclusive right to build one entry, and what its holder tells those who wait.

A lock only saves work: an entry is published by one rename, whoever builds it.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.errors import LockTimeoutError, StoreError
from hpcimg.progress import Progress
from hpcimg.store.faults import store_faults
from hpcimg.store.owner import Owner, owner_of_fields

if TYPE_CHECKING:
    from filelock import UnixFileLock

RECORD_BYTES = 2048
"""Fixed length of the record in a lock file: one write replaces it whole."""

HEARTBEAT_SECONDS = 2.0


@dataclass(frozen=True)
class BuildState:
    """What a lock file says: who builds, how far it is; `beat` changes while the builder runs."""

    owner: Owner
    beat: int
    progress: Progress


class EntryLock:
    """One lock file, never unlinked: a name that comes and goes would be two locks at once."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path = path
        self.owner = owner
        self._lock: UnixFileLock | None = None
        self._descriptor = -1
        self._beat = 0
        self._progress = Progress("wait")
        self._writing = threading.Lock()

    def try_acquire(self) -> bool:
        """Take the lock if it is free; raises StoreError where the file system has no flock."""
        from filelock import Timeout, UnixFileLock

        lock = UnixFileLock(
            str(self.path),
            mode=0o644,
            thread_local=False,
            # A soft lock on one node and flock on another would both be granted.
            fallback_to_soft=False,
            on_acquired=self._adopt,
        )
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return False
        except OSError as error:
            if error.errno == errno.EROFS:
                with store_faults("make a lock", self.path.parent):
                    raise
            message = f'could not lock "{self.path}": {error.strerror or error}'
            raise StoreError(message, "the store needs a file system with flock") from error
        self._lock = lock
        self._write()
        return True

    def release(self) -> None:
        """Give the lock back; the file and its last record stay."""
        if self._lock is not None:
            with self._writing:
                self._descriptor = -1
            self._lock.release()
            self._lock = None

    def report(self, progress: Progress) -> None:
        """Tell those who wait; a new phase at once, more bytes with the next heartbeat."""
        is_new = progress.phase != self._progress.phase
        self._progress = progress
        if is_new:
            self._write()

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Keep the record moving while the body runs, however long it blocks."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(HEARTBEAT_SECONDS):
                self._write()

        thread = threading.Thread(target=beat, name="hpcimg-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _adopt(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def _write(self) -> None:
        with self._writing:
            if self._descriptor < 0:
                return
            self._beat += 1
            record = _format(BuildState(self.owner, self._beat, self._progress))
            # The record is for people and for patience: a full disk must not stop the builder.
            with suppress(OSError):
                os.pwrite(self._descriptor, record, 0)


@dataclass
class Patience:
    """How long one waiter waits, and whether the builder it waits for still moves.

    `timeout` bounds the whole wait; a record that stands still for `stale` means: build alone.
    """

    path: Path
    timeout: float
    stale: float
    _start: float = field(default_factory=time.monotonic)
    _seen: BuildState | None = None
    _moved: float | None = None

    def is_over(self) -> bool:
        """Look at the record once; True when the builder stopped, LockTimeoutError when late."""
        now = time.monotonic()
        state = read_state(self.path)
        if self._moved is None or state != self._seen:
            self._seen, self._moved = state, now
        elif now - self._moved >= self.stale:
            return True
        if now - self._start >= self.timeout:
            owner = str(state.owner) if state else "an unknown builder"
            raise LockTimeoutError(
                f'waited {self.timeout:g} s for {owner}, which holds "{self.path}"',
                "try again later, or look at that process",
                path=str(self.path),
                owner=owner,
            )
        return False

    def progress(self) -> Progress:
        """Say who builds, since when, and how far it is, as last seen."""
        if self._seen is None:
            return Progress("wait", note="another process builds it")
        state = self._seen
        since = time.strftime("%H:%M:%S", time.localtime(state.owner.since))
        note = f"{state.owner} builds it since {since}: {state.progress.phase}"
        return Progress("wait", state.progress.done, state.progress.total, note)


def read_state(path: Path) -> BuildState | None:
    """Read a lock file's record; None when it has none, or was caught in the middle of a write."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        raw = os.pread(descriptor, RECORD_BYTES, 0)
    finally:
        os.close(descriptor)
    return _parse(raw)


def _format(state: BuildState) -> bytes:
    progress = state.progress
    document = {
        **state.owner.to_fields(),
        "beat": state.beat,
        "phase": progress.phase,
        "done": progress.done,
        "total": progress.total,
    }
    return json.dumps(document).encode().ljust(RECORD_BYTES - 1)[: RECORD_BYTES - 1] + b"\n"


def _parse(raw: bytes) -> BuildState | None:
    try:
        document = json.loads(raw)
        owner = owner_of_fields(document)
        progress = Progress(str(document["phase"]), int(document["done"]), int(document["total"]))
        return BuildState(owner, int(document["beat"]), progress) if owner else None
    except (ValueError, TypeError, KeyError):
        return None
