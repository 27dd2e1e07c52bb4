"""Reads a number that a shared object exports, without loading it: the place where Slurm looks.

It must not know what the number means.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_DYNAMIC_SYMBOLS = 11
_LOADED = 1
_SYMBOL = 24
_SECTION = 64
_SEGMENT = 56


def exported_number(data: bytes, name: str) -> int | None:
    """Give the 32-bit number behind an exported name; None where the file is no such object."""
    if data[:5] != b"\x7fELF\x02" or data[5:6] not in {b"\x01", b"\x02"}:
        return None
    elf = _Elf(data, "little" if data[5] == 1 else "big")
    for section in elf.sections():
        if elf.number(section + 4, 4) != _DYNAMIC_SYMBOLS:
            continue
        address = elf.address_of(name.encode(), section)
        place = None if address is None else elf.place_of(address)
        return None if place is None else elf.number(place, 4)
    return None


@dataclass(frozen=True)
class _Elf:
    data: bytes
    order: str

    def number(self, at: int, size: int) -> int:
        raw = self.data[at : at + size]
        return int.from_bytes(raw, "little" if self.order == "little" else "big")

    def sections(self) -> Iterator[int]:
        start, size, count = self.number(40, 8), self.number(58, 2), self.number(60, 2)
        if size == _SECTION:
            yield from range(start, start + size * count, size)

    def address_of(self, name: bytes, section: int) -> int | None:
        """Find a symbol in a table of symbols; the names are in the section that it links to."""
        start, size = self.number(section + 24, 8), self.number(section + 32, 8)
        linked = self.number(40, 8) + self.number(section + 40, 4) * _SECTION
        names, length = self.number(linked + 24, 8), self.number(linked + 32, 8)
        table = self.data[names : names + length]
        for at in range(start, min(start + size, len(self.data)), _SYMBOL):
            offset = self.number(at, 4)
            if table[offset : offset + len(name) + 1] == name + b"\0":
                return self.number(at + 8, 8)
        return None

    def place_of(self, address: int) -> int | None:
        """Say where in the file a segment's address is."""
        start, size, count = self.number(32, 8), self.number(54, 2), self.number(56, 2)
        if size != _SEGMENT:
            return None
        for at in range(start, start + size * count, size):
            offset, first = self.number(at + 8, 8), self.number(at + 16, 8)
            if self.number(at, 4) == _LOADED and 0 <= address - first < self.number(at + 32, 8):
                return offset + address - first
        return None
