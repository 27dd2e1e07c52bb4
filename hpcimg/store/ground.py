"""What a store stands on: its file system, the way to it, who may write it. Reads, and no more.

The two that try something do so on a file that they are given.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")

_ENABLE_VERITY = 0x40806685
_VERITY = struct.Struct("@IIIIQIIQ88x")
_LACKS = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS, errno.EPERM})
_ESCAPES = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}


@dataclass(frozen=True)
class Mount:
    """A mounted file system: where, of which type, with which options of the mount and its own."""

    point: str
    kind: str
    options: frozenset[str]


def mount_of(path: Path, mounts: str) -> Mount | None:
    """Find what `path`, an absolute one without links, lies on, in the text of a mountinfo file."""
    found = None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, own = before.split(), after.split()
        if len(fields) < 6 or len(own) < 3:
            continue
        point = _unescaped(fields[4])
        # Of two on one point the later one is on top.
        if path.is_relative_to(point) and (found is None or len(point) >= len(found.point)):
            options = {*fields[5].split(","), *own[2].split(",")}
            found = Mount(point, own[0], frozenset(options))
    return found


def weak_places(root: Path, owner: int) -> Iterator[str]:
    """Say of each directory on the way to `root` whose owner or mode lets others swap the store."""
    real = root.resolve()
    for path in (*reversed(real.parents), real):
        found = path.stat()
        allowed = {0, owner}
        if found.st_uid not in allowed:
            yield f'"{path}" belongs to uid {found.st_uid}, who can put another store there'
        # Where the sticky bit is set, only owners move what lies there.
        if found.st_mode & 0o022 and (path == real or not found.st_mode & stat.S_ISVTX):
            yield f'"{path}" may be written by others (mode {stat.S_IMODE(found.st_mode):04o})'


def weak_folders(root: Path, owner: int, closed: frozenset[str]) -> Iterator[str]:
    """Say of each directory of a store whose owner or mode is wrong; `closed` are its own alone."""
    for path in sorted((*root.iterdir(), *root.glob("entries/*"))):
        found = path.lstat()
        mode = stat.S_IMODE(found.st_mode)
        if found.st_uid not in {0, owner}:
            yield f'"{path}" belongs to uid {found.st_uid}'
        elif mode & 0o022 and not stat.S_ISLNK(found.st_mode):
            yield f'"{path}" may be written by others (mode {mode:04o})'
        elif path.name in closed and mode & 0o077:
            yield f'"{path}" is open to others (mode {mode:04o})'


def has_attributes(path: Path) -> bool:
    """Try to give a file an attribute of its own."""
    try:
        os.setxattr(path, "user.hpcimg", b"x")
    except OSError as error:
        if error.errno in _LACKS:
            return False
        raise
    return True


def has_verity(path: Path) -> bool:
    """Try to have the kernel check a file with fs-verity; it cannot be written afterwards."""
    request = _VERITY.pack(1, 1, 4096, 0, 0, 0, 0, 0)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _ENABLE_VERITY, request)
    except OSError as error:
        if error.errno in _LACKS:
            return False
        raise
    finally:
        os.close(descriptor)
    return True


def _unescaped(text: str) -> str:
    for escape, character in _ESCAPES.items():
        text = text.replace(escape, character)
    return text
