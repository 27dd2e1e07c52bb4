"""CPU texts of other systems, for recorded machines: macOS's sysctl, and a table of CPUID answers.

A container on such a machine runs under Linux, on the same processor.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hpcimg import targets

if TYPE_CHECKING:
    from collections.abc import Iterable

_SYSCTL = re.compile(r"^(?:machdep\.cpu|hw)\.[\w.]+: ", re.MULTILINE)
# leaf, subleaf, eax, ebx, ecx, edx
_CPUID = re.compile(r"^\d+(?:, \d+){5}$", re.MULTILINE)
_FEATURES = ("machdep.cpu.features", "machdep.cpu.leaf7_features", "machdep.cpu.extfeatures")
_APPLE = re.compile(r"apple (m\d+)\b")
# The first of them said no more of itself.
_FIRST_APPLE = {"apple processor": "m1"}
_REGISTERS = ("eax", "ebx", "ecx", "edx")
_BRAND = (0x80000002, 0x80000003, 0x80000004)


def is_foreign(text: str) -> bool:
    """Tell whether it is one of these texts."""
    start = text[:4096]
    return bool(_SYSCTL.search(start) or _CPUID.search(start))


def parse_foreign(text: str) -> tuple[targets.CpuFacts, str]:
    """Parse such a text into facts and the model's name."""
    return _parse_sysctl(text) if _SYSCTL.search(text) else _parse_cpuid(text)


def _parse_sysctl(text: str) -> tuple[targets.CpuFacts, str]:
    pairs = (line.partition(": ") for line in text.splitlines())
    found = {key.strip(): value.strip() for key, _, value in pairs}
    model = found.get("machdep.cpu.brand_string", "")
    if model.lower().startswith("apple"):
        match = _APPLE.match(model.lower())
        name = match[1] if match else _FIRST_APPLE.get(model.lower(), "")
        if targets.is_known(name):
            return targets.facts_of(name, "arm64"), model
        return targets.CpuFacts("arm64", "Apple"), model
    words = {word for key in _FEATURES for word in found.get(key, "").lower().split()}
    flags = tuple(sorted(targets.linux_flags(words)))
    return targets.CpuFacts("amd64", found.get("machdep.cpu.vendor", ""), flags), model


def _parse_cpuid(text: str) -> tuple[targets.CpuFacts, str]:
    rows = [tuple(map(int, row.split(","))) for row in _CPUID.findall(text)]
    answers = {row[:2]: dict(zip(_REGISTERS, row[2:], strict=True)) for row in rows}
    first = answers.get((0, 0), {})
    vendor = _letters(first.get(name, 0) for name in ("ebx", "edx", "ecx"))
    flags = {
        name
        for leaf, subleaf, register, bit, name in targets.cpuid_flags()
        if answers.get((leaf, subleaf), {}).get(register, 0) >> bit & 1
    }
    brand = _letters(
        answers.get((leaf, 0), {}).get(name, 0) for leaf in _BRAND for name in _REGISTERS
    )
    return targets.CpuFacts("amd64", vendor, tuple(sorted(flags))), brand


def _letters(registers: Iterable[int]) -> str:
    """Read the text that registers hold, four letters each."""
    raw = b"".join((number & 0xFFFFFFFF).to_bytes(4, "little") for number in registers)
    return raw.decode("ascii", errors="replace").strip("\0 ")
