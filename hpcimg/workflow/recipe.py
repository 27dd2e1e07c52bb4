"""The YAML that an index is made from, in the form that manifest-tool established.

Owns its grammar; knows no registry. A key that stands twice or is unknown is an error with its
line, since a forgotten dash would otherwise lose entries in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from hpcimg.document import MistakeError, compose
from hpcimg.errors import UsageError
from hpcimg.quoting import quoted
from hpcimg.requirements import FEATURES_ANNOTATION, TARGET_ANNOTATION, WEIGHT, WEIGHT_ANNOTATION

if TYPE_CHECKING:
    import yaml

TEXT_LIMIT = 1 << 20
DEPTH_LIMIT = 8
NODE_LIMIT = 100_000
"""Values in one file, aliases counted as often as they are used."""

_KEYS = ("image", "tags", "manifests")
_ENTRY_KEYS = ("image", "platform", "annotations", "weight")
_PLATFORM_KEYS = {
    "os": "os",
    "architecture": "architecture",
    "variant": "variant",
    "features": "features",
    "osfeatures": "os_features",
    "osFeatures": "os_features",
    "os.features": "os_features",
    "osversion": "os_version",
    "osVersion": "os_version",
    "os.version": "os_version",
}
_LISTS = frozenset({"features", "os_features"})
_WRITTEN_FOR = {
    FEATURES_ANNOTATION: "platform.features",
    TARGET_ANNOTATION: "platform.features",
    WEIGHT_ANNOTATION: "weight",
}
"""Annotations that are made from other keys, which to write instead."""


@dataclass(frozen=True)
class RecipeEntry:
    """One image as the author wrote it; what is None is read from the image."""

    image: str
    os: str | None = None
    architecture: str | None = None
    variant: str | None = None
    features: tuple[str, ...] = ()
    os_version: str | None = None
    os_features: tuple[str, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    weight: int | None = None


@dataclass(frozen=True)
class Recipe:
    """An index to be made: its name, further tags of it, its entries in the author's order."""

    image: str
    tags: tuple[str, ...]
    entries: tuple[RecipeEntry, ...]


@dataclass(frozen=True)
class _Node:
    """A YAML value that remembers its line; `value` is text, a list of nodes or a dict of them."""

    value: str | list[_Node] | dict[str, _Node] | None
    line: int


def parse_recipe(text: str, *, source: str = "manifest.yml") -> Recipe:
    """Parse the YAML of an index; raise UsageError that names `source` and the line."""
    return _Parser(source).recipe(text)


def recipe_text(recipe: Recipe) -> str:
    """Write a recipe as YAML that `parse_recipe` reads as the same."""
    import yaml

    entries = [
        {"image": entry.image, "platform": {"features": list(entry.features)}}
        if entry.features
        else {"image": entry.image}
        for entry in recipe.entries
    ]
    document = {"image": recipe.image, "manifests": entries}
    text: str = yaml.safe_dump(document, sort_keys=False, width=200)
    return text


class _Parser:
    def __init__(self, source: str) -> None:
        self.source = source
        self.count = 0

    def recipe(self, text: str) -> Recipe:
        top = self.mapping(self.load(text), _KEYS, "the file")
        entries = self.nodes(top.get("manifests"), "manifests")
        if not entries:
            line = top["manifests"].line if "manifests" in top else 1
            self.fail(line, '"manifests" has no entry')
        return Recipe(
            image=self.word(top, "image", 1),
            tags=tuple(self.text(node, "tags") for node in self.nodes(top.get("tags"), "tags")),
            entries=tuple(self.entry(node) for node in entries),
        )

    def entry(self, node: _Node) -> RecipeEntry:
        fields = self.mapping(node, _ENTRY_KEYS, "an entry of manifests")
        platform: dict[str, Any] = {}
        if "platform" in fields and fields["platform"].value is not None:
            written = self.mapping(fields["platform"], tuple(_PLATFORM_KEYS), "platform")
            for key, value in written.items():
                name = _PLATFORM_KEYS[key]
                if name in platform:
                    self.fail(value.line, f'"{key}" stands twice, in two spellings')
                platform[name] = self.field(value, key, is_list=name in _LISTS)
        return RecipeEntry(
            image=self.word(fields, "image", node.line),
            annotations=self.annotations(fields.get("annotations")),
            weight=self.weight(fields.get("weight")),
            **platform,
        )

    def annotations(self, node: _Node | None) -> tuple[tuple[str, str], ...]:
        if node is None or node.value is None:
            return ()
        if not isinstance(node.value, dict):
            self.fail(node.line, '"annotations" must be a mapping of keys to texts')
        for key, value in node.value.items():
            if key in _WRITTEN_FOR:
                what = f"{quoted(key)} is written by hpcimg"
                self.fail(value.line, what, f"write {_WRITTEN_FOR[key]} instead")
        return tuple((key, self.text(value, key)) for key, value in sorted(node.value.items()))

    def weight(self, node: _Node | None) -> int | None:
        if node is None or node.value is None:
            return None
        if not isinstance(node.value, str) or not WEIGHT.fullmatch(node.value):
            self.fail(node.line, '"weight" must be a whole number', "the greater one is preferred")
        return int(node.value)

    def field(self, node: _Node, key: str, *, is_list: bool) -> str | tuple[str, ...] | None:
        if is_list:
            return tuple(self.text(item, key) for item in self.nodes(node, key))
        return None if node.value in {None, ""} else self.text(node, key)

    def word(self, fields: Mapping[str, _Node], key: str, line: int) -> str:
        if key not in fields:
            self.fail(line, f'"{key}" is missing')
        return self.text(fields[key], key)

    def text(self, node: _Node, key: str) -> str:
        if not isinstance(node.value, str) or not node.value:
            self.fail(node.line, f'"{key}" must be a text')
        return node.value

    def nodes(self, node: _Node | None, key: str) -> list[_Node]:
        if node is None or node.value is None:
            return []
        if not isinstance(node.value, list):
            self.fail(node.line, f'"{key}" must be a list', "each of its items begins with a dash")
        return node.value

    def mapping(self, node: _Node, known: tuple[str, ...], where: str) -> dict[str, _Node]:
        if not isinstance(node.value, dict):
            self.fail(node.line, f"{where} must be a mapping of keys to values")
        for key, value in node.value.items():
            if key not in known:
                names = ", ".join(known)
                self.fail(value.line, f"{quoted(key)} is no key of {where}; known: {names}")
        return node.value

    def load(self, text: str) -> _Node:
        """Compose instead of load: lines are kept, 1.10 stays text, aliases build nothing."""
        if len(text) > TEXT_LIMIT:
            self.fail(1, f"the file is longer than {TEXT_LIMIT} characters")
        try:
            root = compose(text)
        except MistakeError as error:
            hint = "begin each entry of manifests with a dash" if error.key == "image" else ""
            self.fail(error.line, error.what, hint)
        if root is None:
            self.fail(1, "the file is empty")
        return self.convert(root, 0)

    def convert(self, node: yaml.Node, depth: int) -> _Node:
        import yaml

        line = node.start_mark.line + 1
        self.count += 1
        if depth > DEPTH_LIMIT or self.count > NODE_LIMIT:
            self.fail(line, f"more than {DEPTH_LIMIT} levels or {NODE_LIMIT} values")
        if isinstance(node, yaml.SequenceNode):
            return _Node([self.convert(item, depth + 1) for item in node.value], line)
        if isinstance(node, yaml.MappingNode):
            return _Node(self.pairs(node, depth), line)
        is_null = node.tag == "tag:yaml.org,2002:null"
        return _Node(None if is_null else str(node.value), line)

    def pairs(self, node: yaml.MappingNode, depth: int) -> dict[str, _Node]:
        result: dict[str, _Node] = {}
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            converted = self.convert(value_node, depth + 1)
            result[key] = _Node(converted.value, line)
        return result

    def fail(self, line: int, what: str, hint: str = "") -> NoReturn:
        raise UsageError(f"{self.source}:{line}: {what}", hint or "correct the file")
