"""`needs`: what hardware each entry behind a name wants, and which nodes have it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpcimg.description import describe_features
from hpcimg.errors import HpcimgError
from hpcimg.node.profile import NodeProfile
from hpcimg.selection import select
from hpcimg.store.profiles import published_nodes
from hpcimg.store.store import site_store
from hpcimg.workflow.entries import EntryReader
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
    reader = EntryReader(reference, source)
    entries = _images(reader.entries(source.fetch_document(reference)))
    # All that an image says is wanted, not only what decides a choice.
    entries = _images([reader.complete(entry) for entry in entries])
    fitting: dict[int, set[str]] = {}
    profiles = _profiles(settings)
    for profile, nodes in profiles:
        policy = site_policy(settings, reference, profile, "compatible")
        for at, one in enumerate(select(profile, entries, policy).candidates):
            if one.verdict in {"chosen", "fits"}:
                fitting.setdefault(at, set()).update(nodes)
    platforms = Counter((one.os, one.architecture) for one, nodes in profiles for _ in nodes)
    usual = max(platforms, key=lambda one: platforms[one], default=None)
    told = (
        Need(entry, _words(entry, usual), tuple(sorted(fitting.get(at, ()))))
        for at, entry in enumerate(entries)
    )
    return Needs(str(reference), tuple(told), bool(profiles))


def _images(entries: Sequence[Entry]) -> list[Entry]:
    """Leave out what is no image on any node, as attestations."""
    nobody = NodeProfile(node="", os="", architecture="")
    return [one.entry for one in select(nobody, entries).candidates if one.verdict != "skipped"]


def _words(entry: Entry, usual: tuple[str, str] | None) -> str:
    """Describe an entry; its platform too where it is not what most of the nodes are."""
    platform = entry.descriptor.platform
    words = describe_features(entry.features, "" if platform is None else platform.architecture)
    if platform is None or usual is None or not entry.features:
        return words
    is_usual = (platform.os, platform.architecture) == usual
    return words if is_usual else f"a {platform.os}/{platform.architecture} node; {words}"


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
