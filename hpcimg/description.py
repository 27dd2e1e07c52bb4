"""What a required feature means, in plain words for people who build or buy for it.

Describes; never judges whether a node has it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hpcimg.vocabulary import facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hpcimg.features import Feature

_VENDORS = {
    "ARM": "Arm",
    "AuthenticAMD": "AMD",
    "GenuineIntel": "Intel",
    "Nvidia": "NVIDIA",
}
_LEVEL = re.compile(r"x86_64_v[0-9]|armv[0-9.]+a|armv[0-9]")
_CODE = re.compile(r"([0-9]{1,3}\.[0-9])([af]?)(\+ptx)?")


def describe_features(features: Iterable[Feature], architecture: str) -> str:
    """Say what hardware an image with these features wants, in one line."""
    told = [describe_feature(feature) for feature in features]
    return "; ".join(told) or f"any {architecture} node".replace("  ", " ")


def describe_feature(feature: Feature) -> str:
    """Say in words what one feature requires."""
    rule = _RULES.get(feature.kind)
    if rule is not None:
        return rule(feature)
    if feature.kind:
        return f"a node for which the site says {feature}"
    return f"a node for which somebody says {str(feature)!r}: the word is not known"


def _cpu(feature: Feature) -> str:
    told = " or ".join(_processor(name) for name in feature.alternatives)
    if feature.comparator == "=":
        return f"{told}, and no other"
    if all(_LEVEL.fullmatch(name) or _is_family(name) for name in feature.alternatives):
        return told
    return f"{told}, or a later one that runs its code"


def _processor(name: str) -> str:
    if _LEVEL.fullmatch(name):
        return f"any processor of level {name.replace('_', '-')}"
    if _is_family(name):
        return f"any {name} processor"
    if name not in facts()["cpu_targets"]:
        return f"a processor {name!r}, which is not known"
    vendor = _vendor(name)
    shown = facts()["names"].get(f"cpu:{name}") or name.capitalize()
    article = "an" if (vendor or shown)[:1] in "AEIOU" else "a"
    return f"{article} {vendor} {shown} processor".replace("  ", " ")


def _is_family(name: str) -> bool:
    return name in {"x86", "x86_64", "arm", "aarch64", "ppc64", "ppc64le", "riscv64"}


def _vendor(name: str) -> str:
    from hpcimg import targets

    vendor = targets.vendor_of(name)
    return "" if vendor == "generic" else _VENDORS.get(vendor, vendor)


def _cpuflag(feature: Feature) -> str:
    return f"a processor with {_any_of(feature)}"


def _nvcap(feature: Feature) -> str:
    told = " or ".join(_capability(value) for value in feature.alternatives)
    later = {">=": " or higher", "=": ", and no other"}.get(feature.comparator, "")
    return f"NVIDIA GPUs of compute capability {told}{later}"


def _capability(value: str) -> str:
    match = _CODE.fullmatch(value)
    if match is None:
        return value
    name = facts()["names"].get(f"nvcap:{match[1]}")
    exactly = "exactly " if match[2] == "a" else ""
    family = " or later ones of its family" if match[2] == "f" else ""
    shown = f"{match[1]} ({name})" if name else match[1]
    return f"{exactly}{shown}{family}{' or any later GPU' if match[3] else ''}"


def _gpus(vendor: str) -> Callable[[Feature], str]:
    def describe(feature: Feature) -> str:
        names = facts()["names"]
        told = []
        for value in feature.alternatives:
            name = names.get(f"{feature.kind}:{value.partition(':')[0]}")
            told.append(f"{value} ({name})" if name else value)
        return f"{vendor} GPUs of target {' or '.join(told)}"

    return describe


def _version(before: str) -> Callable[[Feature], str]:
    """Describe a kind whose value is the oldest version that will do."""

    def describe(feature: Feature) -> str:
        later = "" if feature.comparator == "=" else " or newer"
        return f"{before} {_any_of(feature)}{later}"

    return describe


def _toolkit(vendor: str, name: str) -> Callable[[Feature], str]:
    def describe(feature: Feature) -> str:
        return f"{vendor} GPUs, and a driver that runs {name} {_any_of(feature)}"

    return describe


def _named(before: str, after: str = "") -> Callable[[Feature], str]:
    """Describe a kind whose values have names."""

    def describe(feature: Feature) -> str:
        names = facts()["names"]
        told = [names.get(f"{feature.kind}:{value}", value) for value in feature.alternatives]
        return f"{before}{' or '.join(told)}{after}"

    return describe


def _glibc(feature: Feature) -> str:
    # The host's GPU libraries are bound into the image, whose C library they then use.
    return f"GPU libraries of the host that work with GNU C library {_any_of(feature)}"


def _distribution(feature: Feature) -> str:
    told = (value.replace(":", " ") for value in feature.alternatives)
    return f"a node that runs {' or '.join(told)}"


def _smt(feature: Feature) -> str:
    return f"simultaneous multithreading {feature.value}"


def _any_of(feature: Feature) -> str:
    return " or ".join(feature.alternatives)


_RULES: dict[str, Callable[[Feature], str]] = {
    "cpu": _cpu,
    "cpuflag": _cpuflag,
    "nvcap": _nvcap,
    "nvdrv": _version("NVIDIA GPUs with driver"),
    "cuda": _toolkit("NVIDIA", "CUDA"),
    "amdgpu": _gpus("AMD"),
    "rocm": _toolkit("AMD", "ROCm"),
    "intelgpu": _gpus("Intel"),
    "fabric": _named("", " as the network"),
    "mpi": _named("an MPI that works with "),
    "glibc": _glibc,
    "kernel": _version("Linux kernel"),
    "smt": _smt,
    "inst": _named("a cloud instance of type "),
    "instsize": _named("a cloud instance of size "),
    "os": _distribution,
}
