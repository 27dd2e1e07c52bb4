"""Small shared libraries, built by hand: only the tables that a reader of names looks at."""

from __future__ import annotations

import struct
from collections.abc import Sequence

AMD64, ARM64, S390X = 62, 183, 22
_LOAD, _DYNAMIC = 1, 2


def library(
    soname: str = "",
    needed: Sequence[str] = (),
    needs: Sequence[str] = (),
    defines: Sequence[str] = (),
    *,
    machine: int = AMD64,
    wide: bool = True,
    order: str = "<",
) -> bytes:
    """Build one; `needs` and `defines` are versions as GLIBC_2.34."""
    header, segment, row = (64, 56, "qQ") if wide else (52, 32, "iI")
    strings = b"\0"
    places: dict[str, int] = {}
    for word in (soname, *needed, *needs, *defines, "libc.so.6"):
        places[word] = len(strings)
        strings += word.encode() + b"\0"
    tables_at = header + 2 * segment
    needs_at = tables_at + len(strings)
    needs_table = _needs([places[word] for word in needs], places["libc.so.6"], order)
    defines_at = needs_at + len(needs_table)
    defines_table = _defines([places[word] for word in defines], order)
    rows = [(1, places[name]) for name in needed]
    rows += [(14, places[soname])] if soname else []
    rows.append((5, tables_at))
    rows += [(0x6FFFFFFE, needs_at), (0x6FFFFFFF, 1)] if needs else []
    rows += [(0x6FFFFFFC, defines_at), (0x6FFFFFFD, len(defines))] if defines else []
    rows.append((0, 0))
    dynamic = b"".join(struct.pack(order + row, *one) for one in rows)
    dynamic_at = defines_at + len(defines_table)
    end = dynamic_at + len(dynamic)
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    words = "HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"
    head = struct.pack(order + words, 3, machine, 1, 0, header, 0, 0, header, segment, 2, 0, 0, 0)
    segments = b"".join(
        _segment(kind, at, length, wide=wide, order=order)
        for kind, at, length in ((_LOAD, 0, end), (_DYNAMIC, dynamic_at, len(dynamic)))
    )
    return ident + head + segments + strings + needs_table + defines_table + dynamic


def _segment(kind: int, at: int, length: int, *, wide: bool, order: str) -> bytes:
    if wide:
        return struct.pack(order + "IIQQQQQQ", kind, 4, at, at, at, length, length, 1)
    return struct.pack(order + "IIIIIIII", kind, at, at, at, length, length, 4, 1)


def _needs(places: Sequence[int], file: int, order: str) -> bytes:
    rows = b"".join(
        struct.pack(order + "IHHII", 0, 0, 0, place, 0 if place == places[-1] else 16)
        for place in places
    )
    return struct.pack(order + "HHIII", 1, len(places), file, 16, 0) + rows if places else b""


def _defines(places: Sequence[int], order: str) -> bytes:
    return b"".join(
        struct.pack(order + "HHHHIII", 1, 0, 0, 1, 0, 20, 0 if place == places[-1] else 28)
        + struct.pack(order + "II", place, 0)
        for place in places
    )
