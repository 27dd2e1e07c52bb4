"""Requirements of one image that disagree, or that no machine can satisfy together.

Judges words only; asks archspec which targets there are, so it is for authors, not for launches.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations, product
from typing import TYPE_CHECKING

from hpcimg import targets
from hpcimg.features import is_meaningful, version_of
from hpcimg.gpu_rules import VENDOR_OF
from hpcimg.node.profile import Gpu, GpuFacts, NodeProfile
from hpcimg.quoting import cut
from hpcimg.satisfaction import unsatisfied
from hpcimg.vocabulary import facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from hpcimg.features import Feature
    from hpcimg.requirements import Requirement

_EQUAL_KINDS = frozenset({"smt", "inst", "instsize", "os"})
_LAST = 10**9
_NEWEST = "999999999.0"
_LIST_SHOWN = 160
_WORDS_COMPARED = 32
"""Of one kind: each is tried with each other, and nobody writes so many."""
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
        if len(kind) < _WORDS_COMPARED and one.feature not in kind and is_meaningful(one.feature):
            kind.append(one.feature)
    sentences = [
        *_disagreements(found),
        *_of_other_machines(words.get("cpu", ()), architecture),
        *(line for kind, excludes in _RULES.items() for line in excludes(words.get(kind, ()))),
        *_of_two_vendors(words),
        *_of_toolkits(words.get("cuda", ()), words.get("nvcap", ())),
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
    return cut(",".join(sorted(words)), _LIST_SHOWN)


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


def _of_two_vendors(words: Mapping[str, Sequence[Feature]]) -> Iterator[str]:
    """GPUs of two vendors are always refused: no image is for both."""
    first = {VENDOR_OF[kind]: words[kind][0] for kind in VENDOR_OF if words.get(kind)}
    for one, other in combinations(first.values(), 2):
        yield f"no image runs on GPUs of two vendors, as {one} and {other} say"


def _of_toolkits(toolkits: Sequence[Feature], codes: Sequence[Feature]) -> Iterator[str]:
    """A toolkit no longer knows the oldest GPUs; the code may be for just those."""
    for toolkit, code in product(toolkits, codes):
        if not any(
            not unsatisfied(_with_gpu(each), code)
            and not unsatisfied(_with_gpu(each), toolkit, (code,))
            for each in _CAPABILITIES
        ):
            yield f"no GPU has both {toolkit} and {code}"


@lru_cache(maxsize=256)
def _with_gpu(capability: str) -> NodeProfile:
    """Make a node with one such GPU and a driver that runs everything."""
    devices = (Gpu(0, "", "", capability),)
    gpus = GpuFacts("present", driver=_NEWEST, cuda=_NEWEST, devices=devices)
    return NodeProfile("", "linux", "amd64", gpus=gpus)


def _exclude_amd(one: Feature, other: Feature) -> bool:
    return not any(_is_one_gpu(*pair) for pair in product(one.alternatives, other.alternatives))


def _is_one_gpu(*codes: str) -> bool:
    """Tell whether one AMD GPU, in one mode, can run both codes."""
    (one, _, modes), (other, _, more) = (code.partition(":") for code in codes)
    signs = {(mode[:-1], mode[-1]) for mode in (*modes.split(":"), *more.split(":")) if mode}
    generic: dict[str, list[str]] = facts()["amd_generic"]
    members = [{name, *generic.get(name, ())} for name in (one, other)]
    is_unknown = any(name.endswith("-generic") and name not in generic for name in (one, other))
    agree = len({mode for mode, _ in signs}) == len(signs)
    return agree and (is_unknown or not members[0].isdisjoint(members[1]))


def _exclude_intel(one: Feature, other: Feature) -> bool:
    return "spirv" not in one.alternatives + other.alternatives and _exclude_values(one, other)


def _exclude_kernels(one: Feature, other: Feature) -> bool:
    named = [version_of(value) for value in one.alternatives + other.alternatives]
    # Of 5.14 the last release is the one that most words allow.
    kernels = [*named, *((*version, _LAST) for version in named)]
    return not any(_is_kernel(each, one) and _is_kernel(each, other) for each in kernels)


def _is_kernel(have: tuple[int, ...], feature: Feature) -> bool:
    needs = [version_of(value) for value in feature.alternatives]
    if feature.comparator == "=":
        return any(have[: len(need)] == need for need in needs)
    return any(have >= need for need in needs)


_RULES: dict[str, Callable[[Sequence[Feature]], Iterator[str]]] = {
    "cpu": _pairs(_exclude_cpus, "no known CPU"),
    "nvdrv": _pairs(_exclude_drivers, "no node"),
    "nvcap": _pairs(_exclude_capabilities, "no GPU"),
    "amdgpu": _pairs(_exclude_amd, "no GPU"),
    "intelgpu": _pairs(_exclude_intel, "no GPU"),
    "kernel": _pairs(_exclude_kernels, "no node"),
    **dict.fromkeys(sorted(_EQUAL_KINDS), _pairs(_exclude_values, "no node")),
}
