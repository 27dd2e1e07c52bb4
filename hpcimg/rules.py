"""A site's policy rules, read from its settings: each word is known, or an error names its line.

A rule that can never hold or change anything would be a silent mistake.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hpcimg.features import canonical_words, is_meaningful, parse_feature
from hpcimg.policy import CHANGES, KINDS, Avoid, PolicyRule
from hpcimg.quoting import quoted
from hpcimg.sections import near
from hpcimg.vocabulary import facts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hpcimg.features import Feature
    from hpcimg.sections import SectionReader

_DIGEST = re.compile(r"sha(?:256:[0-9a-f]{64}|512:[0-9a-f]{128})")
_HEAVIEST = 1e9
_LIKE_A_REGISTRY = re.compile(r"[^/]*[.:*?[][^/]*/.*|localhost/.*|\*")


def read_rules(reader: SectionReader, value: Any, registry: str) -> tuple[PolicyRule, ...]:
    """Read the list of rules; `registry` is what a repository without one means."""
    given = reader.sequence(value, ("policies",))
    return tuple(_rule(reader, one, ("policies", at), registry) for at, one in enumerate(given))


def _rule(reader: SectionReader, value: Any, at: tuple[object, ...], registry: str) -> PolicyRule:
    given = reader.section(value, PolicyRule, at)
    if not set(CHANGES) & {key for key, one in given.items() if one is not None}:
        raise reader.error(at, f"a rule changes nothing; it may set {', '.join(sorted(CHANGES))}")
    if given.get("policy", KINDS[0]) not in KINDS:
        message = f'"policy" is {" or ".join(KINDS)}, not {given["policy"]!r}'
        raise reader.error((*at, "policy"), message)
    if "repository" in given and not _LIKE_A_REGISTRY.fullmatch(given["repository"]):
        given["repository"] = f"{registry}/{given['repository']}"
    if "nodes" in given:
        given["nodes"] = reader.words(given["nodes"], (*at, "nodes"))
    if "targets" in given:
        given["targets"] = _targets(reader, given["targets"], (*at, "targets"))
    if "prefer" in given:
        words = reader.words(given["prefer"], (*at, "prefer"))
        given["prefer"] = _canonical(reader, words, (*at, "prefer"))
    if "avoid" in given:
        given["avoid"] = _avoided(reader, given["avoid"], (*at, "avoid"))
    if "weights" in given:
        given["weights"] = _weights(reader, given["weights"], (*at, "weights"))
    return PolicyRule(**given)


def _avoided(reader: SectionReader, value: Any, at: tuple[object, ...]) -> tuple[Avoid, ...]:
    """Read one or several of `{cpuflag: avx512f, on: [TARGET, ...]}`."""
    found: list[Avoid] = []
    for one in value if isinstance(value, list) else [value]:
        given = dict(reader.mapping(one, at))
        on = _targets(reader, given.pop("on", None), (*at, "on"))
        if len(given) != 1:
            raise reader.error(at, "write one of KIND: VALUE, and on: [TARGET, ...] beside it")
        ((kind, word),) = given.items()
        if kind not in facts()["kinds"]:
            raise reader.error((*at, kind), _unknown(str(kind), facts()["kinds"], "kind"))
        if not isinstance(word, str | int | float):
            raise reader.error((*at, kind), f"{quoted(kind)} must be a text, not {quoted(word)}")
        found += [Avoid(feature, on) for feature in _known(reader, f"{kind}:{word}", at)]
    return tuple(found)


def _targets(reader: SectionReader, value: Any, at: tuple[object, ...]) -> tuple[str, ...]:
    found: list[str] = []
    for word in reader.words(value, at):
        features = parse_feature(word if word.startswith("cpu") else f"cpu:{word}")
        names = [f.value for f in features if f.kind == "cpu"]
        if not set(names) <= set(facts()["cpu_targets"]) or not names:
            raise reader.error(at, _unknown(word, facts()["cpu_targets"], "CPU target"))
        found += names
    return tuple(found)


def _canonical(
    reader: SectionReader, words: Sequence[str], at: tuple[object, ...]
) -> tuple[str, ...]:
    return tuple(str(feature) for word in words for feature in _known(reader, word, at))


def _known(reader: SectionReader, word: str, at: tuple[object, ...]) -> tuple[Feature, ...]:
    """Parse a word that has to mean something; words of the site's own do."""
    found = parse_feature(word)
    if not found or not all(is_meaningful(feature) for feature in found):
        names = [*facts()["cpu_targets"], *facts()["cpu_aliases"]]
        raise reader.error(at, _unknown(word.removeprefix("cpu:"), names, "word"))
    return found


def _weights(
    reader: SectionReader, value: Any, at: tuple[object, ...]
) -> MappingProxyType[str, float]:
    """Read numbers by an image's whole digest, or by an entry's words joined with commas."""
    found: dict[str, float] = {}
    for key, number in reader.mapping(value, at).items():
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        # No number is no order either: it compares with nothing.
        if not is_number or not -_HEAVIEST <= number <= _HEAVIEST:
            raise reader.error((*at, key), f"{quoted(key)} must be a number, not {quoted(number)}")
        name = str(key)
        if name.startswith("sha") and not _DIGEST.fullmatch(name):
            raise reader.error((*at, key), f"{quoted(name)} is no whole digest")
        if not _DIGEST.fullmatch(name):
            name = ",".join(canonical_words(_canonical(reader, name.split(","), (*at, key))))
        found[name] = float(number)
    return MappingProxyType(found)


def _unknown(word: str, known: Iterable[str], what: str) -> str:
    """Say that a word is not known, and which one it may have been meant to be."""
    return f"{quoted(word)} is no known {what}{near(word, known)}"
