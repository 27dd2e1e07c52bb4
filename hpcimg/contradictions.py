"""Requirements of one image that disagree, or that no machine can satisfy together.

Judges words only; asks archspec which targets there are, so it is for authors, not for launches.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING

from hpcimg import targets
from hpcimg.features import is_meaningful, version_of
from hpcimg.node.profile import Gpu, GpuFacts, NodeProfile
from hpcimg.satisfaction import unsatisfied
from hpcimg.vocabulary import facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from hpcimg.features import Feature
    from hpcimg.requirements import Requirement

_EQUAL_KINDS = frozenset({"smt", "inst", "instsize", "os"})
_INDEX_SOURCES = ("annotation", "features")
_CAPABILITIES = tuple(f"{major}.{minor}" for major in range(1, 20) for minor in range(10))


def contradictions(
    requirements: Iterable[Requirement], architecture: str | None = None
) -> tuple[str, ...]:
    """Say, a sentence each, where sources disagree and which words exclude each other.

    `architecture` is the image's, in the specification's words; without it CPU targets are only
    compared with each other.
    """
    found = tuple(requirements)
    words: dict[str, list[Feature]] = {}
    for one in found:
        kind = words.setdefault(one.feature.kind, [])
        if one.feature not in kind and is_meaningful(one.feature):
            kind.append(one.feature)
    sentences = [
        *_disagreements(found),
        *_of_other_machines(words.get("cpu", ()), architecture),
        *(line for kind, excludes in _RULES.items() for line in excludes(words.get(kind, ()))),
    ]
    return tuple(dict.fromkeys(sentences))


def _disagreements(found: Sequence[Requirement]) -> Iterator[str]:
    """The index says one thing twice: in annotations and in features; both lists are its own."""
    said: dict[str, dict[str, set[str]]] = {source: {} for source in _INDEX_SOURCES}
    for one in found:
        if one.source in said:
            said[one.source].setdefault(one.feature.kind, set()).add(str(one.feature))
    first, second = (said[source] for source in _INDEX_SOURCES)
    for kind in sorted(set(first) & set(second)):
        if first[kind] != second[kind]:
            yield (
                f"its annotation says {_listed(first[kind])}, "
                f"its features say {_listed(second[kind])}"
            )


def _listed(words: Iterable[str]) -> str:
    return ",".join(sorted(words))


def _of_other_machines(words: Sequence[Feature], architecture: str | None) -> Iterator[str]:
    if architecture is None or targets.family_of(architecture) is None:
        return
    for word in words:
        if not any(targets.is_of(name, architecture) for name in word.alternatives):
            yield f"{word} is no target of {architecture}"


def _pairs(
    excludes: Callable[[Feature, Feature], bool], who: str
) -> Callable[[Sequence[Feature]], Iterator[str]]:
    """Make a rule of a test of two words."""

    def rule(words: Sequence[Feature]) -> Iterator[str]:
        for one, other in combinations(words, 2):
            if excludes(one, other):
                yield f"{who} has both {one} and {other}"

    return rule


def _exclude_cpus(one: Feature, other: Feature) -> bool:
    return not any(_is_cpu(name, one) and _is_cpu(name, other) for name in facts()["cpu_targets"])


def _is_cpu(name: str, feature: Feature) -> bool:
    if feature.comparator == "=":
        return name in feature.alternatives
    return not _runs(name).isdisjoint(feature.alternatives)


@lru_cache(maxsize=128)
def _runs(name: str) -> frozenset[str]:
    """Name what an ideal CPU of a target runs: by descent, and by what its flags allow."""
    return frozenset({name, *targets.ancestors(name), *targets.runs(name)})


def _exclude_values(one: Feature, other: Feature) -> bool:
    return set(one.alternatives).isdisjoint(other.alternatives)


def _exclude_drivers(one: Feature, other: Feature) -> bool:
    drivers = {*one.alternatives, *other.alternatives}
    return not any(_is_driver(each, one) and _is_driver(each, other) for each in drivers)


def _is_driver(driver: str, feature: Feature) -> bool:
    have, needs = version_of(driver), [version_of(value) for value in feature.alternatives]
    return have in needs if feature.comparator == "=" else any(have >= need for need in needs)


def _exclude_capabilities(one: Feature, other: Feature) -> bool:
    return not any(
        not unsatisfied(_with_gpu(each), one) and not unsatisfied(_with_gpu(each), other)
        for each in _CAPABILITIES
    )


@lru_cache(maxsize=256)
def _with_gpu(capability: str) -> NodeProfile:
    gpus = GpuFacts("present", devices=(Gpu(0, "", "", capability),))
    return NodeProfile("", "linux", "amd64", gpus=gpus)


def _exclude_amd(one: Feature, other: Feature) -> bool:
    names = [{value.partition(":")[0] for value in word.alternatives} for word in (one, other)]
    return not any(name.endswith("-generic") for name in names[0] | names[1]) and names[
        0
    ].isdisjoint(names[1])


_RULES: dict[str, Callable[[Sequence[Feature]], Iterator[str]]] = {
    "cpu": _pairs(_exclude_cpus, "no known CPU"),
    "nvdrv": _pairs(_exclude_drivers, "no node"),
    "nvcap": _pairs(_exclude_capabilities, "no GPU"),
    "amdgpu": _pairs(_exclude_amd, "no GPU"),
    **dict.fromkeys(sorted(_EQUAL_KINDS), _pairs(_exclude_values, "no node")),
}
