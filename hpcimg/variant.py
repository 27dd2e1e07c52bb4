"""The build that would be exact for a node, and how close what was picked comes to it.

Judges a pick that is already legal; which images fit is the selection's matter.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from hpcimg.node.gpus import CODE_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hpcimg.features import Feature
    from hpcimg.node.profile import NodeProfile
    from hpcimg.selection import Candidate, Resolution

Closeness = Literal["specific", "partly", "generic", "none"]
"""specific: for the node's own CPU target, and it uses the GPU where there is one; partly: for
less than that, as an older target; generic: for no hardware; none: there is no pick."""

_CAPABILITY = re.compile(r"([0-9]{1,3}\.[0-9])[af]?(?:\+ptx)?")
_FAMILIES = frozenset({"x86", "x86_64", "arm", "aarch64", "ppc64le", "ppc64", "riscv64"})


def exact_words(profile: NodeProfile) -> tuple[str, ...]:
    """Name the build that would be exact: the node's CPU target, and code for each GPU it has.

    Of a node that is known as its family alone there is nothing to name. Several kinds of one
    vendor's GPUs make one word, since the build must run on all of them.
    """
    target = profile.target
    words = [f"cpu:{target}"] if target and target not in _FAMILIES else []
    for kind in CODE_KINDS.values():
        codes = [word.partition(":")[2] for word in gpu_words(profile) if word.startswith(kind)]
        if codes:
            words.append(f"{kind}:{'|'.join(codes)}")
    return tuple(words)


def gpu_words(profile: NodeProfile) -> tuple[str, ...]:
    """Name each kind of GPU that the node has, a word each."""
    found = (
        f"{CODE_KINDS[gpu.vendor]}:{_code(gpu.capability or gpu.target)}"
        for gpu in profile.gpus.devices
    )
    return tuple(sorted(set(found), key=_by_number))


def closeness(profile: NodeProfile, pick: Candidate | None) -> Closeness:
    """Say how close a pick comes to the build that would be exact for this node and its GPUs."""
    if pick is None:
        return "none"
    features = pick.entry.features
    if not any(_is_of_hardware(one) for one in features):
        return "generic"
    is_exact = _has_own_target(profile, features) and _has_own_gpus(profile, features)
    return "specific" if is_exact else "partly"


def is_missed(profile: NodeProfile, resolution: Resolution) -> bool:
    """Tell whether an exact build is wanted: no image that fits the node is one.

    A policy may put another image before an exact one; then nothing has to be built.
    """
    fitting = (one for one in resolution.candidates if one.verdict in {"chosen", "fits"})
    return bool(exact_words(profile)) and not any(
        closeness(profile, one) == "specific" for one in fitting
    )


def _is_of_hardware(feature: Feature) -> bool:
    """Tell whether a word ties an image to some processors or GPUs; a family is all of them."""
    if feature.kind == "cpu":
        return not _FAMILIES & set(feature.alternatives)
    return feature.kind == "cpuflag" or feature.is_for_gpu


def _has_own_target(profile: NodeProfile, features: Iterable[Feature]) -> bool:
    if profile.target is None or profile.target in _FAMILIES:
        return True
    return any(f.kind == "cpu" and profile.target in f.alternatives for f in features)


def _has_own_gpus(profile: NodeProfile, features: tuple[Feature, ...]) -> bool:
    for gpu in profile.gpus.devices:
        kind = CODE_KINDS.get(gpu.vendor, "")
        made_for = {_code(v) for f in features if f.kind == kind for v in f.alternatives}
        if _code(gpu.capability or gpu.target) not in made_for:
            return False
    return True


def _by_number(word: str) -> tuple[str, tuple[int, ...], str]:
    kind, _, value = word.partition(":")
    return kind, tuple(int(n) for n in value.split(".") if n.isdecimal()), value


def _code(value: str) -> str:
    """Reduce what code is for to the GPU it is exact on: no portable part, no modes."""
    match = _CAPABILITY.fullmatch(value)
    return match[1] if match else value.partition(":")[0]
