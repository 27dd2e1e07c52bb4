"""YAML text read so that a mistake in it can be told with its line; no key may stand twice.

Knows no settings and no recipe: it gives nodes with their marks, and who reads them says the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hpcimg.quoting import quoted

if TYPE_CHECKING:
    import yaml


class MistakeError(Exception):
    """What is wrong with a text, and in which line; `key` is the one that stands twice, if so."""

    def __init__(self, line: int, what: str, key: str = "") -> None:
        super().__init__(what)
        self.line = line
        self.what = what
        self.key = key


def compose(text: str) -> yaml.Node | None:
    """Parse YAML to nodes that know their lines, None for an empty text; raises MistakeError."""
    import yaml

    try:
        root = yaml.compose(text, Loader=_loader())
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise MistakeError(mark.line + 1 if mark else 1, f"not YAML: {quoted(problem)}") from error
    if root is not None:
        _refuse_twins(root)
    return root


def _loader() -> type[yaml.SafeLoader]:
    """Give a loader to which only true and false are truth values, as to YAML 1.2.

    PyYAML's own takes the key `on` for one, and the country `no`.
    """
    import re

    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        pass

    truth = "tag:yaml.org,2002:bool"
    Loader.yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in rows if tag != truth]
        for first, rows in Loader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver(truth, re.compile(r"(?i:true|false)$"), list("tTfF"))
    return Loader


def construct(root: yaml.Node | None) -> object:
    """Make the plain values of a composed text; raises MistakeError."""
    import yaml

    if root is None:
        return None
    try:
        return yaml.constructor.SafeConstructor().construct_document(root)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or error
        raise MistakeError(mark.line + 1 if mark else 1, f"not YAML: {quoted(problem)}") from error


def has_aliases(root: yaml.Node | None) -> bool:
    """Tell whether a value is used twice: aliases of aliases make a short text endless."""
    waiting: list[Any] = [root]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            return True
        seen.add(id(node))
        for each in node.value if node is not None and isinstance(node.value, list) else ():
            waiting += each if isinstance(each, tuple) else (each,)
    return False


def line_of(root: yaml.Node | None, path: Iterable[object]) -> int:
    """Find the line of the key or item that `path` leads to, or of its last step that is there."""
    line = 1 if root is None else root.start_mark.line + 1
    node = root
    for step in path:
        found = next((one for one in _below((), node) if str(one[0][0]) == str(step)), None)
        if found is None:
            break
        _, line, node = found
    return line


def places_of(root: yaml.Node | None) -> dict[tuple[object, ...], int]:
    """Give the line of each key, and of each item of a list by its number, two levels deep."""
    found: dict[tuple[object, ...], int] = {}
    for way, line, node in _below((), root):
        found[way] = line
        found.update({deeper: at for deeper, at, _ in _below(way, node)})
    return found


def _below(
    way: tuple[object, ...], node: yaml.Node | None
) -> list[tuple[tuple[object, ...], int, yaml.Node]]:
    import yaml

    if isinstance(node, yaml.MappingNode):
        return [((*way, k.value), k.start_mark.line + 1, value) for k, value in node.value]
    if isinstance(node, yaml.SequenceNode):
        return [((*way, at), item.start_mark.line + 1, item) for at, item in enumerate(node.value)]
    return []


def _refuse_twins(root: yaml.Node) -> None:
    """Raise MistakeError for a key that stands twice in one mapping: the first would be lost."""
    import yaml

    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        # An alias is the same node again, and may even hold itself.
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            _refuse_twin_keys(node)
            waiting += [value for _, value in node.value]


def _refuse_twin_keys(node: yaml.MappingNode) -> None:
    keys: set[str] = set()
    for key, _ in node.value:
        name = str(key.value)
        if name in keys:
            what = f"{quoted(name)} stands twice in one mapping"
            raise MistakeError(key.start_mark.line + 1, what, name)
        keys.add(name)
