"""Brings one blob into its file: from the upstream, or as another copy of the hub brings it.

It must not know readers' requests, nor how much room there is.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpcimg.errors import RegistryError
from hpcimg.hub.blob_file import (
    cache_faults,
    is_at,
    open_nameless,
    open_part,
    open_whole,
    part_path,
    pieces_of,
    touch,
    try_lock,
    write_at,
)
from hpcimg.hub.blob_flight import BlobFlight, StoppedError

log = logging.getLogger(__name__)

POLL_SECONDS = 0.05
"""Between two looks at what another copy of the hub brings: no file system tells of those."""
STALL_SECONDS = 300.0
"""How long another copy may bring nothing before its readers are told."""


@dataclass(frozen=True)
class Source:
    """Where a blob comes from: the rest of it after first pieces, and a proof that it may be had.

    `prove` raises unless the repository has the blob, whose bytes somebody else may have brought.
    """

    rest: Callable[[Iterable[bytes]], Iterator[bytes]]
    prove: Callable[[], object]


class BlobBringer:
    """Brings what one flight wants; `path` is where a kept blob goes, `now` the time of its use."""

    def __init__(self, flight: BlobFlight, source: Source, path: Path, now: float) -> None:
        self._flight = flight
        self._source = source
        self._path = path
        self._part = part_path(path)
        self._now = now

    def bring_through(self, folder: Path) -> None:
        """Bring it into a file that nobody finds, and that is gone with its last reader."""
        with cache_faults(folder):
            descriptor = open_nameless(folder)
        self._flight.open_with(descriptor)
        self._receive(descriptor, 0)
        self._flight.succeed()

    def bring(self) -> None:
        """Bring it into the cache; one copy of the hub does, the others look on."""
        is_done = False
        while not is_done:
            with cache_faults(self._part):
                whole = open_whole(self._path, self._now)
                descriptor = open_part(self._part) if whole is None else whole
            self._flight.open_with(descriptor)
            if whole is not None:
                self._source.prove()
                self._found_whole(descriptor)
                return
            with cache_faults(self._part):
                is_ours = try_lock(descriptor, fcntl.LOCK_EX)
            is_done = self._lead(descriptor) if is_ours else self._follow(descriptor)

    def _lead(self, descriptor: int) -> bool:
        """Bring it with the lock; False when the file is nobody's any more."""
        with cache_faults(self._part):
            if not is_at(descriptor, self._part):
                return False
            begun = os.fstat(descriptor).st_size
            if self._path.exists() or begun > self._flight.wanted.size:
                self._part.unlink()
                return False
        try:
            self._receive(descriptor, begun)
        except BaseException as error:
            self._give_up(descriptor, error)
            raise
        self._flight.succeed()
        # The readers have it all; what follows decides only whether it is kept.
        try:
            with cache_faults(self._part):
                os.fsync(descriptor)
                touch(descriptor, self._now)
                self._part.rename(self._path)
                fcntl.flock(descriptor, fcntl.LOCK_SH)
        except BaseException as error:
            self._give_up(descriptor, error)
            raise
        return True

    def _receive(self, descriptor: int, begun: int) -> None:
        """Write what is missing after the `begun` first bytes, and have it all verified."""
        received = begun
        for chunk in self._source.rest(self._first(descriptor, begun)):
            with cache_faults(self._part):
                write_at(descriptor, chunk, received)
            received += len(chunk)
            self._flight.grow(received)
        if begun and received == begun:
            self._source.prove()

    def _first(self, descriptor: int, begun: int) -> Iterator[bytes]:
        with cache_faults(self._part):
            yield from pieces_of(descriptor, begun)

    def _give_up(self, descriptor: int, error: BaseException) -> None:
        """Leave for later only what may well be good; whoever comes next goes on from there."""
        is_good = isinstance(error, StoppedError) or (
            isinstance(error, RegistryError) and error.temporary
        )
        with suppress(OSError):
            if not (is_good and os.fstat(descriptor).st_size > 0):
                self._part.unlink()

    def _follow(self, descriptor: int) -> bool:
        """Look on while another copy brings it; take its place when it dies."""
        self._source.prove()
        moved, size = time.monotonic(), -1
        while True:
            with cache_faults(self._part):
                if try_lock(descriptor, fcntl.LOCK_EX):
                    return self._succeed(descriptor)
                if try_lock(descriptor, fcntl.LOCK_SH):
                    if is_at(descriptor, self._path):
                        return self._found_whole(descriptor)
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
                before, size = size, os.fstat(descriptor).st_size
            self._flight.grow(min(size, self._flight.wanted.size))
            moved = time.monotonic() if size != before else moved
            if time.monotonic() - moved > STALL_SECONDS:
                raise _broken("stands still with it")
            time.sleep(POLL_SECONDS)

    def _succeed(self, descriptor: int) -> bool:
        """Be the one after another copy, which has ended this way or that."""
        if is_at(descriptor, self._path):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            return self._found_whole(descriptor)
        if self._lead(descriptor):
            return True
        if self._flight.is_begun:
            raise _broken("gave it up")
        return False

    def _found_whole(self, descriptor: int) -> bool:
        # Whoever has the folder may have brought another size than this reader was told.
        size = os.fstat(descriptor).st_size
        if size != self._flight.wanted.size:
            raise _broken(f"found that it has {size} bytes")
        self._flight.succeed()
        return True


def _broken(what: str) -> RegistryError:
    return RegistryError(f"another copy of the hub {what}", "try again", temporary=True)
