"""`node features`: the words by which Slurm can find a node's hardware, beside the site's own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpcimg.errors import HpcimgError, StoreError
from hpcimg.slurm import NodeFeatures, features_of_nodes, is_feature, node_name, nodes_of_partition
from hpcimg.store.profiles import read_profile
from hpcimg.store.store import site_store
from hpcimg.variant import gpu_words
from hpcimg.workflow.node_types import all_nodes
from hpcimg.workflow.profile import this_node

if TYPE_CHECKING:
    from hpcimg.node.profile import NodeProfile
    from hpcimg.settings import Settings

_OURS = re.compile(r"(?:cpu|nvcap|amdgpu|intelgpu|fabric):.*")
_LEVEL = re.compile(r"x86_64_v[0-9]")


@dataclass(frozen=True)
class Featured:
    """A node and its words; `left_out` are those that Slurm could not take.

    `error` says why its words are not known.
    """

    node: str
    words: tuple[str, ...]
    left_out: tuple[str, ...]
    error: HpcimgError | None = None


def featured_nodes(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    node: str | None = None,
    partition: str | None = None,
    everywhere: bool = False,
    compatible: bool = False,
) -> tuple[Featured, ...]:
    """Give the words of the named nodes' published profiles; without a name, of this node."""
    if node is None and partition is None and not everywhere:
        profile = this_node()
        return (_featured(node_name(environment) or profile.node, profile, compatible=compatible),)
    store = site_store(settings.store)
    if node is not None:
        names: tuple[str, ...] = (node,)
    else:
        names = nodes_of_partition(partition) if partition else all_nodes(store)
    found = []
    for name in names:
        try:
            found.append(_featured(name, read_profile(store, name), compatible=compatible))
        except StoreError as error:
            if not everywhere:
                raise
            found.append(Featured(name, (), (), error))
    return tuple(found)


def merged_features(found: Iterable[Featured]) -> dict[str, NodeFeatures | None]:
    """Merge each node's words with the features that Slurm has of it; None where it knows none."""
    known = features_of_nodes()
    return {
        one.node: merged(known[one.node], one.words) if one.node in known else None for one in found
    }


def merged(known: NodeFeatures, words: tuple[str, ...]) -> NodeFeatures:
    """Replace the words of our kinds, keep the site's own; what was inactive stays so."""
    kept = [word for word in known.available if not _OURS.fullmatch(word)]
    available = tuple(dict.fromkeys([*kept, *words]))
    inactive = set(known.available) - set(known.active)
    return NodeFeatures(available, tuple(word for word in available if word not in inactive))


def features_of(profile: NodeProfile, *, compatible: bool = False) -> tuple[str, ...]:
    """List what jobs may ask a node for: its CPU target and level, its GPUs, its fabrics."""
    targets = [profile.target] if profile.target else []
    targets += [t for t in profile.compatible if compatible or _LEVEL.fullmatch(t)]
    return tuple(
        dict.fromkeys(
            [
                *(f"cpu:{target}" for target in targets),
                *gpu_words(profile),
                *(word for word in profile.traits if word.startswith("fabric:")),
            ]
        )
    )


def _featured(node: str, profile: NodeProfile, *, compatible: bool) -> Featured:
    words = features_of(profile, compatible=compatible)
    return Featured(
        node,
        tuple(word for word in words if is_feature(word)),
        tuple(word for word in words if not is_feature(word)),
    )
