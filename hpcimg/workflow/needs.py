"""`needs`: what hardware each entry behind a name wants, and which nodes have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpcimg.description import describe_features
from hpcimg.errors import HpcimgError
from hpcimg.node.profile import NodeProfile
from hpcimg.selection import Candidate, select
from hpcimg.store.profiles import published_nodes
from hpcimg.store.store import site_store
from hpcimg.workflow.entries import read_entries
from hpcimg.workflow.node_types import node_types
from hpcimg.workflow.resolve import read_name, site_policy

if TYPE_CHECKING:
    from hpcimg.requirements import Entry
    from hpcimg.settings import Settings
    from hpcimg.workflow.source import ImageSource


@dataclass(frozen=True)
class Need:
    """One entry: what it wants in words, and the nodes that can run it (with a GPU, if need be)."""

    entry: Entry
    words: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Needs:
    """All entries behind a name; `knows_nodes` says that the cluster's nodes were looked at."""

    reference: str
    entries: tuple[Need, ...]
    knows_nodes: bool

    def to_json(self) -> dict[str, Any]:
        """Write it as an object for programs."""
        return {
            "reference": self.reference,
            "entries": [
                {
                    "digest": one.entry.descriptor.digest,
                    "features": [str(feature) for feature in one.entry.features],
                    "needs": one.words,
                    "nodes": list(one.nodes) if self.knows_nodes else None,
                }
                for one in self.entries
            ],
        }


def needs(name: str, settings: Settings, source: ImageSource) -> Needs:
    """Read what stands behind a name, and try it on each kind of node that has published."""
    reference = read_name(name, settings)
    entries = read_entries(reference, source.fetch_document(reference), source)

    def candidates(profile: NodeProfile) -> tuple[Candidate, ...]:
        policy = site_policy(settings, reference, profile, "compatible")
        return select(profile, entries, policy).candidates

    fitting: dict[int, list[str]] = {}
    profiles = _profiles(settings)
    for profile, nodes in profiles:
        for at, candidate in enumerate(candidates(profile)):
            if candidate.verdict in {"chosen", "fits"}:
                fitting.setdefault(at, []).extend(nodes)
    nobody = NodeProfile(node="", os="linux", architecture="amd64")
    told = [
        Need(one.entry, _words(one.entry), tuple(sorted(set(fitting.get(at, ())))))
        for at, one in enumerate(candidates(nobody))
        if one.verdict != "skipped"
    ]
    return Needs(str(reference), tuple(told), bool(profiles))


def _words(entry: Entry) -> str:
    platform = entry.descriptor.platform
    return describe_features(entry.features, "" if platform is None else platform.architecture)


def _profiles(settings: Settings) -> list[tuple[NodeProfile, tuple[str, ...]]]:
    """Give each node type's profile and nodes; a machine without a store knows none."""
    try:
        store = site_store(settings.store)
        if not published_nodes(store):
            return []
        types, _ = node_types(store, (), settings)
    except HpcimgError:
        return []
    return [(one.profile, one.nodes) for one in types]
