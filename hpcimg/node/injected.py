"""Which C library the host's GPU libraries need, that engines bind into containers.

Reads the version needs of an ELF file, not its code: such a library has a hundred megabytes.
"""

from __future__ import annotations

import re
import struct
from typing import IO, TYPE_CHECKING

from hpcimg.node.host import highest
from hpcimg.node.probe import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_LIBRARIES = {
    "nvidia": ("libcuda.so.1", "libnvidia-ml.so.1", "libnvidia-ptxjitcompiler.so.1"),
    "amd": ("libamdhip64.so", "libhsa-runtime64.so.1"),
}
_PLACES = (
    "usr/lib64",
    "usr/lib/*-linux-gnu",
    "lib64",
    "usr/lib",
    "opt/rocm/lib",
    "usr/lib64/nvidia",
)
_GLIBC = re.compile(rb"\0GLIBC_([0-9]+\.[0-9]+)(?:\.[0-9]+)?(?=\0)")
# ELF64: the header's section table, a section header, the type that lists needed versions.
_HEADER, _SECTION, _VERNEED = (
    struct.Struct("<16s24xQ10xHH2x"),
    struct.Struct("<IIQQQQIIQQ"),
    0x6FFFFFFE,
)
_STRINGS_LIMIT = 16 * 1024 * 1024


def find_injected(root: Path, vendors: Iterable[str]) -> tuple[str, Finding]:
    """Tell the highest version that the libraries of these vendors' GPUs need."""
    needs: list[str] = []
    unknowns: list[str] = []
    sources: list[str] = []
    for vendor in sorted(vendors):
        paths = [path for name in _LIBRARIES.get(vendor, ()) for path in _find(root, name)]
        found = {path: need for path in paths if (need := needed_glibc(path))}
        needs += found.values()
        sources += [f"/{path.relative_to(root)}" for path in found]
        if vendor in _LIBRARIES and not found:
            unknowns.append(f"glibc: {_LIBRARIES[vendor][0]}, which containers get, is not found")
    return highest(needs), Finding(", ".join(sources[:1]), unknowns=tuple(unknowns))


def needed_glibc(path: Path) -> str:
    """Tell the highest GLIBC version that a library asks for; empty when it cannot be read."""
    try:
        with path.open("rb") as file:
            strings = _version_strings(file)
    except (OSError, struct.error, ValueError, OverflowError):
        return ""
    return highest(match.decode() for match in _GLIBC.findall(strings))


def _find(root: Path, name: str) -> list[Path]:
    """Find a library once; a distribution's link may lead out of a recorded tree."""
    return [path for place in _PLACES for path in root.glob(f"{place}/{name}") if path.is_file()][
        :1
    ]


def _version_strings(file: IO[bytes]) -> bytes:
    """Return the string table that the section of needed versions refers to."""
    magic, table, size, count = _HEADER.unpack(file.read(_HEADER.size))
    if magic[:6] != b"\x7fELF\x02\x01" or size != _SECTION.size:
        return b""
    sections = []
    for at in range(count):
        file.seek(table + at * size)
        sections.append(_SECTION.unpack(file.read(size)))
    for section in sections:
        if section[1] == _VERNEED and section[6] < count:
            _, _, _, _, offset, length, *_ = sections[section[6]]
            file.seek(offset)
            return file.read(min(length, _STRINGS_LIMIT))
    return b""
