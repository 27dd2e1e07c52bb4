"""When the GPUs of a job can run code that was made for others, and how well.

One rule for each vendor's kinds of features; knows nothing of CPUs or of the order among images.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from hpcimg.features import Feature, version_of
from hpcimg.node.gpus import CODE_KINDS, VENDOR_NAMES
from hpcimg.vocabulary import facts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpcimg.node.profile import Gpu, GpuFacts, NodeProfile

T = TypeVar("T")

Quality = tuple[int, int, int]
"""How well code suits a GPU: its tier, then what tells two of one tier apart; more is better."""
NO_QUALITY: Quality = (0, 0, 0)

VENDOR_OF = {
    "nvcap": "nvidia",
    "nvdrv": "nvidia",
    "cuda": "nvidia",
    "amdgpu": "amd",
    "rocm": "amd",
    "intelgpu": "intel",
}
"""Whose GPU each kind of feature needs."""

_SAME, _OLDER_MINOR, _FAMILY, _JIT, _NOTHING = 4, 3, 2, 1, 0
_CAPABILITY = re.compile(r"([0-9]{1,3})\.([0-9])([af])?(\+ptx)?")
_AMD_MODES = re.compile(r"(xnack|sramecc)([+-])")
_ANY_INTEL = "spirv"
"""The device of code that is compiled when it is loaded."""


def without_gpu(profile: NodeProfile, kind: str) -> str:
    """Say why the job has no GPU that a feature of this kind could mean; nothing when it has."""
    gpus, vendor = profile.gpus, VENDOR_OF[kind]
    if gpus.of(vendor):
        others = [gpu for gpu in gpus.devices if gpu.vendor != vendor]
        return f"GPU {others[0].index} is {VENDOR_NAMES[others[0].vendor]}'s" if others else ""
    if gpus.state == "unknown":
        return f"the node's GPUs are unknown: {gpus.reason}"
    if gpus.devices:
        return (
            f"the job has no {VENDOR_NAMES[vendor]} GPU{f' ({gpus.reason})' if gpus.reason else ''}"
        )
    if gpus.state == "present" and _offers_software(profile, vendor):
        return ""  # words that offer a driver or a toolkit and name no device
    if gpus.state == "present":
        return f"no {VENDOR_NAMES[vendor]} GPU is offered"
    return gpus.reason or "there is no GPU"


def _offers_software(profile: NodeProfile, vendor: str) -> bool:
    if vendor == "nvidia":
        return bool(profile.gpus.driver or profile.gpus.cuda)
    return vendor == "amd" and any(word.startswith("rocm:") for word in profile.words)


def unsuited(gpus: GpuFacts, feature: Feature, siblings: Sequence[Feature]) -> str:
    """Say why the GPUs do not satisfy a feature, or nothing; `siblings` are all of its image."""
    if feature.kind in CODE_KINDS.values():
        return _unsuited_device(gpus, feature)
    if feature.kind == "cuda":
        return _cuda(gpus, feature, siblings)
    return _nvdrv(gpus, feature) if feature.kind == "nvdrv" else _rocm(gpus, feature)


def gpu_quality(gpus: GpuFacts, feature: Feature) -> Quality:
    """Say how well code suits the worst of the allocated GPUs."""
    return min((_best(feature, gpu) for gpu in gpus.devices), default=NO_QUALITY)


def _unsuited_device(gpus: GpuFacts, feature: Feature) -> str:
    if not gpus.devices:
        return "no GPU with a known capability is offered"
    for gpu in gpus.devices:
        if _best(feature, gpu)[0] == _NOTHING:
            unknown = ""
            if "sramecc" not in gpu.target and _best(_without_sramecc(feature), gpu)[0]:
                unknown = ", and its sramecc mode is unknown"
            return f"GPU {gpu.index} has {gpu.capability or gpu.target}{unknown}"
    return ""


def _without_sramecc(feature: Feature) -> Feature:
    return replace(feature, value=re.sub(":sramecc[+-]", "", feature.value))


def without_modes(word: str) -> str:
    """Leave the modes out of a canonical word for AMD GPUs."""
    return re.sub(f":{_AMD_MODES.pattern}", "", word)


def _best(feature: Feature, gpu: Gpu) -> Quality:
    if VENDOR_OF.get(feature.kind) != gpu.vendor:
        return NO_QUALITY
    if feature.kind == "amdgpu":
        return max(_suits_amd(value, gpu.target) for value in feature.alternatives)
    if feature.kind == "intelgpu":
        return max(_suits_intel(value, gpu.target) for value in feature.alternatives)
    return max(_suits(value, gpu.capability, feature.comparator) for value in feature.alternatives)


def _suits(value: str, device: str, comparator: str) -> Quality:
    """Judge code for one capability on one GPU, by NVIDIA's rules of binary compatibility."""
    code, gpu = _CAPABILITY.fullmatch(value), _CAPABILITY.fullmatch(device)
    if code is None or gpu is None:
        return NO_QUALITY
    need, have = (int(code[1]), int(code[2])), (int(gpu[1]), int(gpu[2]))
    tier = _tier(need, have, code[3] or "", comparator)
    if tier == _NOTHING and code[4] and not comparator and _runs_jit(need, have, code[3] or ""):
        tier = _JIT
    return (tier, *need) if tier else NO_QUALITY


def _tier(need: tuple[int, int], have: tuple[int, int], suffix: str, comparator: str) -> int:
    if need == have:
        return _SAME
    if comparator == ">=":
        return _JIT if have > need else _NOTHING
    if comparator == "=" or suffix == "a" or _is_integrated(need) or _is_integrated(have):
        return _NOTHING
    if need[0] != have[0] or need[1] > have[1]:
        return _NOTHING
    return _FAMILY if suffix == "f" else _OLDER_MINOR


def _runs_jit(need: tuple[int, int], have: tuple[int, int], suffix: str) -> bool:
    """Portable code of an `a` target is not portable, of an `f` target within its family."""
    return have >= need and (not suffix or (suffix == "f" and have[0] == need[0]))


def _is_integrated(capability: tuple[int, int]) -> bool:
    exact = facts()["nvcap_exact_only"]
    return capability[0] in exact["majors"] or "{}.{}".format(*capability) in exact["capabilities"]


def _nvdrv(gpus: GpuFacts, feature: Feature) -> str:
    have = version_of(gpus.driver or "")
    if not have:
        return "the driver's version is unknown"
    for value in feature.alternatives:
        need = version_of(value)
        if need and (have == need if feature.comparator == "=" else have >= need):
            return ""
    return f"the driver is {gpus.driver}"


def _cuda(gpus: GpuFacts, feature: Feature, siblings: Sequence[Feature]) -> str:
    reasons = [_cuda_toolkit(gpus, value, siblings) for value in feature.alternatives]
    return "" if "" in reasons else reasons[0]


def _cuda_toolkit(gpus: GpuFacts, toolkit: str, siblings: Sequence[Feature]) -> str:
    """Judge one toolkit: the driver's floor, and the GPUs that it still and already knows."""
    wanted = version_of(toolkit)
    if not wanted:
        return "which is no version"
    wanted = wanted if len(wanted) > 1 else (*wanted, 0)
    reason = _cuda_driver(gpus, wanted)
    if reason:
        return reason
    bounds: dict[str, list[str]] = facts()["cuda_gpus"]
    known = _by_version(bounds, wanted)
    if known is None:
        return ""
    oldest, newest = (version_of(capability) for capability in known)
    # Words for the code itself know better, PTX included.
    code = [one for one in siblings if one.kind == "nvcap"]
    for gpu in gpus.of("nvidia"):
        have = version_of(gpu.capability)
        if have < oldest:
            return f"GPU {gpu.index} has {gpu.capability}, which CUDA {toolkit} no longer knows"
        if have > newest and not code:
            return f"GPU {gpu.index} has {gpu.capability}, which CUDA {toolkit} does not know yet"
        if any(_best(one, gpu)[0] == _JIT for one in code) and _speaks(gpus) < wanted:
            return f"the driver does not compile CUDA {toolkit}'s code for GPU {gpu.index}"
    return ""


def _speaks(gpus: GpuFacts) -> tuple[int, ...]:
    """Give the newest CUDA that the driver speaks: it compiles portable code of no newer one."""
    if gpus.cuda:
        return version_of(gpus.cuda)
    releases: dict[str, str] = facts()["cuda_of_driver"]
    rows = {version_of(driver): version_of(cuda) for driver, cuda in releases.items()}
    known = [driver for driver in rows if driver <= version_of(gpus.driver or "")]
    return rows[max(known)] if known else ()


def _cuda_driver(gpus: GpuFacts, wanted: tuple[int, ...]) -> str:
    driver, speaks = version_of(gpus.driver or ""), version_of(gpus.cuda or "")
    drivers: dict[str, str] = facts()["cuda_drivers"]
    floor = _by_version(drivers, wanted)
    if driver and floor is not None:
        return "" if driver >= version_of(floor) else f"the driver is {gpus.driver}, not {floor}"
    if speaks:
        # From 11 on a driver runs all toolkits of its major number, before it none newer.
        fits = speaks >= (wanted[:1] if wanted[0] >= facts()["cuda_minor_compatible"] else wanted)
        return "" if fits else f"the driver speaks CUDA {gpus.cuda}"
    return "the driver's version is unknown" if not driver else "its oldest driver is unknown"


def _by_version(table: dict[str, T], version: tuple[int, ...]) -> T | None:
    """Look up `12.4`, then the nearest older minor number that the table has, then `12`."""
    rows = {version_of(key): value for key, value in table.items()}
    fitting = [key for key in rows if key[:1] == version[:1] and key <= version]
    return rows[max(fitting)] if fitting else None


def _rocm(gpus: GpuFacts, feature: Feature) -> str:
    reasons = [_rocm_release(gpus, value) for value in feature.alternatives]
    return "" if "" in reasons else reasons[0]


def _rocm_release(gpus: GpuFacts, release: str) -> str:
    wanted = version_of(release)
    if not wanted:
        return "which is no version"
    drivers: dict[str, str] = facts()["rocm_drivers"]
    floor = _by_version(drivers, wanted)
    if floor is None:
        return ""  # the site's table says nothing: no known floor
    have = version_of(gpus.amd_driver or "")
    if not have:
        return "the amdgpu driver's version is unknown"
    return "" if have >= version_of(floor) else f"the driver is {gpus.amd_driver}, not {floor}"


def _suits_amd(value: str, device: str) -> Quality:
    """Judge code for one target on one GPU: the same processor, or a generic one that covers it."""
    code, _, code_modes = value.partition(":")
    have, _, have_modes = device.partition(":")
    tier = _SAME if code == have else _NOTHING
    if have in facts()["amd_generic"].get(code, ()):
        tier = _FAMILY
    wanted, given = dict(_AMD_MODES.findall(code_modes)), dict(_AMD_MODES.findall(have_modes))
    # A process starts without XNACK unless HSA_XNACK says otherwise; ECC is as the device has it.
    given.setdefault("xnack", "-")
    if not tier or any(given.get(mode) != sign for mode, sign in wanted.items()):
        return NO_QUALITY
    return (tier, len(wanted), 0)


def _suits_intel(value: str, device: str) -> Quality:
    if value == _ANY_INTEL:
        return (_JIT, 0, 0)
    return (_SAME, 0, 0) if value == device else NO_QUALITY
