"""What several nodes offer together: the meet of their profiles, which each of them offers alone.

Knows no store and no job; the same profiles give the same meet on every node.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from hpcimg.errors import NoCandidateError
from hpcimg.node.profile import Gpu, GpuFacts, NodeProfile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_NAMED = 3
_NUMBER = re.compile(r"[0-9]+")


def meet(profiles: Iterable[NodeProfile]) -> NodeProfile:
    """Give what all of these nodes offer; of what they differ in, the least.

    Raises NoCandidateError for nodes of different platforms, which no image runs on.
    """
    nodes = sorted(profiles, key=lambda profile: profile.node)
    first = nodes[0]
    for other in nodes[1:]:
        if (other.os, other.architecture) != (first.os, first.architecture):
            raise NoCandidateError(
                f"the nodes are of different platforms: {first.node} is "
                f"{first.os}/{first.architecture}, {other.node} is {other.os}/{other.architecture}"
            )
    compatible = _common(profile.compatible for profile in nodes)
    return NodeProfile(
        node=name_nodes([profile.node for profile in nodes]),
        os=first.os,
        architecture=first.architecture,
        target=_same(profile.target for profile in nodes) or next(iter(compatible), None),
        compatible=compatible,
        flags=_common(profile.flags for profile in nodes),
        gpus=_gpus(nodes),
        kernel=_oldest(profile.kernel for profile in nodes) or "",
        vendor=_same(profile.vendor for profile in nodes) or "",
        model=_same(profile.model for profile in nodes) or "",
        words=_common(profile.words for profile in nodes),
        traits=_common(profile.traits for profile in nodes),
        glibc=_oldest(profile.glibc for profile in nodes) or "",
        injected_glibc=_newest(profile.injected_glibc for profile in nodes) or "",
        job_nodes=len(nodes),
        declared=all(profile.declared for profile in nodes),
        unknowns=tuple(dict.fromkeys(why for profile in nodes for why in profile.unknowns)),
        sources={"all": "meet"},
    )


def name_nodes(names: Sequence[str]) -> str:
    """Name a few nodes, and count the rest."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{','.join(names[:_NAMED])}{more}"


def _gpus(nodes: Sequence[NodeProfile]) -> GpuFacts:
    """Put all GPUs of all nodes together, since an image must run on every one of them."""
    wanted = any(profile.gpus.wanted for profile in nodes)
    for state in ("none", "unknown"):
        for profile in nodes:
            if profile.gpus.state == state:
                reason = f"{profile.node}: {profile.gpus.reason or f'its GPUs are {state}'}"
                return GpuFacts(state, reason, wanted=wanted)
    vendors = _common(tuple({gpu.vendor for gpu in profile.gpus.devices}) for profile in nodes)
    every = [gpu for profile in nodes for gpu in profile.gpus.devices if gpu.vendor in vendors]
    if not every and any(profile.gpus.devices for profile in nodes):
        return GpuFacts("none", "the nodes have GPUs of different vendors", wanted=wanted)
    return GpuFacts(
        "present",
        driver=_of_all(_oldest, [profile.gpus.driver for profile in nodes]),
        cuda=_of_all(_oldest, [profile.gpus.cuda for profile in nodes]),
        amd_driver=_of_all(_oldest, [profile.gpus.amd_driver for profile in nodes]),
        devices=_kinds(every),
        wanted=wanted,
    )


def _kinds(gpus: Iterable[Gpu]) -> tuple[Gpu, ...]:
    """Keep one GPU of each kind: a thousand equal ones say no more."""
    kinds = {(gpu.vendor, gpu.capability, gpu.target, gpu.mig, gpu.name): gpu for gpu in gpus}
    ordered = (kinds[key] for key in sorted(kinds))
    return tuple(replace(gpu, index=at, uuid="", slices=()) for at, gpu in enumerate(ordered))


def _common(lists: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Keep what stands in all, in the order of the first."""
    first, *rest = lists
    others = [frozenset(words) for words in rest]
    return tuple(word for word in first if all(word in other for other in others))


def _same(words: Iterable[str | None]) -> str | None:
    found = set(words)
    return found.pop() if len(found) == 1 else None


def _of_all(
    choose: Callable[[Iterable[str | None]], str | None], versions: Sequence[str | None]
) -> str | None:
    """Unknown on one node is unknown for all."""
    return choose(versions) if all(versions) else None


def _oldest(versions: Iterable[str | None]) -> str | None:
    return min(filter(None, versions), key=_numbers, default=None)


def _newest(versions: Iterable[str | None]) -> str | None:
    return max(filter(None, versions), key=_numbers, default=None)


def _numbers(version: str) -> tuple[list[int], str]:
    return [int(number) for number in _NUMBER.findall(version)], version
