"""When what a node offers satisfies one required feature, and how closely.

One rule for each kind; knows nothing of indexes or of the order among images.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hpcimg.features import Feature, version_of
from hpcimg.gpu_rules import unsuited, without_gpu, without_modes
from hpcimg.node.gpus import CODE_KINDS
from hpcimg.vocabulary import facts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hpcimg.node.profile import NodeProfile

# The kernel hands out AMX state only on request, which older kernels do not know.
_AMX_KERNEL = (5, 16)
# An image brings its own MPI, and no site's MPI is put into it yet.
_NEVER_REJECT = frozenset({"mpi"})


def unsatisfied(profile: NodeProfile, feature: Feature, siblings: Sequence[Feature] = ()) -> str:
    """Say why the node cannot satisfy a feature, or nothing when it does.

    `siblings` are all features of its image: some kinds leave the verdict to another.
    """
    if feature.is_for_gpu:
        reason = without_gpu(profile, feature.kind)
        if not reason and not (feature.kind == "rocm" and _offers_release(profile, feature)):
            reason = unsuited(profile.gpus, feature, siblings)
    elif feature.kind in _NEVER_REJECT:
        reason = ""
    else:
        reason = _RULES.get(feature.kind, _offered)(profile, feature)
    return f"needs {feature}; {reason}" if reason else ""


def target_rank(profile: NodeProfile, feature: Feature) -> int:
    """Say how close a satisfied `cpu` word comes to the node's own target; 0 is far away."""
    places = [
        len(profile.compatible) - profile.compatible.index(name)
        for name in feature.alternatives
        if name in profile.compatible
    ]
    return max(places, default=0)


def is_exactly(profile: NodeProfile, feature: Feature) -> bool:
    """Tell whether a feature names just what a detected node is, not what it also satisfies."""
    if feature.kind == "cpu":
        return feature.value == profile.target
    if feature.kind == "nvdrv":
        return version_of(feature.value) == version_of(profile.gpus.driver or "")
    if feature.kind == "cuda":
        return version_of(feature.value) == version_of(profile.gpus.cuda or "")
    named = {without_modes(word) for word in profile.offered()}
    is_code = feature.kind in CODE_KINDS.values()
    if is_code and without_modes(feature.word) not in named:
        return False
    return not unsatisfied(profile, feature)


def _offers_release(profile: NodeProfile, feature: Feature) -> bool:
    """Tell whether the site's words offer this ROCm or a newer one; no driver follows from it."""
    offered = [version_of(word[5:]) for word in profile.words if word.startswith("rocm:")]
    return any(have >= version_of(value) for have in offered for value in feature.alternatives)


def _cpu(profile: NodeProfile, feature: Feature) -> str:
    if feature.comparator == "=":
        fits = profile.target in feature.alternatives
    else:
        fits = any(name in profile.compatible for name in feature.alternatives)
    return "" if fits else f"this node is {profile.target or 'of an unknown CPU target'}"


def _cpuflag(profile: NodeProfile, feature: Feature) -> str:
    aliases = facts()["flag_aliases"]["flags"]
    reason = "this CPU does not have it"
    for flag in feature.alternatives:
        if not any(one in profile.flags for one in (flag, *aliases.get(flag, ()))):
            continue
        kernel = _kernel_version(profile)
        if not flag.startswith("amx") or not kernel or kernel >= _AMX_KERNEL:
            return ""
        reason = f"kernel {profile.kernel} cannot grant it"
    return reason


def _kernel(profile: NodeProfile, feature: Feature) -> str:
    have = _kernel_version(profile)
    if not have:
        return "the kernel's version is unknown"
    for value in feature.alternatives:
        need = version_of(value)
        same = have[: len(need)] == need
        if need and (same if feature.comparator == "=" else have >= need):
            return ""
    return f"the kernel is {profile.kernel}"


def _kernel_version(profile: NodeProfile) -> tuple[int, ...]:
    found = re.match(r"[0-9]+(\.[0-9]+)*", profile.kernel)
    return version_of(found[0]) if found else ()


def _glibc(profile: NodeProfile, feature: Feature) -> str:
    """Judge the image's C library: only what the host binds into the image can need a newer one."""
    need = version_of(profile.injected_glibc)
    if not need or profile.gpus.state != "present":
        return ""
    if any(version_of(value) >= need for value in feature.alternatives):
        return ""
    return f"the host's GPU libraries need glibc {profile.injected_glibc}"


def _offered(profile: NodeProfile, feature: Feature) -> str:
    """Judge by equality: of traits, of the site's words, of words that nobody knows."""
    offered = {*profile.words, *profile.traits}
    wanted = (str(Feature(feature.kind, value)) for value in feature.alternatives)
    if str(feature) in offered or not offered.isdisjoint(wanted):
        return ""
    if not feature.kind:
        return "an unknown word, which this node does not offer"
    found = sorted(word for word in offered if word.startswith(f"{feature.kind}:"))
    if found:
        return f"this node has {', '.join(found)}"
    unknown = [why for why in profile.unknowns if why.startswith(f"{feature.kind}:")]
    return (
        f"unknown here: {unknown[0]}" if unknown else f"this node does not offer any {feature.kind}"
    )


_RULES: dict[str, Callable[[NodeProfile, Feature], str]] = {
    "cpu": _cpu,
    "cpuflag": _cpuflag,
    "kernel": _kernel,
    "glibc": _glibc,
}
