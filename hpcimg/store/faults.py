"""What goes wrong in a store's file system, said so that somebody can act on it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpcimg.errors import StoreError

_READ_ONLY = "read-only file system"
_STALE = "stale file handle"
_WORDS = {
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "disk quota exceeded",
    errno.EROFS: _READ_ONLY,
}
UNWRITABLE = tuple(_WORDS.values())
"""Why a file system takes nothing, as the C library says it too (in lower case)."""
UNWRITABLE_NUMBERS = frozenset(_WORDS)


@contextmanager
def store_faults(doing: str, path: Path, needed: int = 0) -> Iterator[None]:
    """Turn an OSError of the body into a StoreError that names `path`, its space and the need.

    `needed` is in bytes, 0 where unknown.
    """
    try:
        yield
    except OSError as error:
        raise fault(doing, path, error, needed) from error


def fault(doing: str, path: Path, why: OSError | str, needed: int = 0) -> StoreError:
    """Say that `doing` failed and why; for a full file system with its figures."""
    reason = why if isinstance(why, str) else _reason(why)
    message = f'could not {doing} in "{path}": {reason}'
    if reason == _READ_ONLY:
        return StoreError(
            message,
            "is the store's file system mounted on this node, and for writing? "
            "only what is not in the store yet needs that",
        )
    if reason == _STALE:
        return StoreError(message, "another node removed it meanwhile: try again")
    if reason not in UNWRITABLE:
        return StoreError(message, "is the store's file system up, and may this account write it?")
    need = f", about {size_text(needed)} needed" if needed else ""
    return StoreError(
        f"{message}; {size_text(free_bytes(path))} free{need}",
        "make room on that file system, or remove images from the store",
    )


def _reason(error: OSError) -> str:
    if error.errno == errno.ESTALE:
        return _STALE
    return _WORDS.get(error.errno or 0) or error.strerror or str(error)


def require_space(path: Path, needed: int) -> None:
    """Raise StoreError when `path` surely has no room for `needed` bytes."""
    with store_faults("look at the space", path):
        if free_bytes(path) < needed:
            raise fault("fetch an image", path, _WORDS[errno.ENOSPC], needed)


def free_bytes(path: Path) -> int:
    """Count the bytes that an ordinary account may still write at `path`; 0 if it cannot tell."""
    try:
        found = os.statvfs(path)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


def size_text(size: float) -> str:
    """Write a size for people, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
