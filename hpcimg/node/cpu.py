"""The probe for the CPU: /proc/cpuinfo or lscpu's text, live or recorded, parsed into facts.

Asks no library and no instruction: flags count as the kernel enabled them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hpcimg import targets
from hpcimg.errors import UsageError
from hpcimg.node.foreign import is_foreign, parse_foreign
from hpcimg.oci.model import normalise_platform
from hpcimg.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LIMIT = 64 * 1024 * 1024
_POWER = re.compile(r"POWER(\d{1,2})", re.IGNORECASE)
_ARM_32 = re.compile(r"armv([0-9])")
_X86_32 = re.compile("i[3-6]86")
_LSCPU_LINE = re.compile(r"^\s*Architecture:\s", re.MULTILINE)
_RISCV_NAMES = {
    "sifive,u74-mc": "u74mc",
    "spacemit,x60": "x60",
    "spacemit(r) x60": "x60",
}
# What of a core decides what it runs; the rest is its number, its clock, its place.
_OF_A_KIND = (
    *("vendor_id", "model name", "flags", "Features", "uarch", "isa", "cpu"),
    *("CPU implementer", "CPU architecture", "CPU part"),
)
_DIFFER = "its cores differ"

Fields = dict[str, str]


@dataclass(frozen=True)
class Cpu:
    """A CPU as its kernel describes it, with what is remarkable about it."""

    facts: targets.CpuFacts
    model: str
    notes: tuple[str, ...]
    threads: int = 0
    """Threads of a core, where the text tells."""


def read_cpu(path: Path, machine: str = "", hypervisor: str = "") -> Cpu:
    """Read a live or recorded description.

    `machine` is uname's word and `hypervisor` a name for it, used where the text is silent.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_LIMIT)
    except OSError as error:
        raise UsageError(
            f"CPU description {quoted(path)} cannot be read: {error.strerror}",
            "name a copy of /proc/cpuinfo or lscpu's output",
        ) from error
    text = raw.decode("utf-8", errors="replace")
    try:
        return parse_cpu(text, machine, hypervisor)
    except UsageError as error:
        raise UsageError(f"{quoted(path)}: {error.message}", error.hint) from error


def parse_cpu(text: str, machine: str = "", hypervisor: str = "") -> Cpu:
    """Parse any of the formats, told apart by the text."""
    if is_foreign(text):
        facts, model = parse_foreign(text)
        return Cpu(facts, model, ())
    if text.lstrip().startswith("{") or _LSCPU_LINE.search(text):
        return parse_lscpu(text)
    return parse_cpuinfo(text, machine, hypervisor)


def parse_cpuinfo(text: str, machine: str = "", hypervisor: str = "") -> Cpu:
    """Parse /proc/cpuinfo; only what all cores have counts."""
    blocks = [block for block in map(_fields, re.split(r"\n\s*\n", text)) if block]
    cores = [block for block in blocks if _flags_of(block)]
    cores = cores or [block for block in blocks if "processor" in block] or blocks[:1]
    if not cores:
        raise _unreadable()
    first = cores[0]
    kinds = {tuple(map(core.get, _OF_A_KIND)): core for core in cores}
    facts = _common([_facts(core, machine) for core in kinds.values()])
    if len({core.get("isa") for core in cores}) > 1:
        facts = replace(facts, name="")
    cpu = Cpu(facts, _model(first), (_DIFFER,) if len(kinds) > 1 else (), _threads(first))
    return _with_notes(cpu, hypervisor, is_virtual="hypervisor" in cpu.facts.flags)


def parse_lscpu(text: str) -> Cpu:
    """Parse what lscpu prints, as text in the C locale or as JSON."""
    found = _lscpu_fields(text)
    if "Architecture" not in found:
        raise _unreadable()
    architecture = normalise_platform("linux", found["Architecture"][0])[1]
    # It describes each kind of core anew.
    models = tuple(dict.fromkeys(one.removeprefix("-") for one in found.get("Model name", [""])))
    vendors = dict.fromkeys(found.get("Vendor ID", ["generic"]))
    every = [set(flags.split()) for flags in found.get("Flags", [""])]
    flags = tuple(sorted(set.intersection(*every)))
    facts = _common([_of_lscpu(architecture, v, flags, m) for v in vendors for m in models])
    differ = len(models) > 1 or len(vendors) > 1 or set.union(*every) > set(flags)
    hypervisor = found.get("Hypervisor vendor", [""])[0]
    threads = found.get("Thread(s) per core", [""])[0]
    cpu = Cpu(
        facts,
        ", ".join(models),
        (_DIFFER,) if differ else (),
        int(threads) if threads.isdecimal() else 0,
    )
    return _with_notes(cpu, hypervisor, is_virtual=bool(hypervisor))


def _of_lscpu(
    architecture: str, vendor: str, flags: tuple[str, ...], model: str
) -> targets.CpuFacts:
    generation = _POWER.search(model) if architecture.startswith("ppc64") else None
    if arm := _ARM_32.match(architecture):
        architecture, generation = "arm", arm
    core = model.lower().replace("-", "_")
    # lscpu has put the part number into words already.
    is_core = architecture == "arm64" and targets.is_known(core)
    return targets.CpuFacts(
        architecture,
        vendor,
        flags,
        part=targets.facts_of(core, architecture).part if is_core else "",
        generation=int(generation[1]) if generation else 0,
        name=_RISCV_NAMES.get(model.lower(), "") if architecture == "riscv64" else "",
    )


def _unreadable() -> UsageError:
    return UsageError(
        "neither a /proc/cpuinfo nor an lscpu text", "copy the file /proc/cpuinfo of the machine"
    )


def _fields(text: str) -> Fields:
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, mark, value in pairs if mark}


def _lscpu_fields(text: str) -> dict[str, list[str]]:
    """Collect the values of each field, which may stand there more than once."""
    found: dict[str, list[str]] = {}
    if not text.lstrip().startswith("{"):
        for line in text.splitlines():
            key, mark, value = line.partition(":")
            if mark:
                found.setdefault(key.strip(), []).append(value.strip())
        return found

    def collect(entries: Sequence[Any]) -> None:
        for entry in entries:
            key = str(entry["field"]).rstrip(":")
            found.setdefault(key, []).append(str(entry.get("data") or ""))
            collect(entry.get("children", ()))

    try:
        collect(json.loads(text)["lscpu"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unreadable() from error
    return found


def _flags_of(core: Fields) -> set[str]:
    return set((core.get("flags") or core.get("Features") or "").split())


def _model(core: Fields) -> str:
    return core.get("model name") or core.get("cpu") or core.get("uarch") or ""


def _facts(core: Fields, machine: str) -> targets.CpuFacts:
    """Tell the architecture by the fields themselves: a recorded file has no uname."""
    flags = tuple(sorted(_flags_of(core)))
    power = _POWER.search(core.get("cpu", ""))
    if "flags" in core:
        # A 32-bit kernel shows lm all the same, and runs no 64-bit code.
        architecture = "386" if _X86_32.fullmatch(machine) else "amd64"
        return targets.CpuFacts(architecture, core.get("vendor_id", "generic"), flags)
    if "CPU implementer" in core or "Features" in core:
        return _arm(core, flags, machine)
    if power:
        generation = int(power[1])
        # Little-endian Linux needs a POWER8.
        likely = "ppc64le" if generation >= 8 else "ppc64"
        architecture = machine if machine in {"ppc64", "ppc64le"} else likely
        return targets.CpuFacts(architecture, generation=generation)
    if "isa" in core:
        name = core.get("uarch") or core.get("model name", "")
        return targets.CpuFacts("riscv64", name=_RISCV_NAMES.get(name.lower(), name))
    if not machine:
        raise _unreadable()
    return targets.CpuFacts(normalise_platform("linux", machine)[1])


def _arm(core: Fields, flags: tuple[str, ...], machine: str) -> targets.CpuFacts:
    vendor, part = targets.arm_vendor(core.get("CPU implementer", "")), core.get("CPU part", "")
    told = re.match("[0-9]+", core.get("CPU architecture", "").replace("AArch64", "8"))
    version = int(told[0]) if told else 8
    if version >= 8 and not _ARM_32.match(machine):
        return targets.CpuFacts("arm64", vendor, flags, part)
    # The kernel says 7 of the ARM1176, which has no more than the sixth version's instructions.
    version = 6 if _model(core).startswith("ARMv6-compatible") else version
    return targets.CpuFacts("arm", vendor, flags, part, version)


def _common(kinds: Sequence[targets.CpuFacts]) -> targets.CpuFacts:
    """Keep what every kind of core has: a thread may be moved to any of them."""
    first = kinds[0]
    return replace(
        first,
        vendor=first.vendor if len({one.vendor for one in kinds}) == 1 else "generic",
        flags=tuple(sorted(set.intersection(*(set(one.flags) for one in kinds)))),
        part=first.part if len({one.part for one in kinds}) == 1 else "",
        generation=min(one.generation for one in kinds),
        name=first.name if len({one.name for one in kinds}) == 1 else "",
    )


def _threads(core: Fields) -> int:
    """Count the threads of a core; only x86's text tells, and offline siblings do not count."""
    threads, cores = core.get("siblings", ""), core.get("cpu cores", "")
    if threads.isdecimal() and cores.isdecimal() and int(cores):
        return int(threads) // int(cores)
    return 0


def _with_notes(cpu: Cpu, hypervisor: str, *, is_virtual: bool) -> Cpu:
    if "TCG" in f"{cpu.model} {hypervisor}":
        # Every flag is true, and slow: software plays the processor.
        return replace(cpu, notes=(*cpu.notes, "it is emulated: QEMU TCG"))
    if not is_virtual:
        return cpu
    name = f": {hypervisor}" if hypervisor else ""
    return replace(cpu, notes=(*cpu.notes, f"it runs under a hypervisor{name}"))
