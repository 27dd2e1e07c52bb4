"""When what a node offers satisfies one required feature, and how well.

One rule for each kind; knows nothing of indexes or of the order among images.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hpcimg.features import Feature
from hpcimg.vocabulary import facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpcimg.node.profile import GpuFacts, NodeProfile

Quality = tuple[int, int, int]
"""How well code suits a GPU: its tier, then the capability that it was made for."""

_SAME, _OLDER_MINOR, _FAMILY, _JIT, _NOTHING = 4, 3, 2, 1, 0
_CAPABILITY = re.compile(r"([0-9]{1,3})\.([0-9])([af])?(\+ptx)?")
_NUMBERS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})*")
# The kernel hands out AMX state only on request, which older kernels do not know.
_AMX_KERNEL = (5, 16)


def unsatisfied(profile: NodeProfile, feature: Feature) -> str:
    """Say why the node cannot satisfy a feature, or nothing when it does."""
    rule = _RULES.get(feature.kind)
    if rule is None:
        offered = str(feature) in profile.words
        return "" if offered else f"needs {feature}; {_unjudged(feature)}"
    reason = _without_gpu(profile.gpus) if feature.is_for_gpu else ""
    reason = reason or rule(profile, feature)
    return f"needs {feature}; {reason}" if reason else ""


def version_of(text: str) -> tuple[int, ...]:
    """Read a version's numbers for comparison; what is no version is older than all."""
    return tuple(int(n) for n in text.split(".")) if _NUMBERS.fullmatch(text) else ()


def target_rank(profile: NodeProfile, feature: Feature) -> int:
    """Say how close a satisfied `cpu` word comes to the node's own target; 0 is far away."""
    places = [
        len(profile.compatible) - profile.compatible.index(name)
        for name in feature.alternatives
        if name in profile.compatible
    ]
    return max(places, default=0)


def gpu_quality(profile: NodeProfile, feature: Feature) -> Quality:
    """Say how well an `nvcap` word suits the worst of the allocated GPUs."""
    found = [_best(feature, gpu.capability) for gpu in profile.gpus.devices]
    return min(found, default=(_NOTHING, 0, 0))


def _unjudged(feature: Feature) -> str:
    if not feature.kind:
        return "an unknown word, which this node does not offer"
    return f"this node does not offer any {feature.kind}"


def _without_gpu(gpus: GpuFacts) -> str:
    if gpus.state == "present":
        return ""
    if gpus.state == "unknown":
        return f"the node's GPUs are unknown: {gpus.reason}"
    return gpus.reason or "there is no GPU"


def _cpu(profile: NodeProfile, feature: Feature) -> str:
    if feature.comparator == "=":
        fits = profile.target in feature.alternatives
    else:
        fits = any(name in profile.compatible for name in feature.alternatives)
    return "" if fits else f"this node is {profile.target or 'of an unknown CPU target'}"


def _cpuflag(profile: NodeProfile, feature: Feature) -> str:
    aliases = facts()["flag_aliases"]["flags"]
    for flag in feature.alternatives:
        if not any(one in profile.flags for one in (flag, *aliases.get(flag, ()))):
            continue
        kernel = version_of(".".join(re.findall(r"[0-9]+", profile.kernel)[:2]))
        if flag.startswith("amx") and kernel and kernel < _AMX_KERNEL:
            return f"kernel {profile.kernel} cannot grant it"
        return ""
    return "this CPU does not have it"


def _nvcap(profile: NodeProfile, feature: Feature) -> str:
    if not profile.gpus.devices:
        return "no GPU with a known capability is offered"
    for gpu in profile.gpus.devices:
        if _best(feature, gpu.capability)[0] == _NOTHING:
            return f"GPU {gpu.index} has {gpu.capability}"
    return ""


def _nvdrv(profile: NodeProfile, feature: Feature) -> str:
    driver = profile.gpus.driver
    if driver is None or not version_of(driver):
        return "the driver's version is unknown"
    have = version_of(driver)
    for value in feature.alternatives:
        need = version_of(value)
        if need and (have == need if feature.comparator == "=" else have >= need):
            return ""
    return f"the driver is {driver}"


_RULES: dict[str, Callable[[NodeProfile, Feature], str]] = {
    "cpu": _cpu,
    "cpuflag": _cpuflag,
    "nvcap": _nvcap,
    "nvdrv": _nvdrv,
}


def _best(feature: Feature, device: str) -> Quality:
    return max(_suits(value, device, feature.comparator) for value in feature.alternatives)


def _suits(value: str, device: str, comparator: str) -> Quality:
    """Judge code for one capability on one GPU, by NVIDIA's rules of binary compatibility."""
    code, gpu = _CAPABILITY.fullmatch(value), _CAPABILITY.fullmatch(device)
    if code is None or gpu is None:
        return (_NOTHING, 0, 0)
    need, have = (int(code[1]), int(code[2])), (int(gpu[1]), int(gpu[2]))
    tier = _tier(need, have, code[3] or "", comparator)
    if tier == _NOTHING and code[4] and not comparator and _runs_jit(need, have, code[3] or ""):
        tier = _JIT
    return (tier, *need) if tier else (_NOTHING, 0, 0)


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
