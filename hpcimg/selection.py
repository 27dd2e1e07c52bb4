"""The choice: which image of an index a node runs best, and a reason for every entry.

First a hard test for each feature, then one explicit order; pure, so the same input gives the
same pick on every node.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from hpcimg.errors import NoCandidateError
from hpcimg.gpu_rules import without_modes
from hpcimg.oci.model import INDEX_TYPES, MANIFEST_TYPES
from hpcimg.policy import Policy
from hpcimg.quoting import cut
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
_LABEL_LIMIT = 160


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
        return cut(",".join(self.features), _LABEL_LIMIT) or "the generic image"


@dataclass(frozen=True)
class Resolution:
    """The pick, or None, and all candidates in the order of the index.

    `warning` says why a pick may not run here all the same.
    """

    pick: Candidate | None
    candidates: tuple[Candidate, ...]
    warning: str = ""


def select(
    profile: NodeProfile, entries: Sequence[Entry], policy: Policy | None = None
) -> Resolution:
    """Pick the best entry that the node can run; every candidate carries its reason."""
    policy = policy or Policy()
    return choose(profile, judge_all(profile, entries, policy), policy)


def judge_all(
    profile: NodeProfile, entries: Sequence[Entry], policy: Policy
) -> tuple[Candidate, ...]:
    """Say of each entry whether it fits the node, and else why not."""
    return _refuse_blind(profile, [judge(profile, entry, policy) for entry in entries])


def choose(profile: NodeProfile, judged: Sequence[Candidate], policy: Policy) -> Resolution:
    """Pick the best of the candidates that fit, whoever has judged them."""
    ranks = {
        at: rank(profile, one.entry, policy, at)
        for at, one in enumerate(judged)
        if one.verdict == "fits"
    }
    best = max(ranks, key=lambda at: ranks[at], default=None)
    if best is None:
        return Resolution(None, tuple(judged))
    why = _why_chosen(judged[best].entry.features, ranks, best)
    winner = replace(judged[best], verdict="chosen", reason=why)
    candidates = tuple(
        winner
        if at == best
        else replace(one, reason=_why_behind(winner, ranks[best], ranks[at]))
        if at in ranks
        else one
        for at, one in enumerate(judged)
    )
    return Resolution(winner, candidates)


def check_single(profile: NodeProfile, entry: Entry, policy: Policy | None = None) -> Resolution:
    """Judge an image that stands alone; its descriptor's platform comes from its config.

    There is nothing to choose, so only another architecture, or `strict`, refuses it.
    """
    policy = replace(policy or Policy(), kind="compatible", allow_generic=True)
    judged = judge(profile, entry, policy)
    if judged.verdict == "fits":
        only = replace(judged, verdict="chosen", reason="the only image behind the name")
        return Resolution(only, (only,))
    misfit = judged.verdict == "rejected" and not _wrong_platform(profile, entry.descriptor)
    if misfit and not policy.strict:
        why = f"the only image, though it {judged.reason}"
        only = replace(judged, verdict="chosen", reason=why)
        return Resolution(only, (only,), f"may not run here: it {judged.reason}")
    return Resolution(None, (judged,))


def require(resolution: Resolution, reference: Reference, node: str = "") -> Candidate:
    """Return the pick; raise NoCandidateError that says why no entry fits.

    `node` is the name of the node, or of several, that it was chosen for; none for this one.
    """
    if resolution.pick is not None:
        return resolution.pick
    failed = (
        _in_one_clause(one)
        for one in resolution.candidates
        if one.verdict == "rejected" or one.entry.skip
    )
    reasons = dict.fromkeys(failed)
    shown = list(reasons)[:_REASONS_SHOWN]
    if len(reasons) > len(shown):
        shown.append(f"and {len(reasons) - len(shown)} more")
    nothing = "none of its entries is an image" if resolution.candidates else "it has no entries"
    raise NoCandidateError(
        f"no image of {reference} runs {f'on {node}' if node else 'here'}: "
        f"{'; '.join(shown) or nothing}",
        f"see every entry with `hpcimg explain {reference}{_option(node)}`, or push one that fits",
    )


def _option(node: str) -> str:
    """Say for whom to ask; of many nodes the name is cut short, so it is no list."""
    if " and " in node:
        return " --nodes LIST"
    return f" --node{'s' if ',' in node else ''} {node}" if node else ""


def _in_one_clause(candidate: Candidate) -> str:
    """Shorten a rejection for a list: the label only where the reason does not name it."""
    need, mark, why = candidate.reason.partition("; ")
    named = need.startswith(("needs ", "is for "))
    return f"{'' if named else candidate.label + ' '}{need}{f' ({why})' if mark else ''}"


def judge(profile: NodeProfile, entry: Entry, policy: Policy) -> Candidate:
    """Judge one entry by itself."""
    not_an_image = entry.skip or _not_an_image(entry.descriptor)
    if not_an_image:
        return Candidate(entry, "skipped", not_an_image)
    reason = (
        _wrong_platform(profile, entry.descriptor)
        or _wrong_policy(profile, entry, policy)
        or _unsatisfied(profile, entry)
    )
    return Candidate(entry, "rejected" if reason else "fits", reason)


def _wrong_policy(profile: NodeProfile, entry: Entry, policy: Policy) -> str:
    if not entry.features:
        return "" if policy.allow_generic else "is generic, which the site does not allow"
    if policy.kind == "exact" and not _is_exact(profile, entry.features):
        offered = ",".join(profile.offered()) or "nothing"
        return f"is not exactly what this node offers: {offered}"
    return ""


def _unsatisfied(profile: NodeProfile, entry: Entry) -> str:
    for feature in entry.features:
        reason = unsatisfied(profile, feature, entry.features)
        if reason:
            return reason + _disagreement(entry, feature)
    return ""


def _is_exact(profile: NodeProfile, features: Sequence[Feature]) -> bool:
    """Compare as MetaHub did: the words are the node's, neither fewer nor more.

    A node that was told in words offers just those. Of a detected one, which knows more than any
    author writes, the CPU target and the GPUs must be named, and every word must be exact. An AMD
    GPU's modes need no naming.
    """
    words = {str(f) for f in features}
    if profile.declared:
        return words == set(profile.offered())
    named = set(map(without_modes, words))
    return named >= set(map(without_modes, profile.offered())) and all(
        is_exactly(profile, f) for f in features
    )


def _disagreement(entry: Entry, feature: Feature) -> str:
    """Say where a failed word is written, if other places say otherwise or the index is silent."""
    said: dict[str, set[str]] = {}
    for one in entry.requirements:
        if one.feature.kind == feature.kind:
            said.setdefault(one.source, set()).add(one.feature.word)
    mine = [source for source, words in said.items() if feature.word in words]
    others = [source for source in said if source not in mine]
    if others:
        return f" ({mine[0]} and {others[0]} disagree: {cut(','.join(sorted(said[others[0]])))})"
    return "" if {"annotation", "features"} & {*mine} else f" (by its {mine[0]})"


def _not_an_image(entry: Descriptor) -> str:
    if entry.platform is not None and entry.platform.is_unknown:
        return "is no image but an attestation"
    if entry.media_type in INDEX_TYPES:
        return "is an index inside the index, which is not read"
    if entry.media_type not in MANIFEST_TYPES:
        return "is no image"
    return ""


def _wrong_platform(profile: NodeProfile, entry: Descriptor) -> str:
    platform = entry.platform
    if platform is None or not (platform.os and platform.architecture):
        return "does not say for which platform it is"
    if (platform.os, platform.architecture) == (profile.os, profile.architecture):
        return ""
    return (
        f"is for {platform.os}/{platform.architecture}; "
        f"this node is {profile.os}/{profile.architecture}"
    )


def _refuse_blind(profile: NodeProfile, judged: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Refuse every entry when the job's GPUs are not known and some entry is for GPUs.

    To run the CPU build on GPUs that were paid for would be a guess.
    """
    gpus = profile.gpus
    blind = gpus.state == "unknown" and gpus.wanted
    if not blind or not any(_may_use_gpu(profile, one) for one in judged):
        return tuple(judged)
    reason = f"is refused: the job has GPUs that could not be read ({gpus.reason})"
    return tuple(
        replace(one, verdict="rejected", reason=reason) if one.verdict == "fits" else one
        for one in judged
    )


def _may_use_gpu(profile: NodeProfile, one: Candidate) -> bool:
    rest = (f for f in one.entry.features if not f.is_for_gpu)
    return (
        one.verdict == "rejected"
        and not _wrong_platform(profile, one.descriptor)
        and any(f.is_for_gpu for f in one.entry.features)
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
