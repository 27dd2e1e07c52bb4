"""What an image's own metadata requires: labels and environment of its config, attached artifacts.

Pure and forgiving: images come from strangers, so bad text requires nothing and never raises.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from hpcimg.compatibility import COMPATIBILITY_TYPE, artifact_requirements
from hpcimg.features import Feature, parse_feature
from hpcimg.oci.model import DOCUMENT_LIMIT, normalise_platform
from hpcimg.requirements import FEATURES_ANNOTATION, TARGET_ANNOTATION, Requirement

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["COMPATIBILITY_TYPE", "artifact_requirements", "config_requirements"]

_TEXT_LIMIT = 4096
_NVIDIA = "NVIDIA_REQUIRE_"
_KINDS = {"cuda": ("cuda", ""), "driver": ("nvdrv", ""), "arch": ("nvcap", ">=")}
_TERM = re.compile(r"([a-z-]+)(>=|>|=|<=|<|!=)(.+)", re.IGNORECASE)
_VERSION = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,3}")
_CAPABILITY = re.compile(r"[0-9]{1,3}\.[0-9]")
_BRAND = "brand"
_Bounds = dict[str, str]
"""The least value that one alternative requires, for each name of a term."""


def config_requirements(raw: bytes) -> tuple[Requirement, ...]:
    """Read what an image's config requires, from its labels and its environment.

    `NVIDIA_REQUIRE_*` has NVIDIA's grammar: alternatives parted by spaces, each of terms parted by
    commas. A lower bound on which all alternatives agree becomes a word, so it is never stricter
    than NVIDIA's own tools: `cuda>=12.4` allows every driver that runs CUDA 12. Dropped are upper
    bounds, brands, and, beside others, the alternatives for certain brands: they hold where the
    image's own driver libraries take the host's place, which is not done here. CUDA_VERSION alone
    requires nothing, nor does an image that wants no GPU or has NVIDIA_DISABLE_REQUIRE.
    """
    document = _load(raw)
    config = document.get("config")
    if not isinstance(config, dict):
        return ()
    words = parse_architecture(document)
    return (*_of_labels(config.get("Labels"), words), *_of_environment(config.get("Env")))


def parse_architecture(document: dict[str, Any]) -> str | None:
    """Read the architecture of a config in the specification's words."""
    found = document.get("architecture")
    return normalise_platform("linux", found)[1] if isinstance(found, str) else None


def _load(raw: bytes) -> dict[str, Any]:
    if len(raw) > DOCUMENT_LIMIT:
        return {}
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _of_labels(labels: Any, architecture: str | None) -> Iterator[Requirement]:
    if not isinstance(labels, dict):
        return
    for name, start in ((FEATURES_ANNOTATION, ""), (TARGET_ANNOTATION, "cpu:")):
        text = labels.get(name)
        if not isinstance(text, str) or not text.strip():
            continue
        # Cut short it would lose requirements; as one word it is said to be too long.
        whole = text if len(text) <= _TEXT_LIMIT else text.replace(",", " ")
        for feature in parse_feature(start + whole, architecture):
            yield Requirement(feature, "labels")


def _of_environment(lines: Any) -> Iterator[Requirement]:
    if not isinstance(lines, list):
        return
    pairs = (line.partition("=") for line in lines if isinstance(line, str))
    environment = {name: value for name, _, value in pairs}
    off = environment.get("NVIDIA_DISABLE_REQUIRE", "").lower() in {"1", "true", "t"}
    if off or environment.get("NVIDIA_VISIBLE_DEVICES") in {"none", "void"}:
        return
    for name in sorted(environment):
        if name.startswith(_NVIDIA) and len(environment[name]) <= _TEXT_LIMIT:
            for feature in _of_expression(environment[name]):
                yield Requirement(feature, "environment")


def _of_expression(text: str) -> Iterator[Feature]:
    """Give the lower bounds that hold in every alternative, the least of each kind."""
    options = [_bounds(option) for option in text.split()]
    general = [found for found in options if found is None or _BRAND not in found] or options
    known = [found for found in general if found is not None]
    if len(known) < len(general):
        return
    for name, (kind, comparator) in _KINDS.items():
        if known and all(name in found for found in known):
            least = min((found[name] for found in known), key=_numbers)
            yield Feature(kind, least, comparator)


def _bounds(option: str) -> _Bounds | None:
    """Read one alternative; None when it is malformed, since it may then allow anything."""
    found: _Bounds = {}
    for term in filter(None, option.split(",")):
        match = _TERM.fullmatch(term)
        if match is None:
            return None
        name, comparator, value = match[1].lower(), match[2], match[3]
        if name in _KINDS:
            value = f"{value}.0" if name == "arch" and value.isdigit() else value
            if not (_CAPABILITY if name == "arch" else _VERSION).fullmatch(value):
                return None
            if comparator in {">=", ">", "="}:
                found[name] = max(found.get(name, value), value, key=_numbers)
        else:
            found[name] = value
    return found


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
