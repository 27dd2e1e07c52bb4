"""Node-feature-discovery's image compatibility artifacts, translated into requirements.

Each translation implies what the artifact demands, a distribution's minor number apart, and what
cannot be said in words becomes an opaque one, which no node offers: nothing is dropped. Never
raises, whatever the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hpcimg.document import MistakeError, compose, construct, has_aliases
from hpcimg.features import Feature, distribution
from hpcimg.requirements import Requirement
from hpcimg.vocabulary import facts

COMPATIBILITY_TYPE = "application/vnd.nfd.image-compatibility.v1alpha1"
"""The type of the artifacts that are attached to an image."""

_VERSION = "v1alpha1"
_TEXT_LIMIT = 64 * 1024
_NUMBER_LIMIT = 1 << 63
_WORD_LIMIT = 96
_NUMBERS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,2}")
_UNSAFE = re.compile(r"[^a-z0-9._:|>=-]+")
_NVIDIA_GPU = Feature("nvcap", "1.0", ">=")
"""Any NVIDIA GPU: none that runs CUDA has a lower capability."""
_GPU_CLASSES = frozenset({"0300", "0302"})
_JOINABLE = frozenset({"cpuflag", "cpu", "fabric"})
_Words = tuple[Feature, ...]
_Flags = Mapping[str, str]
"""NFD's names of CPU flags, and Linux's for the same."""


class _UnreadableError(Exception):
    """The artifact has another form than the specification's."""


@dataclass(frozen=True)
class _Expression:
    operator: str
    values: tuple[str, ...]
    is_version: bool

    def single(self, operator: str) -> str | None:
        """Give the only value, where the operator is this one."""
        fits = self.operator == operator and len(self.values) == 1
        return self.values[0] if fits else None

    def __str__(self) -> str:
        return ":".join(filter(None, (self.operator, "|".join(self.values))))


def artifact_requirements(raw: bytes, architecture: str | None = None) -> tuple[Requirement, ...]:
    """Translate a compatibility artifact's document, YAML or JSON.

    Its compatibilities are alternatives, and so are the matchers of a `matchAny`. A word with
    alternatives says them all where it can; else the one that can be said whole and has the
    greatest weight stands for all, the first of equals: an image that meets it is compatible.
    `architecture` is that of the image, in the specification's words.
    """
    try:
        words = _document(_parsed(raw), facts()["cpuid_flags"].get(architecture, {}))
    except _UnreadableError as error:
        words = (_opaque("unreadable", str(error)),)
    return tuple(Requirement(word, "compatibility") for word in dict.fromkeys(words))


def _parsed(raw: bytes) -> Any:
    if len(raw) > _TEXT_LIMIT:
        raise _UnreadableError("too-long")
    try:
        root = compose(raw.decode("utf-8"))
        if has_aliases(root):
            raise _UnreadableError("aliases")
        return construct(root)
    except (UnicodeError, MistakeError) as error:
        raise _UnreadableError("not-yaml") from error


def _document(found: Any, flags: _Flags) -> _Words:
    whole = _mapping(found, "document")
    version = _text(whole.get("version"))
    if version != _VERSION:
        raise _UnreadableError(f"version-{version}")
    options = []
    for option in _mappings(whole.get("compatibilities"), "compatibilities"):
        weight = option.get("weight", 0)
        if isinstance(weight, bool) or not isinstance(weight, int):
            raise _UnreadableError("weight")
        rules = _mappings(option.get("rules"), "rules")
        options.append((-weight, tuple(word for rule in rules for word in _rule(rule, flags))))
    options.sort(key=lambda option: option[0])
    return _any_of([words for _, words in options])


def _rule(rule: dict[str, Any], flags: _Flags) -> _Words:
    words = _matchers(rule.get("matchFeatures"), flags)
    choices = _mappings(rule.get("matchAny"), "matchAny")
    options = [_matchers(choice.get("matchFeatures"), flags) for choice in choices]
    return (*words, *_any_of(options))


def _matchers(found: Any, flags: _Flags) -> _Words:
    terms = _mappings(found, "matchFeatures")
    return tuple(word for term in terms for word in _term(term, flags))


def _term(term: dict[str, Any], flags: _Flags) -> Iterator[Feature]:
    name = _text(term.get("feature"))
    written = term.get("matchExpressions") or {}
    expressions = {
        _text(key): _expression(value)
        for key, value in _mapping(written, "matchExpressions").items()
    }
    by_name = term.get("matchName")
    if by_name is not None:
        yield _named(name, _expression(by_name), flags)
    elif not expressions:
        yield _opaque(name)
    if expressions and name in _TOGETHER:
        together = (f"{key}:{each}" for key, each in sorted(expressions.items()))
        yield _TOGETHER[name](expressions) or _opaque(name, *together)
        return
    for key, expression in expressions.items():
        flag = flags.get(key) if (name, expression.operator) == ("cpu.cpuid", "Exists") else None
        known = Feature("cpuflag", flag) if flag else _alone(name, key, expression)
        yield known or _opaque(name, key, str(expression))


def _named(name: str, expression: _Expression, flags: _Flags) -> Feature:
    """Translate a match on names: any one of the named flags will do."""
    known = [flags[value] for value in expression.values if value in flags]
    whole = bool(known) and len(known) == len(expression.values)
    if whole and (name, expression.operator) == ("cpu.cpuid", "In"):
        return Feature("cpuflag", "|".join(sorted(set(known))))
    return _opaque(name, "name", str(expression))


def _any_of(options: list[_Words]) -> _Words:
    """Say that one of several will do; what is stricter than another of them needs no saying."""
    sets = [frozenset(words) for words in options]
    weakest = [
        words
        for at, words in enumerate(options)
        if not any(
            other < sets[at] or (other == sets[at] and before < at)
            for before, other in enumerate(sets)
        )
    ]
    if len(weakest) > 1 and all(len(words) == 1 for words in weakest):
        singles = [words[0] for words in weakest]
        kinds = {(one.kind, one.comparator) for one in singles}
        if len(kinds) == 1 and singles[0].kind in _JOINABLE:
            values = {value for one in singles for value in one.alternatives}
            return (replace(singles[0], value="|".join(sorted(values))),)
    whole = (words for words in weakest if all(word.kind for word in words))
    return next(whole, weakest[0] if weakest else ())


def _alone(name: str, key: str, expression: _Expression) -> Feature | None:
    """Translate an expression that means the same whatever stands beside it."""
    if (name, key) == ("kernel.version", "major"):
        return _least_kernel(expression)
    if (name, key) == ("kernel.version", "full") and expression.is_version:
        return _least_kernel(expression)
    if (name, key) == ("cpu.topology", "hardware_multithreading"):
        value = {"IsTrue": "on", "IsFalse": "off"}.get(expression.operator)
        return Feature("smt", value) if value else None
    # NVIDIA's module is loaded wherever a job's GPU of that make can be read.
    is_driver = name in {"kernel.loadedmodule", "kernel.enabledmodule"} and key == "nvidia"
    return _NVIDIA_GPU if is_driver and expression.operator == "Exists" else None


def _least_kernel(expression: _Expression) -> Feature | None:
    at_least = expression.single("Ge")
    more_than = expression.single("Gt")
    value = at_least or more_than
    if value is None or not _NUMBERS.fullmatch(value):
        return None
    if at_least:
        return Feature("kernel", value)
    numbers = [int(part) for part in value.split(".")]
    if expression.is_version:
        numbers += [0] * (3 - len(numbers))
    numbers[-1] += 1
    return Feature("kernel", ".".join(str(number) for number in numbers))


def _device(expressions: dict[str, _Expression]) -> Feature | None:
    """Translate what one PCI device must be; all its expressions speak of the same device."""
    if set(expressions) - {"vendor", "class"}:
        return None
    vendor = expressions.get("vendor")
    kind = expressions.get("class")
    classes = set(kind.values) if kind and kind.operator == "In" else set()
    if vendor is None:
        return Feature("fabric", "ib") if classes == {"0207"} else None
    is_gpu = kind is None or (bool(classes) and classes <= _GPU_CLASSES)
    return _NVIDIA_GPU if vendor.single("In") == "10de" and is_gpu else None


def _distribution(expressions: dict[str, _Expression]) -> Feature | None:
    """Translate a release as nodes tell theirs: with no minor number that names none."""
    if set(expressions) != {"ID", "VERSION_ID"}:
        return None
    name, release = (expressions[key].single("In") for key in ("ID", "VERSION_ID"))
    return Feature("os", distribution(name.lower(), release.lower())) if name and release else None


_TOGETHER = {"pci.device": _device, "system.osrelease": _distribution}


def _expression(found: Any) -> _Expression:
    document = _mapping(found, "expression")
    values = document.get("value")
    listed = values if isinstance(values, list) else [] if values is None else [values]
    is_version = document.get("type") == "version"
    return _Expression(_text(document.get("op")), tuple(_text(v) for v in listed), is_version)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and abs(value) < _NUMBER_LIMIT:
        return str(value)
    raise _UnreadableError("value")


def _mapping(found: Any, where: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise _UnreadableError(where)
    return found


def _mappings(found: Any, where: str) -> list[dict[str, Any]]:
    listed = [] if found is None else found
    if not isinstance(listed, list):
        raise _UnreadableError(where)
    return [_mapping(each, where) for each in listed]


def _opaque(*parts: str) -> Feature:
    """Name what cannot be said, on one line and bounded: it is shown as the reason."""
    text = _UNSAFE.sub("_", ":".join(("nfd", *filter(None, parts))).lower())
    return Feature("", text if len(text) <= _WORD_LIMIT else text[:_WORD_LIMIT] + "...")
