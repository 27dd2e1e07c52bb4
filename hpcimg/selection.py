"""The choice: which image of an index a node runs best, and a reason for every entry.

First a hard test for each feature, then one explicit order; pure, so the same input gives the
same pick on every node.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from hpcimg.errors import NoCandidateError
from hpcimg.oci.model import INDEX_TYPES, MANIFEST_TYPES
from hpcimg.policy import Policy
from hpcimg.ranking import Rank, deciding_rule, rank
from hpcimg.satisfaction import is_exactly, unsatisfied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpcimg.features import Feature
    from hpcimg.node.profile import NodeProfile
    from hpcimg.oci.model import Descriptor
    from hpcimg.oci.reference import Reference
    from hpcimg.requirements import Entry

Verdict = Literal["chosen", "fits", "rejected", "skipped"]

_REASONS_SHOWN = 4


@dataclass(frozen=True)
class Candidate:
    """One descriptor, what it requires, and what became of it."""

    entry: Entry
    verdict: Verdict
    reason: str

    @property
    def descriptor(self) -> Descriptor:
        """The image's own descriptor."""
        return self.entry.descriptor

    @property
    def features(self) -> tuple[str, ...]:
        """The required features' canonical words, sorted."""
        return tuple(str(feature) for feature in self.entry.features)

    @property
    def label(self) -> str:
        """Name it by what it is for, as people tell the builds of one image apart."""
        return ",".join(self.features) or "the generic image"


@dataclass(frozen=True)
class Resolution:
    """The pick, or None, and all candidates in the order of the index.

    `warning` says why a pick may not run here all the same.
    """

    pick: Candidate | None
    candidates: tuple[Candidate, ...]
    warning: str = ""


@dataclass(frozen=True)
class _Judged:
    entry: Entry
    features: tuple[Feature, ...]
    verdict: Verdict
    reason: str

    @property
    def descriptor(self) -> Descriptor:
        return self.entry.descriptor


def select(
    profile: NodeProfile, entries: Sequence[Entry], policy: Policy | None = None
) -> Resolution:
    """Pick the best entry that the node can run; every candidate carries its reason."""
    policy = policy or Policy()
    judged = [_judge(profile, entry, policy) for entry in entries]
    judged = _refuse_blind(profile, judged)
    ranks = {
        at: rank(profile, one.entry, policy, at)
        for at, one in enumerate(judged)
        if one.verdict == "fits"
    }
    best = max(ranks, key=lambda at: ranks[at], default=None)
    if best is None:
        return Resolution(None, tuple(_candidate(one) for one in judged))
    winner = _candidate(judged[best], "chosen", _why_chosen(judged[best].features, ranks, best))
    candidates = tuple(
        winner
        if at == best
        else _candidate(one, reason=_why_behind(winner, ranks[best], ranks[at]))
        if at in ranks
        else _candidate(one)
        for at, one in enumerate(judged)
    )
    return Resolution(winner, candidates)


def check_single(profile: NodeProfile, entry: Entry, policy: Policy | None = None) -> Resolution:
    """Judge an image that stands alone; its descriptor's platform comes from its config.

    There is nothing to choose, so only another architecture, or `strict`, refuses it.
    """
    policy = replace(policy or Policy(), kind="compatible", allow_generic=True)
    judged = _judge(profile, entry, policy)
    if judged.verdict == "fits":
        only = _candidate(judged, "chosen", "the only image behind the name")
        return Resolution(only, (only,))
    if (
        judged.verdict == "rejected"
        and not policy.strict
        and _on_platform(profile, entry.descriptor)
    ):
        only = _candidate(judged, "chosen", f"the only image, though it {judged.reason}")
        return Resolution(only, (only,), f"may not run here: it {judged.reason}")
    return Resolution(None, (_candidate(judged),))


def require(resolution: Resolution, reference: Reference) -> Candidate:
    """Return the pick; raise NoCandidateError that says why no entry fits."""
    if resolution.pick is not None:
        return resolution.pick
    failed = (_in_one_clause(one) for one in resolution.candidates if one.verdict == "rejected")
    reasons = dict.fromkeys(failed)
    shown = list(reasons)[:_REASONS_SHOWN]
    if len(reasons) > len(shown):
        shown.append(f"and {len(reasons) - len(shown)} more")
    nothing = "none of its entries is an image" if resolution.candidates else "it has no entries"
    raise NoCandidateError(
        f"no image of {reference} runs here: {'; '.join(shown) or nothing}",
        f"see every entry with `hpcimg explain {reference}`, or push one that fits this node",
    )


def _in_one_clause(candidate: Candidate) -> str:
    """Shorten a rejection for a list: the label only where the reason does not name it."""
    need, mark, why = candidate.reason.partition("; ")
    named = need.startswith(("needs ", "is for "))
    return f"{'' if named else candidate.label + ' '}{need}{f' ({why})' if mark else ''}"


def _candidate(
    judged: _Judged, verdict: Verdict | None = None, reason: str | None = None
) -> Candidate:
    return Candidate(
        judged.entry,
        judged.verdict if verdict is None else verdict,
        judged.reason if reason is None else reason,
    )


def _judge(profile: NodeProfile, entry: Entry, policy: Policy) -> _Judged:
    features = entry.features
    words = tuple(str(f) for f in features)

    def verdict(kind: Verdict, reason: str) -> _Judged:
        return _Judged(entry, features, kind, reason)

    not_an_image = entry.skip or _not_an_image(entry.descriptor)
    if not_an_image:
        return verdict("skipped", not_an_image)
    if not _on_platform(profile, entry.descriptor):
        return verdict("rejected", _other_platform(profile, entry.descriptor))
    if not words:
        if policy.allow_generic:
            return verdict("fits", "")
        return verdict("rejected", "is generic, which the site does not allow")
    if policy.kind == "exact" and not _is_exact(profile, features):
        offered = ",".join(profile.offered()) or "nothing"
        return verdict("rejected", f"is not exactly what this node offers: {offered}")
    failed = next(
        (f"{why}{_disagreement(entry, f)}" for f in features
         if (why := unsatisfied(profile, f, features))),
        "",
    )  # fmt: skip
    return verdict("rejected" if failed else "fits", failed)


def _is_exact(profile: NodeProfile, features: Sequence[Feature]) -> bool:
    """Compare as MetaHub did: the words are the node's, neither fewer nor more.

    A node that was told in words offers just those. Of a detected one, which knows more than any
    author writes, the CPU target and the GPUs must be named, and every word must be exact.
    """
    words = {str(f) for f in features}
    if profile.declared:
        return words == set(profile.offered())
    return words >= set(profile.offered()) and all(is_exactly(profile, f) for f in features)


def _disagreement(entry: Entry, feature: Feature) -> str:
    """Say where a failed word is written, if other places say otherwise or the index is silent."""
    by_source: dict[str, set[str]] = {}
    for one in entry.requirements:
        if one.feature.kind == feature.kind:
            by_source.setdefault(one.source, set()).add(str(one.feature))
    mine = [source for source, words in by_source.items() if str(feature) in words]
    others = [source for source, words in by_source.items() if str(feature) not in words]
    if others:
        said = ",".join(sorted(by_source[others[0]]))
        return f" ({mine[0]} and {others[0]} disagree: {said})"
    return "" if {"annotation", "features"} & {*mine} else f" (by its {mine[0]})"


def _not_an_image(entry: Descriptor) -> str:
    if entry.platform is not None and entry.platform.is_unknown:
        return "is no image but an attestation"
    if entry.media_type in INDEX_TYPES:
        return "is an index inside the index, which is not read"
    if entry.media_type not in MANIFEST_TYPES:
        return "is no image"
    return ""


def _on_platform(profile: NodeProfile, entry: Descriptor) -> bool:
    platform = entry.platform
    return platform is not None and (platform.os, platform.architecture) == (
        profile.os,
        profile.architecture,
    )


def _other_platform(profile: NodeProfile, entry: Descriptor) -> str:
    if entry.platform is None or not (entry.platform.os and entry.platform.architecture):
        return "does not say for which platform it is"
    return (
        f"is for {entry.platform.os}/{entry.platform.architecture}; "
        f"this node is {profile.os}/{profile.architecture}"
    )


def _refuse_blind(profile: NodeProfile, judged: Sequence[_Judged]) -> list[_Judged]:
    """Refuse every entry when the job's GPUs are not known and some entry is for GPUs.

    To run the CPU build on GPUs that were paid for would be a guess.
    """
    gpus = profile.gpus
    blind = gpus.state == "unknown" and gpus.wanted
    if not blind or not any(_may_use_gpu(profile, one) for one in judged):
        return list(judged)
    reason = f"is refused: the job has GPUs that could not be read ({gpus.reason})"
    return [
        replace(one, verdict="rejected", reason=reason) if one.verdict == "fits" else one
        for one in judged
    ]


def _may_use_gpu(profile: NodeProfile, one: _Judged) -> bool:
    rest = (f for f in one.features if not f.is_for_gpu)
    return (
        one.verdict == "rejected"
        and _on_platform(profile, one.descriptor)
        and any(f.is_for_gpu for f in one.features)
        and not any(unsatisfied(profile, f) for f in rest)
    )


def _why_chosen(features: Sequence[Feature], ranks: dict[int, Rank], best: int) -> str:
    if not features:
        return "the generic image; nothing more specific fits"
    if len(ranks) == 1:
        return "the only one that fits"
    second = max(rank for at, rank in ranks.items() if at != best)
    return f"fits, and {deciding_rule(ranks[best], second)}"


def _why_behind(winner: Candidate, best: Rank, behind: Rank) -> str:
    return f"fits, but {winner.label} {deciding_rule(best, behind)}"
