"""What a shared library says of itself: name, needs, machine, C library, a number that it exports.

Pure: reads the bytes of an ELF file, of either width and byte order, and believes none of them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap

Content = bytes | mmap

_MAGIC = b"\x7fELF"
_DYNAMIC, _LOAD = 2, 1
_DYNAMIC_SYMBOLS = 11
_NEEDED, _STRINGS, _SONAME = 1, 5, 14
_VERNEED, _VERNEED_COUNT = 0x6FFFFFFE, 0x6FFFFFFF
_VERDEF, _VERDEF_COUNT = 0x6FFFFFFC, 0x6FFFFFFD
_MOST = 4096
"""Entries of one table that are looked at; no library has nearly as many."""
_NAME_LIMIT = 256
_GLIBC = re.compile(r"GLIBC_(\d{1,4}(?:\.\d{1,4}){1,2})")
_MACHINES = {3: "386", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 62: "amd64", 183: "arm64"}
HEADER_BYTES = 20
"""So many of a file tell what it is for."""


class NotElfError(ValueError):
    """The bytes are no shared library, or one that is cut off."""


@dataclass(frozen=True)
class Elf:
    """A library's own words; `glibc` is the newest C library that it needs, `defines` that it is.

    Both are as `2.34`, and empty where there is none.
    """

    machine: str
    soname: str
    needed: tuple[str, ...]
    glibc: str
    defines: str


@dataclass(frozen=True)
class _Form:
    """How the file's numbers are packed: headers and rows of a class and a byte order."""

    header: struct.Struct
    segment: struct.Struct
    row: struct.Struct
    is_wide: bool
    order: str


def parse_elf(content: Content) -> Elf:
    """Read the dynamic section and what it points to; raises NotElfError."""
    try:
        return _parse(content)
    except (struct.error, IndexError, OverflowError) as error:
        raise NotElfError("it is cut off") from error


def is_built_for(header: bytes, architecture: str) -> bool:
    """Tell whether a file is a library of 64 bits for an architecture, where that is known here."""
    try:
        form = _form(header)
        found = _machine(form, header)
    except (NotElfError, struct.error, IndexError):
        return False
    is_known = architecture.removesuffix("le") in _MACHINES.values()
    return form.is_wide and (found == architecture or not is_known)


def exported_number(content: Content, name: str) -> int | None:
    """Give the 32-bit number behind an exported name; None where a 64-bit library has none."""
    try:
        form = _form(content)
        return _exported(form, content, name.encode() + b"\0") if form.is_wide else None
    except (NotElfError, struct.error, IndexError, OverflowError):
        return None


def _exported(form: _Form, content: Content, name: bytes) -> int | None:
    fields = form.header.unpack_from(content, 16)
    at, size, count = fields[5], fields[10], fields[11]
    row, symbol = struct.Struct(form.order + "IIQQQQIIQQ"), struct.Struct(form.order + "IBBHQQ")
    sections = [row.unpack_from(content, at + number * size) for number in range(count)]
    table = next((one for one in sections if one[1] == _DYNAMIC_SYMBOLS), None)
    if table is None:
        return None
    start, length, names = table[4], table[5], sections[table[6]][4]
    for place in range(start, start + length, symbol.size):
        offset, _, _, _, address, _ = symbol.unpack_from(content, place)
        if content[names + offset : names + offset + len(name)] == name:
            loads = _loads(_segments(form, content))
            number: int
            (number,) = struct.unpack_from(form.order + "I", content, _place(loads, address))
            return number
    return None


def _parse(content: Content) -> Elf:
    form = _form(content)
    segments = _segments(form, content)
    loads = _loads(segments)
    # A loader takes one such segment, and hostile bytes may name thousands.
    places = [(offset, length) for kind, offset, _, length in segments if kind == _DYNAMIC]
    rows = list(_rows(form, content, *places[0])) if places else []
    if not rows:
        raise NotElfError("it has no dynamic section")
    table = dict(rows)
    strings = _place(loads, table.get(_STRINGS, -1))

    def text(at: int) -> str:
        begin = strings + at
        end = content.find(b"\0", begin, begin + _NAME_LIMIT)
        if begin < 0 or end < 0:
            raise NotElfError("it is cut off")
        return content[begin:end].decode("ascii", "replace")

    needs = _versions(form, content, loads, table, _VERNEED, _VERNEED_COUNT)
    defined = _versions(form, content, loads, table, _VERDEF, _VERDEF_COUNT)
    return Elf(
        _machine(form, content),
        text(table[_SONAME]) if _SONAME in table else "",
        tuple(text(value) for tag, value in rows if tag == _NEEDED),
        _newest(map(text, needs)),
        _newest(map(text, defined)),
    )


def _form(content: Content) -> _Form:
    if content[:4] != _MAGIC:
        raise NotElfError("it is no ELF file")
    width, order = content[4], {1: "<", 2: ">"}.get(content[5])
    if width not in {1, 2} or order is None:
        raise NotElfError("it is no ELF file")
    if width == 2:
        words = ("HHIQQQIHHHHHH", "IIQQQQQQ", "qQ")
    else:
        words = ("HHIIIIIHHHHHH", "IIIIIIII", "iI")
    header, segment, row = (struct.Struct(order + word) for word in words)
    return _Form(header, segment, row, width == 2, order)


def _machine(form: _Form, content: Content) -> str:
    (number,) = struct.unpack_from(form.order + "H", content, 18)
    name = _MACHINES.get(number, str(number))
    return "ppc64le" if (name, form.order) == ("ppc64", "<") else name


def _segments(form: _Form, content: Content) -> list[tuple[int, int, int, int]]:
    fields = form.header.unpack_from(content, 16)
    at, size, count = fields[4], fields[8], fields[9]
    return [_segment(form, content, at + number * size) for number in range(min(count, _MOST))]


def _loads(segments: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int]]:
    """Give what is loaded: address, place in the file, and length there."""
    return [
        (address, offset, length) for kind, offset, address, length in segments if kind == _LOAD
    ]


def _segment(form: _Form, content: Content, at: int) -> tuple[int, int, int, int]:
    """Give kind, place in the file, address, and length in the file."""
    fields = form.segment.unpack_from(content, at)
    if form.is_wide:
        return fields[0], fields[2], fields[3], fields[5]
    return fields[0], fields[1], fields[2], fields[4]


def _rows(form: _Form, content: Content, offset: int, length: int) -> Iterator[tuple[int, int]]:
    for number in range(min(length // form.row.size, _MOST)):
        tag, value = form.row.unpack_from(content, offset + number * form.row.size)
        if tag == 0:
            return
        yield tag, value


def _place(loads: list[tuple[int, int, int]], address: int) -> int:
    for begin, offset, length in loads:
        if begin <= address < begin + length:
            return offset + address - begin
    raise NotElfError("a table of it lies nowhere")


def _versions(
    form: _Form, content: Content, loads: list[tuple[int, int, int]], table: dict[int, int],
    tag: int, count: int,
) -> Iterator[int]:  # fmt: skip
    """Give the places of the names of versions that a library needs, or those it defines."""
    if tag not in table:
        return
    at, left = _place(loads, table[tag]), _MOST
    is_need = tag == _VERNEED
    outer = struct.Struct(form.order + ("HHIII" if is_need else "HHHHIII"))
    inner = struct.Struct(form.order + ("IHHII" if is_need else "II"))
    for _ in range(min(table.get(count, 0), _MOST)):
        fields = outer.unpack_from(content, at)
        inside = at + fields[-2]
        for _ in range(fields[1] if is_need else fields[3]):
            left -= 1
            if left < 0:
                raise NotElfError("it has too many versions")
            found = inner.unpack_from(content, inside)
            yield found[3] if is_need else found[0]
            inside += found[-1]
        at += fields[-1]


def _newest(names: Iterator[str]) -> str:
    versions = [match[1] for name in names if (match := _GLIBC.fullmatch(name))]
    return max(versions, key=lambda one: tuple(map(int, one.split("."))), default="")
