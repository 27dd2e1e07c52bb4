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

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        root = yaml.compose(text, Loader=loader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise MistakeError(mark.line + 1 if mark else 1, f"not YAML: {quoted(problem)}") from error
    if root is not None:
        _refuse_twins(root)
    return root


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
    """Find the line of the key that `path` leads to, or of the last step of it that is there."""
    import yaml

    line = 1 if root is None else root.start_mark.line + 1
    node = root
    for step in path:
        if not isinstance(node, yaml.MappingNode):
            break
        pair = next((pair for pair in node.value if pair[0].value == str(step)), None)
        if pair is None:
            break
        line, node = pair[0].start_mark.line + 1, pair[1]
    return line


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
