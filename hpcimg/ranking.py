"""The order among images that fit: one explicit rank, whose first difference decides.

Takes for granted that the hard tests have passed; knows no reasons for a rejection.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hpcimg.features import Feature, version_of
from hpcimg.gpu_rules import NO_QUALITY, Quality, gpu_quality
from hpcimg.node.gpus import CODE_KINDS
from hpcimg.requirements import WEIGHT, WEIGHT_ANNOTATION
from hpcimg.satisfaction import target_rank, unsatisfied

if TYPE_CHECKING:
    from hpcimg.node.profile import NodeProfile
    from hpcimg.policy import Avoid, Policy
    from hpcimg.requirements import Entry

RULES = (
    "is made for some hardware",
    "uses the job's GPU",
    "suits the job's GPU better",
    "is preferred by the site",
    "was measured to be faster",
    "is not of a kind that the site avoids here",
    "has the greater weight",
    "is built for a closer CPU target",
    "is more specific",
    "is built for a newer toolkit or driver",
    "comes first in the index",
)
"""Why one image stands before another: one clause for each part of a rank."""

Rank = tuple[
    bool, bool, Quality, int, float, bool, float, int, int, tuple[tuple[int, ...], ...], int
]

_VERSIONS = ("cuda", "rocm", "nvdrv")


def rank(profile: NodeProfile, entry: Entry, policy: Policy, position: int) -> Rank:
    """Say how good a fitting image is; a greater rank stands before a smaller one.

    The order extends dominance: an image that is as good in everything and better in something
    never stands behind. Its position decides the last tie, so there is no tie.
    """
    features = entry.features
    code = [f for f in features if f.kind in CODE_KINDS.values()]
    # `>=` is a condition on the GPU; where the code itself is named, that tells how well it suits.
    named = [f for f in code if f.comparator != ">="] or code
    quality = [gpu_quality(profile.gpus, f) for f in named]
    targets = [target_rank(profile, f) for f in features if f.kind == "cpu"]
    return (
        bool(features),
        any(f.is_for_gpu for f in features),
        min(quality, default=NO_QUALITY),
        _preference(features, policy),
        _measured(entry, policy),
        not any(_is_avoided(profile, entry, avoid) for avoid in policy.avoid),
        _weight(entry),
        max(targets, default=0),
        sum(_counts(profile, f) for f in features),
        tuple(_newest(profile, features, kind) for kind in _VERSIONS),
        -position,
    )


def deciding_rule(better: Rank, worse: Rank) -> str:
    """Name the first rule by which one rank stands before another.

    That an image is made for some hardware at all is the poorest of answers, so it comes last.
    """
    clauses = list(zip(RULES, better, worse, strict=True))
    return next(why for why, one, other in [*clauses[1:], clauses[0]] if one > other)  # type: ignore[operator]


def _preference(features: tuple[Feature, ...], policy: Policy) -> int:
    words = {str(f) for f in features}
    places = (len(policy.prefer) - at for at, word in enumerate(policy.prefer) if word in words)
    return max(places, default=0)


def _measured(entry: Entry, policy: Policy) -> float:
    words = ",".join(str(f) for f in entry.features)
    return policy.weights.get(entry.descriptor.digest, policy.weights.get(words, 0.0))


def _weight(entry: Entry) -> float:
    """Read the author's weight; a text that is no whole number is none."""
    text = entry.descriptor.annotations.get(WEIGHT_ANNOTATION, "")
    return float(text) if WEIGHT.fullmatch(text) else 0.0


def _is_avoided(profile: NodeProfile, entry: Entry, avoid: Avoid) -> bool:
    if avoid.on and profile.target not in avoid.on:
        return False
    wanted = avoid.feature
    return any(
        str(feature) == str(wanted)
        or (wanted.kind == "cpuflag" and feature.kind == "cpu" and _uses(feature, wanted.value))
        for feature in entry.features
    )


def _uses(feature: Feature, flag: str) -> bool:
    """Tell whether code for a CPU target may use a flag; archspec is asked by such sites alone."""
    from hpcimg import targets

    return any(
        targets.is_known(name) and flag in targets.flags_of(name) for name in feature.alternatives
    )


def _counts(profile: NodeProfile, feature: Feature) -> bool:
    """Tell whether a word speaks for an image: a fabric only where the job leaves the node."""
    if feature.kind == "fabric":
        return profile.job_nodes > 1
    return feature.kind != "mpi" or str(feature) in profile.words


def _newest(profile: NodeProfile, features: tuple[Feature, ...], kind: str) -> tuple[int, ...]:
    """Give the newest version of a kind; of several alternatives only those count that fit."""
    found = [replace(f, value=one) for f in features if f.kind == kind for one in f.alternatives]
    if len(found) > 1:
        found = [one for one in found if not unsatisfied(profile, one, features)]
    return max((version_of(one.value) for one in found), default=())
