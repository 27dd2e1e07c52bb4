"""The files of the blob cache: their names, their locks, when each was used, and their faults.

It must not know registries. A file under its digest's name is whole and verified; one that ends in
`.part` is on its way. Whoever reads or writes one holds a lock on it, and only what nobody holds
is removed, by whichever copy of the hub uses the folder.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hpcimg.errors import StoreError, UsageError
from hpcimg.oci.digest import is_digest
from hpcimg.quoting import quoted

PART = ".part"
OWNERS = ".of"
_PIECE = 1 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FULL_HINT = 'make room on its disk, or set fewer "bytes" under "cache:" in the hub\'s settings'
_HINT = 'may the hub write to the folder that "path" under "cache:" names?'
_MODE = 0o600


@dataclass(frozen=True)
class CachedFile:
    """A file of the cache, and when it was used last, in seconds of the epoch."""

    path: Path
    size: int
    used: float


def blob_path(folder: Path, digest: str) -> Path:
    """Name the file of a digest; nothing but a digest becomes a path."""
    if not is_digest(digest):
        raise UsageError(f"{quoted(digest)} is not a sha256 or sha512 digest")
    algorithm, _, hexadecimal = digest.partition(":")
    return folder / algorithm / hexadecimal[:2] / hexadecimal


def part_path(path: Path) -> Path:
    """Name the file in which a blob arrives."""
    return path.with_name(path.name + PART)


@contextmanager
def cache_faults(path: Path) -> Iterator[None]:
    """Say of a system's error that it is about the cache, and what to do."""
    try:
        yield
    except OSError as error:
        hint = _FULL_HINT if error.errno in _FULL else _HINT
        message = f'the blob cache failed at "{path}": {error.strerror or error}'
        raise StoreError(message, hint) from error


def open_whole(path: Path, used: float) -> int | None:
    """Open a verified blob for a reader, and hold it there; None where there is none."""
    while True:
        try:
            descriptor = _open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if is_at(descriptor, path):
                touch(descriptor, used)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def open_part(path: Path) -> int:
    """Open the file in which a blob arrives, new or as somebody left it, without a lock."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return _open(path, os.O_RDWR | os.O_CREAT)


def open_nameless(folder: Path) -> int:
    """Open a file that is gone when the last one who has it open is."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        return os.dup(file.fileno())


def try_lock(descriptor: int, kind: int) -> bool:
    """Lock an open file unless others have it: LOCK_EX to write or remove it, LOCK_SH to read."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_at(descriptor: int, path: Path) -> bool:
    """Tell whether an open file still has this name: it may have been removed before the lock."""
    try:
        there = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def touch(descriptor: int, used: float) -> None:
    """Note when a blob was used; the time of its last change stays, as clients may be told it."""
    changed = os.fstat(descriptor).st_mtime_ns
    with suppress(PermissionError):  # another copy's file: its owner notes its own uses
        os.utime(descriptor, ns=(int(used * 1e9), changed))


def read_from(descriptor: int, offset: int, length: int) -> bytes:
    """Read all of these bytes; a file that is too short is an error."""
    pieces = []
    while length > 0:
        piece = os.pread(descriptor, length, offset)
        if not piece:
            raise OSError(errno.EIO, "the file is shorter than it was")
        pieces.append(piece)
        offset += len(piece)
        length -= len(piece)
    return b"".join(pieces)


def write_at(descriptor: int, raw: bytes, offset: int) -> None:
    """Write all of these bytes."""
    left = memoryview(raw)
    while left:
        count = os.pwrite(descriptor, left, offset)
        left = left[count:]
        offset += count


def pieces_of(descriptor: int, length: int) -> Iterator[bytes]:
    """Read the start of a file in pieces."""
    for offset in range(0, length, _PIECE):
        yield read_from(descriptor, offset, min(_PIECE, length - offset))


def remove_unused(path: Path) -> int:
    """Remove a file unless it is read or written anywhere; give the bytes that are free now."""
    try:
        descriptor = _open(path, os.O_RDWR)
    except FileNotFoundError:
        return 0
    try:
        if not (try_lock(descriptor, fcntl.LOCK_EX) and is_at(descriptor, path)):
            return 0
        path.unlink()
        path.with_name(path.name + OWNERS).unlink(missing_ok=True)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def cached_files(folder: Path) -> Iterator[CachedFile]:
    """List what is in the cache; what others remove meanwhile is left out."""
    for path in folder.glob("sha*/[0-9a-f][0-9a-f]/*"):
        is_part = path.name.endswith(PART)
        digest = f"{path.parent.parent.name}:{path.name.removesuffix(PART)}"
        if not is_digest(digest):
            continue
        with suppress(FileNotFoundError):
            status = path.stat(follow_symlinks=False)
            used = status.st_mtime if is_part else status.st_atime
            yield CachedFile(path, status.st_size, used)


def _open(path: Path, flags: int) -> int:
    flags |= os.O_NOFOLLOW
    try:
        # The time of use is ours to note; a look for room must not count as one.
        return os.open(path, flags | os.O_NOATIME, _MODE)
    except PermissionError:
        return os.open(path, flags, _MODE)
