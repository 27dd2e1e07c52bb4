"""One image for several nodes: each one's own test says what is legal, their meet what is best.

Knows no job and no agreement; the same profiles and document give the same image on every node.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hpcimg.node.meet import meet
from hpcimg.oci.model import Index
from hpcimg.policy import policy_for
from hpcimg.ranking import Rank, rank
from hpcimg.selection import Candidate, Resolution, check_single, choose, judge, judge_all
from hpcimg.workflow.entries import EntryReader
from hpcimg.workflow.resolve import READ_LIMIT, Resolved, completed, site_policy, with_unread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpcimg.node.profile import NodeProfile
    from hpcimg.oci.model import Manifest
    from hpcimg.oci.reference import Reference
    from hpcimg.policy import Policy
    from hpcimg.requirements import Entry
    from hpcimg.settings import Settings
    from hpcimg.workflow.source import ImageSource

_Nodes = tuple[tuple["NodeProfile", "Policy"], ...]


def resolve_for_all(
    reference: Reference,
    document: Manifest | Index,
    profiles: Sequence[NodeProfile],
    client: ImageSource,
    settings: Settings,
    kind: str | None = None,
) -> Resolved:
    """Select what suits all nodes best, of what each of them runs by its own test.

    A candidate that some node cannot run is rejected with the first one's name and reason.
    """
    common = meet(profiles)
    policy = _common_policy(settings, reference, profiles, common, kind)
    kinds: dict[tuple[str, Policy], NodeProfile] = {}
    for profile in profiles:
        own = site_policy(settings, reference, profile, kind)
        kinds.setdefault((profile.facts_digest(), own), profile)
    nodes = tuple((profile, own) for (_, own), profile in kinds.items())
    reader = EntryReader(reference, client, READ_LIMIT)
    entries = reader.entries(document, (common.os, common.architecture))
    if not isinstance(document, Index):
        resolution = check_single_for_all(nodes, entries[0])
        return Resolved(reference, document.digest, False, common, resolution)

    def rank_of(at: int, entry: Entry) -> Rank | None:
        fits = all(judge(node, entry, own).verdict == "fits" for node, own in nodes)
        return rank(common, entry, policy, at) if fits else None

    resolution = select_for_all(nodes, completed(reader, entries, rank_of), common, policy)
    return Resolved(reference, document.digest, True, common, with_unread(reader, resolution))


def select_for_all(
    nodes: _Nodes, entries: Sequence[Entry], common: NodeProfile, policy: Policy
) -> Resolution:
    """Pick the best for `common` of what each node, by its own policy, can run.

    `common`, the meet, only ranks: of `cpu:icelake|zen4` it has neither, and every node has one.
    """
    judged: list[Candidate] | None = None
    for profile, own in nodes:
        found = judge_all(profile, entries, own)
        if judged is None:
            judged = [_named(profile.node, one) for one in found]
            continue
        for at, one in enumerate(found):
            if judged[at].verdict == "fits":
                judged[at] = _named(profile.node, one)
    return choose(common, judged or (), policy)


def check_single_for_all(nodes: _Nodes, entry: Entry) -> Resolution:
    """Judge an image that stands alone on each node; the first that objects is named."""
    found = [(profile.node, check_single(profile, entry, own)) for profile, own in nodes]
    for node, one in found:
        if one.pick is None:
            return replace(one, candidates=tuple(_named(node, each) for each in one.candidates))
    node, one = next((each for each in found if each[1].warning), found[0])
    if one.pick is None or not one.warning:
        return one
    pick = replace(one.pick, reason=_on(node, one.pick.reason))
    return Resolution(pick, (pick,), _on(node, one.warning))


def _named(node: str, candidate: Candidate) -> Candidate:
    if candidate.verdict != "rejected":
        return candidate
    return replace(candidate, reason=_on(node, candidate.reason))


def _on(node: str, reason: str) -> str:
    """Name the node in a reason that was written on it."""
    if "this node" in reason:
        return reason.replace("this node", node)
    return f"{reason} on {node}"


def _common_policy(
    settings: Settings,
    reference: Reference,
    profiles: Sequence[NodeProfile],
    common: NodeProfile,
    kind: str | None,
) -> Policy:
    """Combine the rules that hold on every node, whatever nodes or targets they are for."""
    rules = [
        replace(rule, nodes=(), targets=())
        for rule in settings.policy_rules()
        if all(rule.holds(reference, profile) for profile in profiles)
    ]
    return policy_for(rules, reference, common, kind=kind)
