"""What a node offers, told in words: a whole profile, or what a site declares of a found one."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hpcimg.errors import UsageError
from hpcimg.features import Feature, parse_feature, parse_platform_words, variant_word
from hpcimg.node.gpus import Gpu, GpuFacts
from hpcimg.node.profile import NodeProfile
from hpcimg.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

    Features = tuple[Feature, ...]

_CAPABILITY = re.compile(r"[0-9]{1,3}\.[0-9]")
_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})*")
_GROUPS = {
    "cpu": {"cpu", "cpuflag"},
    "nvidia": {"nvcap", "nvdrv", "cuda"},
    "amd": {"amdgpu", "rocm"},
    "intel": {"intelgpu"},
}
_GPU_KINDS = _GROUPS["nvidia"] | _GROUPS["amd"] | _GROUPS["intel"]
_TRAITS = ("smt", "fabric", "inst", "instsize", "os")
_VERSIONS = {"nvdrv", "cuda", "rocm", "kernel", "glibc"}


def profile_from_words(text: str, *, node: str = "", kernel: str = "") -> NodeProfile:
    """Make a profile of `linux/amd64:broadwell:nv-compute-5-2`: the words say what is offered.

    GPUs named so are allocated ones. Raises UsageError for a word that nothing can offer.
    """
    os, architecture, variant, features = parse_platform_words(text)
    if variant is not None:
        features = (*features, *parse_feature(variant_word(architecture, variant), architecture))
    plain = NodeProfile(
        node=node,
        os=os,
        architecture=architecture,
        gpus=GpuFacts("none", "no GPU is named"),
        kernel=kernel,
        declared=True,
        sources={"all": "words"},
    )
    return _with(replace(plain, **_cpu((), architecture, text)), features, text)


def with_offered(profile: NodeProfile, words: Iterable[str]) -> NodeProfile:
    """Give the profile with what the site's words declare that the machine offers.

    A word replaces what was found of its group: CPU, NVIDIA's, AMD's or Intel's GPUs, or its own
    kind; a CPU flag without a CPU is one more. GPUs named so count as allocated, whatever the job
    got: call it after `allocated`.
    Raises UsageError for a word that nothing can offer.
    """
    listed = tuple(words)
    found = (f for word in listed for f in parse_feature(word, profile.architecture))
    features = tuple(dict.fromkeys(found))
    if not features:
        return profile
    return _with(profile, features, ", ".join(listed))


def _with(profile: NodeProfile, features: Features, text: str) -> NodeProfile:
    for feature in features:
        _check(feature, text)
    changed: dict[str, Any] = {"words": tuple(sorted({*profile.words, *map(str, features)}))}
    kinds = {f.kind for f in features}
    told = dict.fromkeys(kinds & {"kernel", "glibc", *_TRAITS}, "words")
    told |= {group: "words" for group in _GROUPS if kinds & _GROUPS[group]}
    if "cpu" in kinds:
        changed |= _cpu(_of(features, "cpu"), profile.architecture, text)
    elif "cpuflag" in kinds:
        changed["flags"] = tuple(sorted({*profile.flags, *_values(features, "cpuflag")}))
    if kinds & _GPU_KINDS:
        changed["gpus"] = _gpus(profile.gpus, features)
    for kind in ("kernel", "glibc"):
        if values := _values(features, kind):
            changed[kind] = values[-1]
    kept = (trait for trait in profile.traits if trait.partition(":")[0] not in kinds)
    changed["traits"] = tuple(sorted({*kept, *(str(f) for f in features if f.kind in _TRAITS)}))
    gone = kinds | ({"gpus"} if kinds & _GPU_KINDS else set())
    changed["unknowns"] = tuple(u for u in profile.unknowns if u.partition(":")[0] not in gone)
    if not profile.declared:
        changed["sources"] = {**profile.sources, **told}
    return replace(profile, **changed)


def _check(feature: Feature, text: str) -> None:
    """Refuse what a requirement may say, but no node can offer."""
    if not feature.kind:
        return
    if len(feature.alternatives) > 1 or feature.comparator:
        raise UsageError(
            f"{quoted(str(feature))} in {quoted(text)} is a requirement, not what a node offers",
            "name what the node has, one value for each word",
        )
    if feature.kind == "nvcap" and not _CAPABILITY.fullmatch(feature.value):
        raise UsageError(f"{quoted(text)} offers a GPU without a capability MAJOR.MINOR")
    if feature.kind in _VERSIONS and not _VERSION.fullmatch(feature.value):
        raise UsageError(
            f"{quoted(str(feature))} in {quoted(text)} has no version", "write it as in 5.14"
        )


def _of(features: Features, group: str) -> Features:
    return tuple(f for f in features if f.kind in _GROUPS[group])


def _values(features: Iterable[Feature], kind: str) -> tuple[str, ...]:
    return tuple(f.value for f in features if f.kind == kind)


def _cpu(features: Features, architecture: str, text: str) -> dict[str, Any]:
    """Return target, compatible targets and flags of a CPU that is only named."""
    from hpcimg import targets

    family = targets.family_of(architecture)
    compatible: set[str] = set()
    flags = set(_values(features, "cpuflag"))
    for name in _values(features, "cpu") or ([family] if family else []):
        if not targets.is_known(name) or not targets.is_of(name, architecture):
            raise UsageError(
                f"cpu {quoted(name)} in {quoted(text)} is not a known {architecture} target",
                "use archspec's names, as in broadwell or zen3",
            )
        facts = targets.facts_of(name, architecture)
        flags.update(facts.flags)
        compatible.update((name, *targets.ancestors(name)))
        compatible.update(targets.match(facts).compatible)
    ranked = targets.ranked(compatible)
    return {
        "target": ranked[0] if ranked else None,
        "compatible": ranked,
        "flags": tuple(sorted(flags)),
    }


def _gpus(found: GpuFacts, features: Features) -> GpuFacts:
    """Put the named GPUs in the place of their vendors' found ones."""
    named = {vendor: _of(features, vendor) for vendor in ("nvidia", "amd", "intel")}
    devices: list[Gpu] = []
    for vendor, words in named.items():
        devices += _devices(vendor, words) if words else found.of(vendor)
    facts = replace(found, state="present", reason="", devices=tuple(devices), wanted=True)
    if named["nvidia"]:
        driver, cuda = (_values(features, kind)[-1:] for kind in ("nvdrv", "cuda"))
        facts = replace(facts, driver=(*driver, None)[0], cuda=(*cuda, None)[0])
    return replace(facts, amd_driver=None) if named["amd"] else facts


def _devices(vendor: str, features: Features) -> list[Gpu]:
    if vendor == "nvidia":
        return [Gpu(at, "", "", value) for at, value in enumerate(_values(features, "nvcap"))]
    kind = "amdgpu" if vendor == "amd" else "intelgpu"
    values = _values(features, kind)
    return [Gpu(at, "", "", vendor=vendor, target=value) for at, value in enumerate(values)]
