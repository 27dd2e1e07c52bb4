"""What each image of an index requires, gathered from every place where it may be written.

Knows descriptors and words; fetches nothing, judges nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from hpcimg.features import Feature, parse_feature, variant_word

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hpcimg.oci.model import Descriptor, Index

FEATURES_ANNOTATION = "org.hpcimg.features"
"""A descriptor's annotation with its canonical words, separated by commas."""
TARGET_ANNOTATION = "org.supercontainers.hardware.cpu.target.microarch"
"""Another project's annotation that names the CPU target."""
WEIGHT_ANNOTATION = "org.hpcimg.weight"
"""A descriptor's annotation with its author's preference, a whole number; more is better."""
WEIGHT = re.compile(r"[+-]?[0-9]{1,9}")
"""How such a number is written."""

WORD_LIMIT = 256
"""How many words one place may have for one image."""

SOURCES = ("annotation", "features", "variant", "compatibility", "labels", "environment")
"""Where a requirement can be written; of two that say the same, the first is named."""


@dataclass(frozen=True)
class Requirement:
    """One required feature and the place, one of SOURCES, where it is written."""

    feature: Feature
    source: str


@dataclass(frozen=True)
class Entry:
    """One image behind a name, with all that it requires.

    `path` are the digests of the nested indexes that lead to it, outermost first; `skip` says why
    it is no image that can be chosen, and is empty where it is one.
    """

    descriptor: Descriptor
    requirements: tuple[Requirement, ...] = ()
    path: tuple[str, ...] = ()
    skip: str = ""

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """The required features, each once, in the order of their canonical words."""
        found = {str(one.feature): one.feature for one in self.requirements}
        return tuple(found[word] for word in sorted(found))

    def requiring(self, more: Iterable[Requirement]) -> Entry:
        """Add requirements: all places count, so the stricter word decides."""
        known = {*self.requirements}
        requirements = (*self.requirements, *(one for one in more if one not in known))
        return replace(self, requirements=requirements, skip=self.skip or too_many(requirements))


def entries_of(index: Index) -> tuple[Entry, ...]:
    """Give the index's own entries in its order; a nested index is one entry here."""
    return tuple(entry_of(descriptor) for descriptor in index.manifests)


def entry_of(descriptor: Descriptor) -> Entry:
    """Give one entry with what its descriptor says."""
    requirements = requirements_of(descriptor)
    return Entry(descriptor, requirements, skip=too_many(requirements))


def too_many(requirements: Iterable[Requirement]) -> str:
    """Say that one place has more words than are read, or nothing; such an image is not chosen."""
    words = Counter(one.source for one in requirements)
    is_over = max(words.values(), default=0) > WORD_LIMIT
    return f"has more than {WORD_LIMIT} words" if is_over else ""


def requirements_of(descriptor: Descriptor) -> tuple[Requirement, ...]:
    """Read what a descriptor requires, from its annotations, features and variant.

    Of a place that has more than WORD_LIMIT words, it gives as many as show that.
    """
    architecture = None if descriptor.platform is None else descriptor.platform.architecture
    return tuple(
        Requirement(feature, source)
        for source, words in _written(descriptor).items()
        for word in words[: WORD_LIMIT + 1]
        for feature in parse_feature(word, architecture)
    )


def _written(descriptor: Descriptor) -> dict[str, list[str]]:
    """Give the words of each place, each spelling once."""
    target = descriptor.annotations.get(TARGET_ANNOTATION)
    annotation = [descriptor.annotations.get(FEATURES_ANNOTATION, ""), target and f"cpu:{target}"]
    written = {"annotation": ",".join(filter(None, annotation))}
    platform = descriptor.platform
    if platform is not None:
        written["features"] = ",".join(platform.features)
        if platform.variant:
            written["variant"] = variant_word(platform.architecture, platform.variant)
    return {
        source: [word for word in dict.fromkeys(text.split(",")) if word.strip()]
        for source, text in written.items()
    }
