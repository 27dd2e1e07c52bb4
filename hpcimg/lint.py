"""What is wrong with an index, entry by entry: findings with a severity, a code and a remedy.

Judges entries with their requirements from all places; fetches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from hpcimg.contradictions import contradictions
from hpcimg.features import is_meaningful
from hpcimg.oci.model import MANIFEST_TYPES
from hpcimg.quoting import cut
from hpcimg.requirements import FEATURES_ANNOTATION, WEIGHT, WEIGHT_ANNOTATION, Entry
from hpcimg.targets import ancestors
from hpcimg.vocabulary import facts

Severity = Literal["error", "warning", "note"]
_ORDER = ("error", "warning", "note")
_OUTSIDE = ("labels", "environment", "compatibility")
_INDEX = "the index"
_WORDS_SHOWN = 60
_LIST_SHOWN = 400


@dataclass(frozen=True)
class Finding:
    """One finding: how bad, which, where, what, and what to do; no digest: the index as a whole."""

    severity: Severity
    code: str
    where: str
    digest: str
    message: str
    hint: str


@dataclass(frozen=True)
class _Image:
    """An entry that can be chosen, with its place and name in the findings, and its words."""

    at: int
    where: str
    entry: Entry
    words: frozenset[str]

    @property
    def platform(self) -> tuple[str, str]:
        platform = self.entry.descriptor.platform
        return ("", "") if platform is None else (platform.os, platform.architecture)

    @property
    def digest(self) -> str:
        return self.entry.descriptor.digest


def lint(entries: Sequence[Entry]) -> tuple[Finding, ...]:
    """Find what is wrong with the entries of an index; the worst first, then by their order."""
    images = [
        _Image(at, _name(at, entry), entry, frozenset(str(one) for one in entry.features))
        for at, entry in enumerate(entries, 1)
        if not entry.skip and _is_image(entry)
    ]
    skipped = [
        Finding(
            "error",
            "unreadable",
            _name(at, entry),
            entry.descriptor.digest,
            f"it {entry.skip}, so nothing chooses it",
            "correct it and push the image or the index again",
        )
        for at, entry in enumerate(entries, 1)
        if entry.skip
    ]
    if not images and not skipped:
        hint = "push images with `hpcimg index push`"
        return (Finding("error", "no-image", _INDEX, "", "it has no entry with an image", hint),)
    found = [
        *skipped,
        *(finding for image in images for finding in _of_one(image)),
        *_of_generic(images),
        *_of_twins(images),
    ]
    return tuple(sorted(found, key=lambda finding: _ORDER.index(finding.severity)))


def _is_image(entry: Entry) -> bool:
    """Leave out attestations and nested indexes: nobody chooses them."""
    platform = entry.descriptor.platform
    is_unknown = platform is not None and platform.is_unknown
    return entry.descriptor.media_type in MANIFEST_TYPES and not is_unknown


def _name(at: int, entry: Entry) -> str:
    words = ",".join(str(feature) for feature in entry.features) or "generic"
    return f"entry {at} ({cut(words, _WORDS_SHOWN)})"


def _of_one(image: _Image) -> Iterator[Finding]:
    for severity, code, message, hint in (
        *_of_platform(image),
        *_of_words(image),
        *_of_sources(image),
    ):
        yield Finding(severity, code, image.where, image.digest, message, hint)


_Row = tuple[Severity, str, str, str]


def _of_platform(image: _Image) -> Iterator[_Row]:
    os, architecture = image.platform
    platform = image.entry.descriptor.platform
    if not os or not architecture:
        yield (
            "error",
            "no-platform",
            "it does not say for which platform it is, so nothing chooses it",
            "write os and architecture; `hpcimg index push` reads them from the image",
        )
    elif platform is not None and platform.variant and architecture == "amd64":
        yield (
            "warning",
            "variant",
            f"docker, podman and containerd refuse an amd64 entry with variant {platform.variant}",
            "write the level as a feature, as in x86-64-v3, and leave the variant out",
        )


def _of_words(image: _Image) -> Iterator[_Row]:
    for sentence in contradictions(image.entry.requirements, image.platform[1] or None):
        hint = "all places count together: correct one of them"
        yield "error", "contradiction", sentence, hint
    for feature in image.entry.features:
        if not is_meaningful(feature):
            yield (
                "warning",
                "unknown-word",
                f"{feature} is no known word, so only a node told to offer it runs this",
                "correct its spelling (docs/reference/features.md), or use site.KEY:VALUE",
            )
        for flag in feature.alternatives if feature.kind == "cpuflag" else ():
            meant = _family(flag)
            if meant:
                yield (
                    "warning",
                    "ambiguous-flag",
                    f"{feature} is satisfied by any one of {', '.join(meant)}",
                    "name the flags that the code uses, as in cpuflag:avx512f",
                )
    for word in _spellings(image.entry):
        if _is_approximate(word):
            yield (
                "note",
                "approximate-name",
                f"{word!a} has no target of its own and counts as the nearest one",
                "check with `hpcimg explain` what it becomes, or name a known target",
            )


def _of_sources(image: _Image) -> Iterator[_Row]:
    descriptor = image.entry.descriptor
    by_source: dict[str, set[str]] = {}
    for one in image.entry.requirements:
        by_source.setdefault(one.source, set()).add(str(one.feature))
    if "features" in by_source and FEATURES_ANNOTATION not in descriptor.annotations:
        yield (
            "note",
            "no-annotation",
            "its features are not repeated in an annotation; tools that rewrite an index lose them",
            "push it with `hpcimg index push`, which writes both",
        )
    own = {word for source, words in by_source.items() if source not in _OUTSIDE for word in words}
    for source in _OUTSIDE:
        more = by_source.get(source, set()) - own
        if more:
            message = (
                f"the image's {source} also requires {cut(', '.join(sorted(more)), _LIST_SHOWN)}"
            )
            yield (
                "warning" if source == "labels" else "note",
                "says-more",
                message.replace("labels also requires", "labels also require"),
                "repeat it in the entry's features, or take it out of the image",
            )
    weight = descriptor.annotations.get(WEIGHT_ANNOTATION)
    if weight is not None and not WEIGHT.fullmatch(weight):
        yield "warning", "bad-weight", f"its weight {weight[:32]!a} is no number", "write a number"


def _family(flag: str) -> tuple[str, ...]:
    """Name the flags that a word for a whole family of them stands for."""
    meant = facts()["flag_aliases"]["flags"].get(flag, ())
    is_family = len(meant) > 1 and all(name.startswith(flag) and name != flag for name in meant)
    return tuple(meant) if is_family else ()


def _spellings(entry: Entry) -> tuple[str, ...]:
    """Give the words as their author wrote them."""
    platform = entry.descriptor.platform
    text = entry.descriptor.annotations.get(FEATURES_ANNOTATION, "")
    words = (*(platform.features if platform else ()), *text.split(","))
    return tuple(dict.fromkeys(word.strip() for word in words if word.strip()))


def _is_approximate(word: str) -> bool:
    name = re.sub(r"^cpu[-_:=#/]", "", word.lower())
    alias = facts()["cpu_aliases"].get(re.sub(r"[-_ ]", "", name), {})
    return bool(alias.get("approximate"))


def _of_generic(images: Sequence[_Image]) -> Iterator[Finding]:
    """Judge what engines that know no features take: the first entry of the right platform."""
    for platform in dict.fromkeys(image.platform for image in images if all(image.platform)):
        same = [image for image in images if image.platform == platform]
        generic = [image for image in same if not image.words]
        first, name = same[0], "/".join(platform)
        if not generic:
            yield Finding(
                "warning",
                "no-generic",
                _INDEX,
                "",
                f"it has no generic image for {name}, so other nodes are refused",
                f"add a build for plain {platform[1]}, without features",
            )
        if first.words:
            yield Finding(
                "error" if generic else "warning",
                "generic-not-first" if generic else "engine-pick",
                first.where,
                first.digest,
                f"it is the first for {name}, so docker, podman and containerd run it everywhere",
                "put the generic image first; `hpcimg index push` does",
            )


def _of_twins(images: Sequence[_Image]) -> Iterator[Finding]:
    """Find entries that another one always stands before, and images that stand twice."""
    best: dict[tuple[tuple[str, str], frozenset[str]], _Image] = {}
    same: dict[tuple[tuple[str, str], str], list[_Image]] = {}
    for image in images:
        needs = _essential(image)
        twin = best.setdefault((image.platform, needs), image)
        again = same.setdefault((image.platform, image.digest), [])
        if twin is not image:
            is_better = _standing(image) > _standing(twin)
            loser, winner = (twin, image) if is_better else (image, twin)
            best[image.platform, needs] = winner
            yield Finding(
                "warning",
                "unreachable",
                loser.where,
                loser.digest,
                f"entry {winner.at} requires the same and stands before it, so it is never chosen",
                "take one of them out, or say what tells them apart",
            )
        else:
            again.append(image)
    for first, *others in filter(None, same.values()):
        if others:
            numbers = ", ".join(str(image.at) for image in others)
            is_one = len(others) == 1
            yield Finding(
                "note",
                "same-image",
                others[0].where if is_one else f"entries {numbers}",
                first.digest,
                f"{'it is' if is_one else 'they are'} the same image as {first.where}",
                "one entry can say it all: join the values with |, as in cpu:skylake|zen2",
            )


def _essential(image: _Image) -> frozenset[str]:
    """Leave out CPU targets that another one of the same entry descends from."""
    named = [f for f in image.entry.features if f.kind == "cpu" and is_meaningful(f)]
    plain = [f for f in named if not f.comparator and len(f.alternatives) == 1]
    implied = {f"cpu:{target}" for f in plain for target in ancestors(f.value)}
    return image.words - {f.word for f in plain if f.word in implied}


def _standing(image: _Image) -> tuple[int, int]:
    """Say what decides between entries that require the same: the weight, then more words."""
    text = image.entry.descriptor.annotations.get(WEIGHT_ANNOTATION, "")
    return int(text) if WEIGHT.fullmatch(text) else 0, len(image.words)
