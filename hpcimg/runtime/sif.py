"""The SIF format, version 1: a header, a table of descriptors, and what they describe.

Knows nothing of images; the file system itself is written behind all this by somebody else.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO

LAUNCH = b"#!/usr/bin/env run-singularity\n\0"
_HEADER = struct.Struct("<32s10s3s3s16s8q")
# Type, used, id, group, link, then offset, size, size with padding, two times, uid, gid.
_DESCRIPTOR = struct.Struct("<i?III7q128s384s")
_TABLE_AT, _TABLE_ROWS = 4096, 48
_DATA_AT = _TABLE_AT + _TABLE_ROWS * _DESCRIPTOR.size
_GROUP = 0xF0000001
_SQUASHFS, _PRIMARY_SYSTEM = 1, 2
_BLOCK = 4096
_MOST_ROWS = 1024
_ARCHITECTURES = {
    "386": b"01", "amd64": b"02", "arm": b"03", "arm64": b"04", "ppc64": b"05", "ppc64le": b"06",
    "mips": b"07", "mipsle": b"08", "mips64": b"09", "mips64le": b"10", "s390x": b"11",
    "riscv64": b"12",
}  # fmt: skip


class Kind(IntEnum):
    """What a data object is."""

    DEFINITION = 0x4001
    PARTITION = 0x4004
    JSON = 0x4006


@dataclass(frozen=True)
class Part:
    """One data object that stands before the file system."""

    kind: Kind
    content: bytes
    name: str = ""


@dataclass(frozen=True)
class Partition:
    """Where the file system stands that is mounted as an image's root."""

    offset: int
    size: int


def read_partition(file: BinaryIO, size: int) -> Partition | None:
    """Find the primary system partition of a file of `size` bytes; None without a sound one."""
    file.seek(0)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or header[32:42] != b"SIF_MAGIC\0":
        return None
    _, _, _, _, _, _, _, free, rows, at, *_ = _HEADER.unpack(header)
    if not 0 <= free <= rows <= _MOST_ROWS or not _HEADER.size <= at < size:
        return None
    file.seek(at)
    table = file.read(rows * _DESCRIPTOR.size)
    for row in range(len(table) // _DESCRIPTOR.size):
        kind, is_used, _, _, _, begin, length, _, _, _, _, _, _, extra = _DESCRIPTOR.unpack_from(
            table, row * _DESCRIPTOR.size
        )
        file_system, part = struct.unpack_from("<ii", extra)
        if is_used and (kind, file_system, part) == (Kind.PARTITION, _SQUASHFS, _PRIMARY_SYSTEM):
            fits = at < begin and 0 < length <= size - begin
            return Partition(begin, length) if fits else None
    return None


@dataclass(frozen=True)
class Sif:
    """All of a SIF file but its file system; `identity` has 16 bytes, `time` is since the epoch."""

    identity: bytes
    time: int
    architecture: str
    parts: Sequence[Part]

    @property
    def offset(self) -> int:
        """Where the file system begins, known before it is made."""
        end = _DATA_AT + sum(len(part.content) for part in self.parts)
        return (end + _BLOCK - 1) // _BLOCK * _BLOCK

    def finish(self, path: Path) -> None:
        """Write everything before the file system, which stands in the file at `offset` by now."""
        end = path.stat().st_size
        with path.open("r+b") as file:
            file.write(self._header(end))
            file.seek(_TABLE_AT)
            file.write(self._table(end))
            file.seek(_DATA_AT)
            for part in self.parts:
                file.write(part.content)

    def _header(self, end: int) -> bytes:
        rows = len(self.parts) + 1
        return _HEADER.pack(
            LAUNCH,
            b"SIF_MAGIC\0",
            b"01\0",
            self._code + b"\0",
            self.identity,
            self.time,
            self.time,
            _TABLE_ROWS - rows,
            _TABLE_ROWS,
            _TABLE_AT,
            _TABLE_ROWS * _DESCRIPTOR.size,
            _DATA_AT,
            end - _DATA_AT,
        )

    def _table(self, end: int) -> bytes:
        at, rows = _DATA_AT, []
        for number, part in enumerate(self.parts, 1):
            size = len(part.content)
            rows.append(self._row(part.kind, number, at, size, size, part.name.encode()))
            at += size
        size = end - self.offset
        extra = struct.pack("<ii3s", _SQUASHFS, _PRIMARY_SYSTEM, self._code + b"\0")
        number = len(self.parts) + 1
        rows.append(self._row(Kind.PARTITION, number, self.offset, size, end - at, b"", extra))
        return b"".join(rows)

    def _row(
        self, kind: Kind, number: int, at: int, size: int, padded: int, name: bytes,
        extra: bytes = b"",
    ) -> bytes:  # fmt: skip
        times = (self.time, self.time)
        return _DESCRIPTOR.pack(
            kind, True, number, _GROUP, 0, at, size, padded, *times, 0, 0, name, extra
        )

    @property
    def _code(self) -> bytes:
        return _ARCHITECTURES.get(self.architecture, b"00")
