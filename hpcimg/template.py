"""Tags read by a template: which words a tag like `cpu_broadwell-nvcap_52` stands for.

Only here are `-` and `_` boundaries of words; features themselves are never split at them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpcimg.errors import UsageError
from hpcimg.features import is_meaningful, parse_feature
from hpcimg.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS = {
    "cpu": frozenset({"cpu", "cpuflag"}),
    "gpu": frozenset({"nvcap", "amdgpu", "intelgpu"}),
    "driver": frozenset({"nvdrv", "cuda", "rocm"}),
}
_NAMES = (*_KINDS, "version", "any")
_NOTHING = {
    "cpu": frozenset(
        {"generic", "amd64", "x86_64", "x86-64", "arm64", "aarch64", "ppc64le", "riscv64"}
    ),
    "gpu": frozenset({"generic", "nogpu", "none"}),
    "driver": frozenset({"generic", "none"}),
}
"""What a tag says in the place of a word where the build requires nothing."""
_VERSION = re.compile(r"v?[0-9]+(?:\.[0-9]+)*(?:[._-]?(?:rev|rc|r|p|alpha|beta)?[0-9]+)*")
_SEPARATORS = "-_"
_HINT = "write REPOSITORY:TEMPLATE with {cpu}, {gpu}, {driver}, {version} or {any} in its tag"


@dataclass(frozen=True)
class Reading:
    """What a tag says: the canonical words that its build requires, and its version."""

    words: tuple[str, ...]
    version: str = ""


@dataclass(frozen=True)
class TagTemplate:
    """A tag with places for words; a piece is a place's name or a plain text.

    `{cpu}`, `{gpu}` and `{driver}` may be missing in a tag, with one separator beside them.
    """

    pieces: tuple[tuple[str, str], ...]

    def read(self, tag: str) -> Reading | None:
        """Read a tag, None when it does not have this form; the fullest reading counts."""
        for pieces in _shortened(self.pieces):
            found = next(_read(pieces, tag.lower(), ()), None)
            if found is not None:
                words = {word for place, text in found for word in _words(place, text)}
                versions = [text for place, text in found if place == "version"]
                return Reading(tuple(sorted(words)), versions[0] if versions else "")
        return None


def parse_template(text: str) -> TagTemplate:
    """Parse the tag of a template; raises UsageError."""
    pieces: list[tuple[str, str]] = []
    for part in re.split(r"(\{[^{}]*\})", text):
        name = part[1:-1] if part.startswith("{") else ""
        if name and name not in _NAMES:
            raise UsageError(f"template {quoted(text)}: {quoted(part)} is no place", _HINT)
        if name:
            pieces.append((name, ""))
        else:
            pieces += [("", piece) for piece in re.split(r"([-_])", part.lower()) if piece]
    places = [name for name, _ in pieces if name]
    if not places:
        raise UsageError(f"template {quoted(text)} has no place for a word", _HINT)
    if any(places.count(name) > 1 for name in places):
        raise UsageError(f"template {quoted(text)} has a place twice", _HINT)
    return TagTemplate(tuple(pieces))


def _shortened(pieces: tuple[tuple[str, str], ...]) -> Iterator[tuple[tuple[str, str], ...]]:
    """Give the template, then it with ever more places left out, each of them once."""
    waiting, seen = [pieces], set()
    while waiting:
        form = waiting.pop(0)
        # What is left of {any}-{cpu} without its word would fit every tag.
        says_nothing = all(name == "any" or text in tuple(_SEPARATORS) for name, text in form)
        if says_nothing or form in seen:
            continue
        seen.add(form)
        yield form
        for at, (name, _) in enumerate(form):
            if name in _KINDS:
                waiting.append(_without(form, at))


def _without(pieces: tuple[tuple[str, str], ...], at: int) -> tuple[tuple[str, str], ...]:
    """Leave out a place with the separator after it, or else the one before it."""
    before, after = pieces[:at], pieces[at + 1 :]
    if after and after[0][1] in tuple(_SEPARATORS):
        return before + after[1:]
    if before and before[-1][1] in tuple(_SEPARATORS):
        return before[:-1] + after
    return before + after


def _read(
    pieces: tuple[tuple[str, str], ...], rest: str, found: tuple[tuple[str, str], ...]
) -> Iterator[tuple[tuple[str, str], ...]]:
    """Try every way to divide the rest of a tag among the pieces, the longest texts first."""
    if not pieces:
        if not rest:
            yield found
        return
    (name, text), following = pieces[0], pieces[1:]
    if not name:
        same = text in _SEPARATORS and rest[:1] in tuple(_SEPARATORS)
        if same or rest.startswith(text):
            yield from _read(following, rest[len(text) :], found)
        return
    for end in range(len(rest), 0, -1):
        if _fits(name, rest[:end]):
            yield from _read(following, rest[end:], (*found, (name, rest[:end])))


def _fits(name: str, text: str) -> bool:
    if text.strip(_SEPARATORS) != text:
        return False
    if name == "any":
        return True
    if name == "version":
        return _VERSION.fullmatch(text) is not None
    features = parse_feature(text)
    known = all(f.kind in _KINDS[name] and is_meaningful(f) for f in features)
    return text in _NOTHING[name] or (bool(features) and known)


def _words(name: str, text: str) -> tuple[str, ...]:
    if name not in _KINDS or text in _NOTHING[name]:
        return ()
    return tuple(str(feature) for feature in parse_feature(text))
