"""What a converter made, looked at again by somebody who has not parsed the image.

The programs that made it read bytes that a user chose: what they left is believed no more.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from hpcimg.errors import RuntimeFailure
from hpcimg.runtime.sif import Partition, read_partition

# Magic, inodes, time, block size, fragments, compression, log of block size, flags, ids, version;
# then places within the file system: root, its size, and six tables of which some may be absent.
_SUPERBLOCK = struct.Struct("<4sIIIIHHHHHHQQqqqqqq")
_COMPRESSIONS = frozenset(range(1, 7))
ZSTD = 6
_ABSENT = -1
_KNOWN_FLAGS = 0x0FFF


@dataclass(frozen=True)
class Checked:
    """What is known now of an image's file system."""

    offset: int
    size: int
    inodes: int
    compression: int


def check_image(path: Path, compression: int | None = None) -> Checked:
    """Refuse a file that is no SIF with one whole squashfs in it; `compression`, where it is known.

    Raises RuntimeFailure that says what is wrong.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise _bad(path, "was not made") from error
    with open(descriptor, "rb") as file:  # noqa: PTH123 - opened above without following a link
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise _bad(path, "is no file")
        found = read_partition(file, about.st_size)
        if found is None:
            raise _bad(path, "has no file system, or one that goes beyond its end")
        file.seek(found.offset)
        raw = file.read(_SUPERBLOCK.size)
    if len(raw) < _SUPERBLOCK.size:
        raise _bad(path, "has a file system that is cut off")
    reason = _flaw(raw, found, compression)
    if reason:
        raise _bad(path, reason)
    values = _SUPERBLOCK.unpack(raw)
    return Checked(found.offset, found.size, values[1], values[5])


def _flaw(raw: bytes, found: Partition, compression: int | None) -> str:
    """Say what no mksquashfs writes, or an empty text."""
    magic, inodes, _, block, _, packed, log, flags, ids, major, minor, root, used, *tables = (
        _SUPERBLOCK.unpack(raw)
    )
    id_table, _, inode_table, directory_table, _, _ = tables
    if magic != b"hsqs" or (major, minor) != (4, 0):
        return "has no squashfs of version 4 in it"
    if packed not in _COMPRESSIONS or packed != (compression or packed):
        return f"has a squashfs of compression {packed}, which was not asked for"
    if not 12 <= log <= 20 or block != 1 << log or flags & ~_KNOWN_FLAGS or not inodes or not ids:
        return "has a squashfs with a bad superblock"
    if not _SUPERBLOCK.size <= used <= found.size:
        return "has a squashfs that goes beyond its end"
    if not all(place == _ABSENT or _SUPERBLOCK.size <= place < used for place in tables):
        return "has a squashfs with a table beyond its end"
    if not _SUPERBLOCK.size <= inode_table < directory_table < id_table:
        return "has a squashfs whose tables are not in order"
    if root >> 16 >= directory_table - inode_table:
        return "has a squashfs without a root directory"
    return ""


def _bad(path: Path, reason: str) -> RuntimeFailure:
    return RuntimeFailure(f'the converted image "{path}" {reason}', "try again, or report it")
