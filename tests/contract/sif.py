"""A file that is a SIF with a squashfs by its heads, for tests that store images and run none."""

from __future__ import annotations

import struct

_TABLE, _ROWS, _ROW, _FILE_SYSTEM = 4096, 48, 585, 32768


def sif_bytes(payload: bytes = b"squashfs") -> bytes:
    """Make a SIF with one file system, at the offset that real ones have."""
    inner = _superblock(len(payload)) + payload
    header = struct.pack(
        "<32s10s3s3s16s8q",
        b"#!/usr/bin/env run-singularity\n\0",
        b"SIF_MAGIC\0",
        b"01\0",
        b"02\0",
        b"i" * 16,
        1,
        1,
        _ROWS - 1,
        _ROWS,
        _TABLE,
        _ROWS * _ROW,
        _FILE_SYSTEM,
        len(inner),
    )
    # A partition: its place and size, then a squashfs, the primary system, for amd64.
    row = struct.pack(
        "<i?III7q128s", 0x4004, True, 1, 1, 0, _FILE_SYSTEM, len(inner), *[0] * 5, b""
    )
    row += struct.pack("<ii3s", 1, 2, b"02\0")
    return (header.ljust(_TABLE, b"\0") + row).ljust(_FILE_SYSTEM, b"\0") + inner


def _superblock(size: int) -> bytes:
    """Write the head of a squashfs of zstd with one inode, whose tables lie in `size` bytes."""
    inodes, directories, ids = 96, 97, 98
    return struct.pack(
        "<4sIIIIHHHHHHQQqqqqqq", b"hsqs", 1, 1, 1 << 17, 0, 6, 17, 0, 1, 4, 0, 0, 96 + size,
        ids, -1, inodes, directories, -1, -1,
    )  # fmt: skip
