"""The one thing in a squashfs that mksquashfs 4.5 does not let us say: the root's time."""

from __future__ import annotations

import struct
from pathlib import Path

from hpcimg.errors import RuntimeFailure

# Magic and counters, then 64-bit numbers: the first is the root inode's place, the fifth the
# inode table's. A place is that of a metadata block in the table (48 bits) and of a byte in it.
_SUPERBLOCK = struct.Struct("<4s28x8Q")
_BLOCK = 8192
_PLAIN = 0x8000
_TIME_AT = 8  # after type, mode, and two ids of an inode


def set_root_time(path: Path, offset: int, time: int) -> None:
    """Write the root directory's time; the inode table must not be compressed (-noI)."""
    with path.open("r+b") as file:
        file.seek(offset)
        magic, root, *places = _SUPERBLOCK.unpack(file.read(_SUPERBLOCK.size))
        block, inside = offset + places[3] + (root >> 16), (root & 0xFFFF) + _TIME_AT
        file.seek(block)
        (size,) = struct.unpack("<H", file.read(2))
        if magic != b"hsqs" or not size & _PLAIN:
            raise RuntimeFailure(f'"{path}" is not the squashfs that was asked for')
        for at, byte in enumerate(struct.pack("<I", time), inside):
            # An inode may go on in the next block, which begins with its own size.
            file.seek(block + 2 + at + (2 if at >= _BLOCK else 0))
            file.write(bytes([byte]))
