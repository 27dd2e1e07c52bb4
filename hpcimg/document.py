"""YAML text read so that a mistake in it can be told with its line; no key may stand twice.

Knows no settings and no recipe: it gives nodes with their marks, and who reads them says the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from hpcimg.quoting import quoted

if TYPE_CHECKING:
    import yaml


class MistakeError(Exception):
    """What is wrong with a text, and in which line; `key` is the one that stands twice, if so.

    `file` is the name that the text was composed with.
    """

    def __init__(self, line: int, what: str, key: str = "", file: str = "") -> None:
        super().__init__(what)
        self.line = line
        self.what = what
        self.key = key
        self.file = file


def compose(text: str, name: str = "") -> yaml.Node | None:
    """Parse YAML to nodes that know their lines, None for an empty text; raises MistakeError.

    `name` is what the text's file is called where the places of nodes are told.
    """
    import yaml

    try:
        root = yaml.compose(_Stream(text, name), Loader=_loader())
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise MistakeError(mark.line + 1 if mark else 1, f"not YAML: {quoted(problem)}") from error
    if root is not None:
        _refuse_twins(root)
    return root


class _Stream:
    """A text with a name: PyYAML gives it to each mark."""

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name

    def read(self, _size: int = -1) -> str:
        text, self.text = self.text, ""
        return text


def merge(
    older: yaml.Node | None,
    newer: yaml.Node | None,
    named: Callable[[tuple[object, ...], str], str] = lambda _way, key: key,
    way: tuple[object, ...] = (),
) -> yaml.Node | None:
    """Lay one document over another: mappings join by key, of all else the newer counts.

    A key without a value takes no mapping away. `named` gives the name by which keys are the same.
    """
    import yaml

    if newer is None or older is None:
        return newer or older
    if not isinstance(older, yaml.MappingNode):
        return newer
    if not isinstance(newer, yaml.MappingNode):
        return older if newer.tag == "tag:yaml.org,2002:null" else newer
    rows = {named(way, str(key.value)): (key, value) for key, value in older.value}
    for key, value in newer.value:
        name = named(way, str(key.value))
        kept = rows.get(name)
        joined = merge(kept[1], value, named, (*way, name)) if kept else value
        rows[name] = kept if kept and joined is kept[1] else (key, joined)
    return yaml.MappingNode(newer.tag, list(rows.values()), newer.start_mark, newer.end_mark)


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
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        # What PyYAML's own parts raise for `!!bool x` or `!!timestamp x`.
        mark = getattr(error, "problem_mark", None) or root.start_mark
        problem = getattr(error, "problem", None) or error
        what = f"not YAML: {quoted(problem)}"
        raise MistakeError(mark.line + 1, what, file=mark.name) from error


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


def place_of(root: yaml.Node | None, path: Iterable[object]) -> str:
    """Name the file and line of what `path` leads to, or of its last step that is there."""
    mark, node = None if root is None else root.start_mark, root
    for step in path:
        found = next((one for one in _below(node) if str(one[0]) == str(step)), None)
        if found is None:
            break
        _, mark, node = found
    return ":1" if mark is None else _place(mark)


def written_at(root: yaml.Node | None, path: Iterable[object]) -> str | None:
    """Give the very characters of the plain value that `path` leads to, None where there is none.

    YAML makes 8 of `010`, and 750 of `12:30`.
    """
    node = root
    for step in path:
        rows = (one for key, _, one in _below(node) if str(key) == str(step))
        node = next(rows, None)
    return node.value if node is not None and isinstance(node.value, str) else None


def places_of(
    root: yaml.Node | None, depth: int = 3, way: tuple[object, ...] = ()
) -> dict[tuple[object, ...], str]:
    """Give `FILE:LINE` of each key, and of each item of a list by its number, some levels deep."""
    found: dict[tuple[object, ...], str] = {}
    for step, mark, node in _below(root) if depth else ():
        here = (*way, step)
        found[here] = _place(mark)
        found.update(places_of(node, depth - 1, here))
    return found


def without(root: yaml.Node | None, path: tuple[object, ...]) -> bool:
    """Take what `path` leads to out of a document, or its last step that is there; tell if any."""
    node, last = root, None
    for step in path:
        rows = _below(node)
        at = next((at for at, one in enumerate(rows) if str(one[0]) == str(step)), None)
        if at is None:
            break
        last = (node, at)
        node = rows[at][2]
    if last is None or last[0] is None:
        return False
    del last[0].value[last[1]]
    return True


def _place(mark: Any) -> str:
    return f"{mark.name}:{mark.line + 1}"


def _below(node: yaml.Node | None) -> list[tuple[object, Any, yaml.Node]]:
    """Give the steps that lead on from a node: key or number, where it stands, and the node."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        return [(key.value, key.start_mark, value) for key, value in node.value]
    if isinstance(node, yaml.SequenceNode):
        return [(at, item.start_mark, item) for at, item in enumerate(node.value)]
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
