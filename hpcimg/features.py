"""The words that say what an image requires and a node offers, brought to one canonical form.

Owns spellings and aliases, by the vocabulary's facts; never says what satisfies what.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from hpcimg.errors import UsageError
from hpcimg.oci.model import normalise_platform
from hpcimg.quoting import quoted
from hpcimg.vocabulary import facts

if TYPE_CHECKING:
    from collections.abc import Iterable

_COMPARATOR = re.compile(r"(>=|=)?\s*(.*)", re.DOTALL)
_SITE_WORD = re.compile(r"(site\.[a-z0-9._-]+):(.+)")
_AMD_TARGET = re.compile(r"gfx[0-9][0-9a-f]*(-[0-9]+)*(-generic)?(:(xnack|sramecc)[+-])*")
_CAPABILITY = re.compile(r"(?:([0-9]{1,3})[._-]([0-9])|([0-9]{1,3})([0-9]))([af])?(\+ptx)?")
_VERSION = re.compile(r"[0-9]{1,9}(?:[._-][0-9]{1,9})*")
_NUMBERS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})*")
_VARIANT = re.compile(r"(?:variant[-_:=#/ ]\s*)?(v[0-9.]+)")
_SQUASHED = str.maketrans("", "", "-_ /=")
_PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9_-]+(/[a-z0-9._]+)?")
_ARCHITECTURES = ("386", "amd64", "arm", "arm64", "loong64", "ppc64", "ppc64le", "riscv64", "s390x")
_VERSIONED = frozenset({"nvdrv", "cuda", "rocm", "glibc", "kernel"})
# Their minor numbers are releases of their own, with other packages.
_WHOLE_RELEASE = frozenset({"ubuntu", "alpine", "opensuse-leap", "sles"})
_MODES = ("xnack", "sramecc")
_TEXT_LIMIT = 512
_SHOWN = 64


@dataclass(frozen=True)
class Feature:
    """One canonical word; without a kind it is opaque and only ever equals itself.

    `comparator` is empty where the kind's own comparison holds.
    """

    kind: str
    value: str
    comparator: str = ""

    @cached_property
    def word(self) -> str:
        """Its canonical word, which is what it is compared and shown by."""
        return f"{self.kind}:{self.comparator}{self.value}" if self.kind else self.value

    def __str__(self) -> str:
        return self.word

    @property
    def is_for_gpu(self) -> bool:
        """Tell whether it requires a GPU of the job."""
        return bool(facts()["kinds"].get(self.kind, {}).get("gpu"))

    @property
    def alternatives(self) -> tuple[str, ...]:
        """The values of which any one will do."""
        return tuple(self.value.split("|"))


@lru_cache(maxsize=4096)
def parse_feature(word: str, architecture: str | None = None) -> tuple[Feature, ...]:
    """Parse one word in any known spelling; what is not known stays opaque, nothing is refused.

    An approximate alias gives two features, a list with commas all of its own.
    `architecture` tells apart names that two families share, as in POWER.
    """
    found: list[Feature] = []
    for part in _printable(word.lower()).split(","):
        text = part.strip()
        if text:
            found.extend(_parse_text(text, architecture))
    return tuple(dict.fromkeys(found))


def canonical_words(words: Iterable[str], architecture: str | None = None) -> tuple[str, ...]:
    """Bring words to their canonical form, sorted, each once."""
    return tuple(sorted({str(f) for word in words for f in parse_feature(word, architecture)}))


def parse_platform_words(text: str) -> tuple[str, str, str | None, tuple[Feature, ...]]:
    """Parse `linux/amd64[/VARIANT][:WORD…]` into os, architecture, variant and features."""
    platform, *pieces = text.strip().lower().replace(",", ":").split(":")
    hint = "write linux/ARCHITECTURE and words after it, as in linux/amd64:broadwell:nvcap-5-2"
    if not _PLATFORM.fullmatch(platform):
        raise UsageError(f"{quoted(text)} is not a platform", hint)
    os, architecture, variant = normalise_platform(*platform.split("/"))
    if os != "linux" or architecture not in _ARCHITECTURES:
        raise UsageError(f"platform {quoted(platform)} is not known", hint)
    words = [f for word in _joined(pieces) for f in parse_feature(word, architecture)]
    return os, architecture, variant, tuple(dict.fromkeys(words))


def unknown_words(text: str) -> tuple[str, ...]:
    """List the words of a `--platform` text that are opaque: misspelt ones look just like that."""
    return tuple(f.value for f in parse_platform_words(text)[3] if not f.kind)


def version_of(text: str) -> tuple[int, ...]:
    """Read a version's numbers for comparison; what is no version is older than all."""
    return tuple(int(n) for n in text.split(".")) if _NUMBERS.fullmatch(text) else ()


def is_meaningful(feature: Feature) -> bool:
    """Tell whether some node could satisfy it: no opaque word, no misspelt target or number."""
    values = feature.alternatives
    if feature.kind == "cpu":
        return all(value in facts()["cpu_targets"] for value in values)
    if feature.kind == "nvcap":
        return all(_CAPABILITY.fullmatch(value) and "." in value for value in values)
    if feature.kind == "amdgpu":
        return all(_AMD_TARGET.fullmatch(value) for value in values)
    if feature.kind in _VERSIONED:
        return all(_VERSION.fullmatch(value) for value in values)
    return bool(feature.kind)


def variant_word(architecture: str, variant: str) -> str:
    """Say in words which CPU level a platform's variant means."""
    known: str | None = facts()["variants"].get(architecture, {}).get(variant)
    return known or f"variant:{variant}"


def distribution(name: str, version: str) -> str:
    """Spell the value of an `os` word: only the major number where that names a release."""
    if name not in _WHOLE_RELEASE:
        version = version.partition(".")[0]
    return f"{name}:{version}" if name and version else name


def _printable(text: str) -> str:
    """Escape what could drive a terminal; images are named by strangers."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if " " <= c <= "~" else f"\\x{ord(c):02x}" for c in text)


def _parse_text(text: str, architecture: str | None) -> list[Feature]:
    if len(text) > _TEXT_LIMIT:
        # An opaque word, since nothing offers it; its start shows in reasons, records and lists.
        return [Feature("", f"too-long:{text[:_SHOWN]}...")]
    for form in _forms(text):
        site = _SITE_WORD.fullmatch(form)
        if site:
            return [Feature(site[1], site[2].strip())]
        found = _cpu_target(form, architecture)
        if found:
            return found
        if _AMD_TARGET.fullmatch(form):
            return [Feature("amdgpu", _amd_target(form))]
        found = _of_kind(form, architecture)
        if found:
            return found
    return _of_variant(text, architecture) or [Feature("", text)]


def _forms(text: str) -> list[str]:
    """List a text and what is left of it without the folders of EESSI's paths."""
    forms = [text]
    for form in forms:
        rests = [form[len(p) :] for p in facts()["path_prefixes"] if form.startswith(p)]
        forms += [rest for rest in rests if rest not in forms]
    return forms


def _of_variant(text: str, architecture: str | None) -> list[Feature]:
    """Read a platform's variant that is written as a feature; it means nothing by itself."""
    match = _VARIANT.fullmatch(text)
    known: dict[str, str] = facts()["variants"].get(architecture, {})
    if match is None or match[1] not in known:
        return []
    kind, _, value = known[match[1]].partition(":")
    return [Feature(kind, value)]


@lru_cache(maxsize=1)
def _cpu_names() -> dict[str, tuple[Feature, ...]]:
    """Every known CPU name without its separators, and what it stands for."""
    names: dict[str, tuple[Feature, ...]] = {
        name.translate(_SQUASHED): (Feature("cpu", name),) for name in facts()["cpu_targets"]
    }
    for alias, meaning in facts()["cpu_aliases"].items():
        words = (word.partition(":") for word in meaning["features"])
        names[alias] = tuple(Feature(kind, value) for kind, _, value in words)
    return names


def _cpu_target(text: str, architecture: str | None) -> list[Feature]:
    found = _cpu_names().get(text.translate(_SQUASHED), ())
    renamed = facts()["cpu_by_architecture"].get(architecture, {})
    return [
        replace(f, value=renamed.get(f.value, f.value)) if f.kind == "cpu" else f for f in found
    ]


def _cpu_path(text: str, architecture: str | None) -> list[Feature]:
    found = (_cpu_target(form, architecture) for form in _forms(text))
    return next(filter(None, found), [])


@lru_cache(maxsize=1)
def _kind_pattern() -> re.Pattern[str]:
    words = sorted(facts()["kind_words"], key=len, reverse=True)
    # A word may be spelled with either separator inside: nv-compute, nv_compute.
    spelled = "|".join(re.escape(word).replace(r"\-", "[-_]") for word in words)
    return re.compile(rf"({spelled})([-_:=#/]?)(.+)", re.DOTALL)


def _of_kind(text: str, architecture: str | None) -> list[Feature]:
    match = _kind_pattern().fullmatch(text)
    if match is None:
        return []
    word, value = match[1].replace("_", "-"), match[3].strip()
    numeric = re.match(r"(>=|=)?\s*[0-9]", value) is not None
    if not match[2] and not (numeric and word in facts()["glued_words"]["words"]):
        return []
    if not numeric and match[2] != ":" and word in facts()["numeric_words"]["words"]:
        return []
    value = "|".join(_alternative(word, part.strip()) for part in value.split("|"))
    return _with_value(facts()["kind_words"][word], value, architecture)


def _alternative(word: str, text: str) -> str:
    """Take from one of several values the word of their kind, where it is repeated there."""
    kinds = facts()["kind_words"]
    again = _kind_pattern().fullmatch(text)
    while again and kinds[again[1].replace("_", "-")] == kinds[word]:
        if not again[2] and not again[3][:1].isdecimal():
            break
        word, text = again[1].replace("_", "-"), again[3].strip()
        again = _kind_pattern().fullmatch(text)
    is_portable = word in facts()["ptx_words"]["words"] and not text.endswith("+ptx")
    return f"{text}+ptx" if is_portable else text


def _with_value(kind: str, text: str, architecture: str | None) -> list[Feature]:
    match = _COMPARATOR.fullmatch(text)
    comparator, value = (match[1] or "", match[2].strip()) if match else ("", text)
    row = facts()["kinds"][kind]
    if comparator == row["comparator"]:
        comparator = ""
    parts = [part.strip() for part in value.split("|")]
    if not all(parts) or (comparator and comparator not in row.get("comparators", ())):
        return []  # opaque: what nobody judges must not pass for judged
    if kind == "cpu":
        return _with_target(parts, comparator, architecture)
    if kind == "nvcap":
        codes = sorted({_capability(part) for part in parts}, key=_by_number)
        return [Feature(kind, "|".join(codes), comparator)]
    known = facts()["value_aliases"].get(kind, {})
    plain = {known.get(one, one) for one in (_plain(kind, part) for part in parts)}
    return [Feature(kind, "|".join(sorted(plain)), comparator)]


def _plain(kind: str, value: str) -> str:
    """Spell a single value: versions with dots, sizes short, an AMD target's modes in order."""
    if kind == "amdgpu":
        return _amd_target(value)
    if kind in _VERSIONED and _VERSION.fullmatch(value):
        return re.sub("[-_]", ".", value)
    return re.sub(r"xlarge$", "xl", value) if kind == "instsize" else value


def _amd_target(text: str) -> str:
    """Put the modes in LLVM's order, each once."""
    processor, *modes = text.split(":")
    return ":".join((processor, *sorted(set(modes))))


def _with_target(parts: list[str], comparator: str, architecture: str | None) -> list[Feature]:
    known = [_cpu_path(part, architecture) for part in parts]
    if len(known) == 1 and known[0]:
        return [replace(f, comparator=comparator) if f.kind == "cpu" else f for f in known[0]]
    names = [
        found[0].value if len(found) == 1 else re.sub("[- ]", "_", part)
        for found, part in zip(known, parts, strict=True)
    ]
    return [Feature("cpu", "|".join(sorted(set(names))), comparator)]


def _capability(text: str) -> str:
    """Spell a compute capability `M.m`; without a dot the last digit is the minor number."""
    match = _CAPABILITY.fullmatch(text)
    if match is None:
        return text
    major, minor = (match[1], match[2]) if match[1] else (match[3], match[4])
    return f"{int(major)}.{minor}{match[5] or ''}{match[6] or ''}"


def _by_number(capability: str) -> tuple[int, str]:
    head = capability.partition(".")[0]
    return (int(head), capability) if head.isdigit() and len(head) < 4 else (-1, capability)


def _joined(pieces: list[str]) -> list[str]:
    """Join what the colons of canonical words have split: `cpu`, `broadwell`; `os`, `rhel`, `9`."""
    words: list[str] = []
    waiting = False
    for piece in pieces:
        is_release = bool(words) and words[-1].startswith("os:") and piece[:1].isdigit()
        if words and (waiting or is_release or piece.startswith(_MODES)):
            words[-1] += ":" + piece
            waiting = False
        else:
            words.append(piece)
            is_kind = piece == "variant" or piece.replace("_", "-") in facts()["kind_words"]
            waiting = is_kind or piece.startswith("site.")
    return words
