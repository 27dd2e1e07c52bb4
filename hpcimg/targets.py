"""CPU targets and what runs where, as archspec knows them; the only importer of archspec.

Must not look at the machine it runs on: every fact is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from hpcimg.vocabulary import facts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BY_GENERATION = frozenset({"arm", "ppc64", "ppc64le"})
_FAMILIES = {
    "386": "x86",
    "amd64": "x86_64",
    "arm": "arm",
    "arm64": "aarch64",
    "ppc64le": "ppc64le",
    "ppc64": "ppc64",
    "riscv64": "riscv64",
}


@dataclass(frozen=True)
class CpuFacts:
    """What the kernel says of a CPU; `architecture` in the specification's words.

    `part` is Arm's part number, `generation` POWER's or the version of 32-bit Arm, `name`
    RISC-V's own name.
    """

    architecture: str
    vendor: str = ""
    flags: tuple[str, ...] = ()
    part: str = ""
    generation: int = 0
    name: str = ""


@dataclass(frozen=True)
class CpuTarget:
    """The target of a CPU, and every target whose code it runs, best first."""

    name: str | None
    compatible: tuple[str, ...]


def match(cpu: CpuFacts) -> CpuTarget:
    """Find the target of a CPU and the hard list of what it runs.

    The list is archspec's compatible targets, not the ancestors of the one that it names the
    host: a flag hidden by firmware changes that name, but not what the CPU can run.
    """
    family = _FAMILIES.get(cpu.architecture)
    if family is None:
        return CpuTarget(None, ())
    is_arm = cpu.architecture == "arm64"
    fitting = _fitting(cpu, family) or [_targets()[family]]
    named = _named(cpu, fitting)
    if is_arm:
        levels = _arm_levels(cpu)
        if cpu.part and named.cpu_part == cpu.part:
            levels += named.ancestors
        fitting = list({t.name: t for t in [*fitting, *levels]}.values())
        if named.name == family:
            named = max(fitting, key=lambda t: (_rank(cpu, t), t.name))
    # No level of Arm's, however high, suits a CPU better than the vendor's target that names it.
    ranked = sorted(
        fitting, key=lambda t: (is_arm and t is named, _rank(cpu, t), t.name), reverse=True
    )
    return CpuTarget(named.name, tuple(target.name for target in ranked))


def is_known(name: str) -> bool:
    """Tell whether archspec knows this target."""
    return name in _targets()


def is_of(name: str, architecture: str) -> bool:
    """Tell whether a known target belongs to an architecture, in the specification's words."""
    return str(_targets()[name].family) == _FAMILIES.get(architecture)


def vendor_of(name: str) -> str:
    """Name the maker of a target's CPUs as the kernel does; that of levels is `generic`."""
    return str(_targets()[name].vendor) if is_known(name) else "generic"


def family_of(architecture: str) -> str | None:
    """Name the target that every CPU of an architecture is, None where archspec has none."""
    return _FAMILIES.get(architecture)


def facts_of(name: str, architecture: str) -> CpuFacts:
    """Return the facts of an ideal CPU of a known target."""
    target = _targets()[name]
    return CpuFacts(
        architecture=architecture,
        vendor=target.vendor,
        flags=tuple(sorted({flag for t in (target, *target.ancestors) for flag in t.features})),
        part=target.cpu_part,
        generation=target.generation,
        name=name,
    )


def flags_of(name: str) -> frozenset[str]:
    """Give the flags that code for a known target may use, its ancestors' included."""
    return _features(name)


def ancestors(name: str) -> tuple[str, ...]:
    """Name the targets whose code a known target runs by descent, nearest first."""
    return tuple(target.name for target in _targets()[name].ancestors)


def runs(name: str) -> tuple[str, ...]:
    """Name the targets whose code an ideal CPU of a known target runs, by its flags."""
    family = str(_targets()[name].family)
    architecture = next((a for a, f in _FAMILIES.items() if f == family), "")
    return match(facts_of(name, architecture)).compatible


def ranked(names: Iterable[str]) -> tuple[str, ...]:
    """Order known targets, the most specific first."""
    nobody = CpuFacts("")
    found = [_targets()[name] for name in names]
    ordered = sorted(found, key=lambda t: (_rank(nobody, t), t.name), reverse=True)
    return tuple(target.name for target in ordered)


def arm_vendor(implementer: str) -> str:
    """Translate the kernel's number of an Arm implementer; an unknown one stays a number."""
    from archspec.cpu.schema import TARGETS_JSON

    vendors: dict[str, str] = TARGETS_JSON["conversions"]["arm_vendors"]
    return vendors.get(implementer.lower(), implementer or "generic")


def linux_flags(words: Iterable[str]) -> frozenset[str]:
    """Add to the flags that macOS tells, in lower case, what Linux calls them."""
    from archspec.cpu.schema import TARGETS_JSON

    found = set(words)
    for theirs, ours in TARGETS_JSON["conversions"]["darwin_flags"].items():
        if found.issuperset(theirs.split()):
            found.update(ours.split())
    return frozenset(found)


def cpuid_flags() -> Iterator[tuple[int, int, str, int, str]]:
    """List where CPUID tells a flag: leaf, subleaf, register, bit, and the flag's name."""
    from archspec.cpu.schema import CPUID_JSON

    for question in (*CPUID_JSON["flags"], *CPUID_JSON["extension-flags"]):
        leaf, subleaf = question["input"]["eax"], question["input"]["ecx"]
        for bit in question["bits"]:
            yield leaf, subleaf, bit["register"], bit["bit"], bit["name"]


@lru_cache(maxsize=1)
def _targets() -> dict[str, Any]:
    """Give archspec's targets, and the versions of 32-bit Arm, which it does not tell apart."""
    import archspec.cpu

    found: dict[str, Any] = dict(archspec.cpu.TARGETS)
    below = found["arm"]
    for name in facts()["arm_versions"]:
        number = int(name.removeprefix("armv"))
        below = archspec.cpu.Microarchitecture(name, [below], "generic", set(), {}, number)
        found[name] = below
    return found


def _fitting(cpu: CpuFacts, family: str) -> list[Any]:
    if family == "x86":
        return _fitting_386(cpu)
    if family in _BY_GENERATION:
        # archspec's check of POWER asks which machine it runs on, so it cannot judge another.
        return [
            target
            for target in _targets().values()
            if str(target.family) == family and target.generation <= cpu.generation
        ]
    from archspec.cpu.detect import COMPATIBILITY_CHECKS, partial_uarch

    partial = partial_uarch(
        name=cpu.name or family, vendor=cpu.vendor, features=set(cpu.flags), cpu_part=cpu.part
    )
    check = COMPATIBILITY_CHECKS[family]
    return [target for target in _targets().values() if check(partial, target)]


def _fitting_386(cpu: CpuFacts) -> list[Any]:
    """Judge by flags alone: archspec has no check, and says Intel of what others run as well."""
    flags = {"sse3" if flag == "pni" else flag for flag in cpu.flags}
    return [
        target
        for target in _targets().values()
        if str(target.family) == "x86"
        and (not target.ancestors or ("cmov" in flags and target.features <= flags))
    ]


def _arm_levels(cpu: CpuFacts) -> list[Any]:
    """Find Arm's generic levels by their flags, since archspec knows none of these."""
    rows: dict[str, list[str]] = facts()["arm_levels"]["flags"]
    levels = [_targets()[name] for name in rows]
    return [
        level
        for level in levels
        if all(set(rows.get(t.name, ())) <= set(cpu.flags) for t in (level, *level.ancestors))
    ]


def _named(cpu: CpuFacts, fitting: list[Any]) -> Any:
    """Name the host as archspec does: below the best generic level, by part number on Arm."""
    generic = [target for target in fitting if target.vendor == "generic"] or fitting
    best_generic = max(generic, key=lambda target: _rank(cpu, target))
    of_part = [target for target in fitting if cpu.part and target.cpu_part == cpu.part]
    below = [target for target in of_part or fitting if target > best_generic]
    return max(below, key=lambda target: _rank(cpu, target), default=best_generic)


def _rank(cpu: CpuFacts, target: Any) -> tuple[bool, int, int]:
    is_part = bool(cpu.part) and target.cpu_part == cpu.part
    return is_part, len(target.ancestors), len(_features(target.name))


@lru_cache(maxsize=256)
def _features(name: str) -> frozenset[str]:
    return frozenset(_targets()[name].features)
