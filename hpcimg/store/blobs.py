"""Layers that several images share, kept as they are fetched: asked for once for the whole site.

Knows no registry: whoever wants a layer brings the way to fetch it. What is read is checked against
its digest each time, and what fails here only costs another request.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from hpcimg.errors import StoreError
from hpcimg.store.entry import UntrustedError, open_directory, open_file
from hpcimg.store.faults import free_bytes
from hpcimg.store.files import make_directory
from hpcimg.store.lock import EntryLock, Patience
from hpcimg.store.lock_kinds import entry_lock
from hpcimg.store.owner import current_owner
from hpcimg.store.store import BLOBS, LOCKS, Store

if TYPE_CHECKING:
    from pathlib import Path

Fetch = Callable[[], Iterator[bytes]]
"""Streams the whole layer, and raises at its end unless every byte was right."""

PART = ".part"

_CHUNK = 1 << 20
_POLL_SECONDS = (0.02, 0.5)
_ROOM = 3
"""Who has less free space than this many times a layer keeps none."""

log = logging.getLogger(__name__)


class SpoiledError(Exception):
    """What was kept of a layer is not what its digest says; it is gone now."""


def fetch_shared(
    store: Store, repository: str, digest: str, size: int, fetch: Fetch
) -> Iterator[bytes]:
    """Stream a layer; of all that want it at once one fetches it, and all read what it has kept.

    Of another repository nothing is read: who may read that is not known here. Raises SpoiledError
    at the end, and what `fetch` raises.
    """
    algorithm, _, number = digest.partition(":")
    check, done = hashlib.new(algorithm), 0
    layer = _Layer(store, _path(store, repository, digest), size, fetch)
    try:
        while done < size and (chunk := layer.read(done)):
            done += len(chunk)
            check.update(chunk)
            yield chunk
    finally:
        layer.close()
    for chunk in _after(fetch(), done) if done < size else ():
        check.update(chunk)
        yield chunk
    if check.hexdigest() != number:
        forget(store, repository, digest)
        raise SpoiledError(f'"{layer.path}" was not {digest}')


def forget(store: Store, repository: str, digest: str) -> None:
    """Keep this layer no longer."""
    with suppress(OSError):
        _path(store, repository, digest).unlink(missing_ok=True)


def _path(store: Store, repository: str, digest: str) -> Path:
    scope = hashlib.sha256(repository.encode()).hexdigest()[:16]
    return store.root / BLOBS / f"{scope}.{digest.partition(':')[2]}"


class _Layer:
    """One layer as one process reads it, while it or another one writes."""

    def __init__(self, store: Store, path: Path, size: int, fetch: Fetch) -> None:
        self.path = path
        self._store = store
        self._size = size
        self._fetch = fetch
        self._open = -1
        self._writer: _Writer | None = None

    def read(self, at: int) -> bytes:
        """Give the next bytes, once there are any; none where it has to be fetched without us."""
        try:
            return self._read(at) or self._wait(at)
        except (OSError, UntrustedError, StoreError) as error:
            log.info("fetching a shared layer for ourselves: %s", error)
            return b""

    def close(self) -> None:
        """Read no more; a layer that is being written goes on."""
        if self._open >= 0:
            os.close(self._open)
            self._open = -1

    def _wait(self, at: int) -> bytes:
        # By two digits: of the many layers of the years, few lock files remain.
        place = self._store.root / LOCKS / f"blob-{self.path.name[-2:]}"
        lock = entry_lock(self._store.lock, place, current_owner())
        patience = Patience(self._store.lock_timeout, self._store.stale, _POLL_SECONDS)
        while True:
            writer = self._writer
            has_ended = writer is not None and not writer.is_alive()
            if found := self._read(at):
                return found
            if writer is not None and writer.error is not None:
                raise writer.error
            if has_ended:
                self._writer = None  # and what it wrote is another's by now
            elif writer is not None:
                writer.wake.wait(patience.pause())
                writer.wake.clear()
            elif lock.try_acquire():
                self._write(lock)
            elif patience.is_over(lock.path):
                lock.pass_over(patience.seen)
            else:
                time.sleep(patience.pause())

    def _write(self, lock: EntryLock) -> None:
        """Have a thread write what is not there yet; it must not wait for who reads."""
        try:
            make_directory(self.path.parent, 0o700)
            if self._size_of(self.path) != self._size:
                self.path.unlink(missing_ok=True)
                _make_room(self._store, self._size)
                self._writer = _Writer(self.path, self._fetch, lock)
                self._writer.start()
        finally:
            if self._writer is None:
                lock.release()

    def _read(self, at: int) -> bytes:
        """Read from what is open; else from what there is by now."""
        most = min(_CHUNK, self._size - at)
        if self._open >= 0 and (found := os.pread(self._open, most, at)):
            return found
        self.close()
        names = [self.path.name] if self._size_of(self.path) == self._size else []
        for name in (*names, self.path.name + PART):
            with (
                suppress(FileNotFoundError),
                open_directory(self._store.root, (BLOBS,), self._store.owner) as folder,
                open_file(folder, name, self._store.owner) as file,
            ):
                self._open = os.dup(file)
                return os.pread(self._open, most, at)
        return b""

    @staticmethod
    def _size_of(path: Path) -> int:
        with suppress(FileNotFoundError):
            return path.lstat().st_size
        return -1


class _Writer(threading.Thread):
    """Writes a layer as fast as it comes; its lock is free when it is there, or will not be."""

    def __init__(self, path: Path, fetch: Fetch, lock: EntryLock) -> None:
        super().__init__(name="hpcimg-blob", daemon=True)
        self.error: Exception | None = None
        self.wake = threading.Event()
        self._path = path
        self._part = path.with_name(path.name + PART)
        self._fetch = fetch
        self._lock = lock

    def run(self) -> None:
        """Fetch it, and put it in its place; a reader is told what went wrong."""
        try:
            with self._lock.beating():
                self._part.unlink(missing_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                with open(os.open(self._part, flags, 0o600), "wb") as file:  # noqa: PTH123 - made here
                    for chunk in self._fetch():
                        file.write(chunk)
                        self.wake.set()
                    file.flush()
                    # Who takes us for dead has put another file there.
                    if os.path.samestat(os.fstat(file.fileno()), self._part.lstat()):
                        self._part.rename(self._path)
        except Exception as error:  # noqa: BLE001 - its reader raises it
            self.error = error
            with suppress(OSError):
                self._part.unlink(missing_ok=True)
        finally:
            self._lock.release()
            self.wake.set()


def is_of_use(store: Store, size: int) -> bool:
    """Tell whether a layer of so many bytes may be kept, and a lock can tell who fetches it."""
    if store.lock == "none" or size > store.blob_bytes:
        return False
    return free_bytes(store.root) > _ROOM * size


def _make_room(store: Store, size: int) -> None:
    """Remove the oldest layers until another one is within the limit."""
    found = []
    for path in (store.root / BLOBS).iterdir():
        with suppress(FileNotFoundError):
            status = path.lstat()
            found.append((status.st_mtime, status.st_size, path))
    total = sum(one[1] for one in found) + size
    for _, own, path in sorted(found):
        if total <= store.blob_bytes:
            return
        path.unlink(missing_ok=True)
        total -= own


def _after(chunks: Iterator[bytes], done: int) -> Iterator[bytes]:
    """Pass over what was read elsewhere."""
    for chunk in chunks:
        if len(chunk) > done:
            yield chunk[done:]
        done = max(done - len(chunk), 0)
