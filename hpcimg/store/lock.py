"""The exclusive right to build one entry, and what its holder tells those who wait.

A lock only saves work: an entry is published by one rename, whoever builds it. How one is taken is
the matter of `lock_kinds`.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from hpcimg.errors import LockTimeoutError, StoreError
from hpcimg.progress import Progress
from hpcimg.store.faults import UNWRITABLE_NUMBERS, store_faults
from hpcimg.store.owner import Owner, owner_of_fields

RECORD_BYTES = 2048
"""Fixed length of the record in a lock file: one write replaces it whole."""

HEARTBEAT_SECONDS = 2.0

_POLL_SECONDS = (0.2, 2.0)
_POLL_SHARE = 0.1


@dataclass(frozen=True)
class BuildState:
    """What a lock file says: who builds, how far it is; `beat` changes while the builder runs."""

    owner: Owner
    beat: int
    progress: Progress


class EntryLock(ABC):
    """One lock, of a kind that its children know; the record of its holder stands in its file."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path = path
        self.owner = owner
        self._descriptor = -1
        self._beat = 0
        self._progress = Progress("wait")
        self._writing = threading.Lock()

    def try_acquire(self, *, synced: bool = True) -> bool:
        """Take the lock if it is free; raises StoreError where it cannot be taken at all.

        Unless its record is `synced`, other nodes may see it late.
        """
        try:
            descriptor = self._take()
        except OSError as error:
            if error.errno in UNWRITABLE_NUMBERS:
                with store_faults("make a lock", self.path.parent):
                    raise
            message = f'could not lock "{self.path}": {error.strerror or error}'
            hint = "`hpcimg doctor --store` says which store: {lock: ...} this file system can do"
            raise StoreError(message, hint) from error
        if descriptor is None:
            return False
        self._descriptor = descriptor
        self._write(synced=synced)
        return True

    def release(self) -> None:
        """Give the lock back, if it was taken."""
        with self._writing:
            descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            self._give_back(descriptor)

    def pass_over(self, judged: BuildState | None) -> None:
        """Have the next try go past the holder of this record, which stopped.

        Others who do the same meet there, so that one of them builds.
        """
        del judged
        name, _, number = self.path.stem.rpartition("~")
        after = f"{name}~{int(number) + 1}" if name else f"{number}~2"
        self.path = self.path.with_name(after + self.path.suffix)

    @abstractmethod
    def _take(self) -> int | None:
        """Give a descriptor of the lock's file once it is ours, None where somebody has it."""

    @abstractmethod
    def _give_back(self, descriptor: int) -> None:
        """Let the next one have it, and close the descriptor."""

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

    def _write(self, *, synced: bool = True) -> None:
        with self._writing:
            if self._descriptor < 0:
                return
            self._beat += 1
            record = _format(BuildState(self.owner, self._beat, self._progress))
            # The record is for people and for patience: a full disk must not stop the builder.
            with suppress(OSError):
                os.pwrite(self._descriptor, record, 0)
                if synced:  # on NFS other nodes would see it only half a minute later
                    os.fdatasync(self._descriptor)


@dataclass
class Patience:
    """How long one waiter waits, and whether the builder it waits for still moves.

    `timeout` bounds the whole wait; a record that stands still for `stale` means: go past it.
    `pauses` are the shortest and the longest between two looks.
    """

    timeout: float
    stale: float
    pauses: tuple[float, float] = _POLL_SECONDS
    _start: float = field(default_factory=time.monotonic)
    seen: BuildState | None = None
    _moved: float | None = None
    _path: Path | None = None

    def is_over(self, path: Path) -> bool:
        """Look at a lock once; True when its builder stopped, LockTimeoutError when late."""
        now = time.monotonic()
        state = read_state(path)
        if path != self._path or self._moved is None or state != self.seen:
            self._path, self.seen, self._moved = path, state, now
        elif now - self._moved >= self.stale:
            return True
        if now - self._start >= self.timeout:
            owner = str(state.owner) if state else "an unknown builder"
            raise LockTimeoutError(
                f'waited {self.timeout:g} s for {owner}, which holds "{path}"',
                "try again later, or look at that process",
                path=str(path),
                owner=owner,
            )
        return False

    def pause(self) -> float:
        """Say how many seconds to sleep before the next look."""
        waited = time.monotonic() - self._start
        return pause_after(waited, random.random(), *self.pauses)  # noqa: S311 - no secret

    def progress(self) -> Progress:
        """Say who builds, since when, and how far it is, as last seen."""
        if self.seen is None:
            return Progress("wait", note="another process builds it")
        state = self.seen
        since = time.strftime("%H:%M:%S", time.localtime(state.owner.since))
        note = f"{state.owner} builds it since {since}: {state.progress.phase}"
        return Progress("wait", state.progress.done, state.progress.total, note)


def pause_after(
    waited: float, chance: float, least: float = _POLL_SECONDS[0], most: float = _POLL_SECONDS[1]
) -> float:
    """Look less often the longer it takes; `chance`, from 0 to 1, keeps nodes out of step.

    A tenth of the wait so far: nobody waits much longer than needed, and a thousand nodes leave the
    file system its breath.
    """
    pause = min(max(_POLL_SHARE * waited, least), most)
    return pause * (0.75 + chance / 2)


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
