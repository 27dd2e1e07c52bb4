"""The cluster's hardware as its published profiles tell it: nodes alike are one type."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpcimg.errors import HpcimgError, NotFoundError
from hpcimg.store.profiles import published_nodes, read_profile
from hpcimg.variant import exact_words

if TYPE_CHECKING:
    from hpcimg.node.profile import NodeProfile
    from hpcimg.settings import Settings
    from hpcimg.store.store import Store


SPARES_GPU = " (job without GPU)"


@dataclass(frozen=True)
class NodeType:
    """Nodes that choose alike; `profile` is the first one's.

    `spares_gpu` says that it is for jobs without GPU on nodes that have some.
    """

    profile: NodeProfile
    nodes: tuple[str, ...]
    spares_gpu: bool

    @property
    def label(self) -> str:
        """Name it by CPU target and GPUs."""
        target = self.profile.target or self.profile.architecture
        gpus = [word for word in exact_words(self.profile) if not word.startswith("cpu:")]
        if self.profile.gpus.state == "unknown":
            gpus = ["GPUs unknown"]
        return " + ".join([target, *gpus]) + (SPARES_GPU if self.spares_gpu else "")


@dataclass(frozen=True)
class UnknownNode:
    """A node whose profile cannot be had, and why."""

    node: str
    error: HpcimgError


def all_nodes(store: Store) -> tuple[str, ...]:
    """List the nodes that have published a profile; raises NotFoundError when none has."""
    found = published_nodes(store)
    if not found:
        lost = "" if store.root.exists() else "is the store's file system mounted here? else "
        raise NotFoundError(
            f'no node has published a profile in "{store.root}"',
            f"{lost}publish each node's own, at its boot, with `hpcimg node publish`",
        )
    return found


def scopes(profile: NodeProfile, settings: Settings) -> Iterator[NodeProfile]:
    """Give a node's profile as jobs get it: with its GPUs, and where there are some, without."""
    yield profile
    if profile.gpus.devices and settings.gpu_scope == "job":
        yield profile.allocated(())


def node_types(
    store: Store,
    nodes: Sequence[str],
    settings: Settings,
    distinction: Callable[[NodeProfile], Hashable] = lambda _: None,
) -> tuple[tuple[NodeType, ...], tuple[UnknownNode, ...]]:
    """Group nodes by what decides a choice; `nodes` empty means all that have published.

    `distinction` tells apart nodes whose facts are the same, as a policy that names nodes does.
    """
    found: dict[Hashable, tuple[NodeProfile, bool, list[str]]] = {}
    unknown = []
    for node in nodes or all_nodes(store):
        try:
            profile = read_profile(store, node)
        except HpcimgError as error:
            unknown.append(UnknownNode(node, error))
            continue
        for scope in scopes(profile, settings):
            spares = scope is not profile
            key = (scope.facts_digest(), distinction(scope), spares)
            found.setdefault(key, (scope, spares, []))[2].append(node)
    types = [NodeType(profile, tuple(names), spares) for profile, spares, names in found.values()]
    return tuple(types), tuple(unknown)
