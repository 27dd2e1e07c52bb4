"""The file in which ldconfig keeps where libraries are, parsed: no program needs to be run.

Knows the form that glibc has written since 2.1; the older one before it is skipped.
"""

from __future__ import annotations

import struct

_MAGIC = b"glibc-ld.so.cache1.1"
_HEADER = struct.Struct("=20sII20x")
_ENTRY = struct.Struct("=iIIIQ")
_LIMIT = 1 << 16


def parse_linker_cache(raw: bytes) -> tuple[str, ...]:
    """List the libraries' paths in the linker's order; nothing where it is no such file."""
    start = raw.find(_MAGIC)
    if start < 0 or len(raw) < start + _HEADER.size:
        return ()
    _, count, _ = _HEADER.unpack_from(raw, start)
    found: list[str] = []
    for at in range(min(count, _LIMIT)):
        place = start + _HEADER.size + at * _ENTRY.size
        if place + _ENTRY.size > len(raw):
            return ()
        _, _, value, _, _ = _ENTRY.unpack_from(raw, place)
        # Offsets count from the new form's start.
        begin = start + value
        end = raw.find(b"\0", begin)
        path = raw[begin:end].decode("utf-8", errors="replace")
        if path.startswith("/"):
            found.append(path)
    return tuple(dict.fromkeys(found))
