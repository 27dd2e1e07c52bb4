"""Checked reading of a parsed settings document: known keys, right types, the line of a mistake.

Knows no setting; each section is described by a dataclass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import Field, fields
from typing import TYPE_CHECKING, Any

from hpcimg.errors import SettingsError

if TYPE_CHECKING:
    import yaml

_WORDS = {bool: "true or false", int: "a number", float: "a number", str: "a text"}
_HINT = "correct the settings file"


class WrongSettingError(SettingsError):
    """A mistake in the settings: its file and line, what it is, and the way to it by keys."""

    def __init__(self, place: str, what: str, hint: str, at: tuple[object, ...]) -> None:
        super().__init__(f"{place}: {what}", hint)
        self.place = place
        self.what = what
        self.at = at


class SectionReader:
    """Reads mappings and lists; keeps the nodes to name a wrong key's line.

    `at` is always the way to a value, from key to key, in the file's own spelling.
    """

    def __init__(self, root: yaml.Node | None) -> None:
        self.root = root

    def section(self, value: Any, kind: type, at: tuple[object, ...]) -> dict[str, Any]:
        """Check one mapping against the fields of `kind`: known keys, values of the right type."""
        known = {item.name: item for item in fields(kind)}
        section = self.mapping(value, at)
        for key, given in section.items():
            here = (*at, key)
            if key not in known:
                meant = near(str(key), known) or f"; known: {', '.join(sorted(known))}"
                raise self.error(here, f'"{key}" is no setting{meant}')
            scalar = _scalar_of(known[key])
            if (given is None and known[key].default is None) or scalar is None:
                continue
            if not _fits(given, scalar):
                # What is not to be shown may hold a login.
                shown = f", not {given!r}" if known[key].repr else ""
                raise self.error(here, f'"{key}" must be {_WORDS[type(scalar)]}{shown}')
        return dict(section)

    def words(self, value: Any, at: tuple[object, ...]) -> tuple[str, ...]:
        """Check a list of texts; nothing is an empty one."""
        found = self.sequence(value, at)
        if not all(isinstance(word, str) for word in found):
            raise self.error(at, f'"{at[-1]}" must be a list of texts')
        return tuple(found)

    def sequence(self, value: Any, at: tuple[object, ...]) -> list[Any]:
        """Check a list; nothing is an empty one."""
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.error(at, f'"{at[-1]}" must be a list')
        return value

    def mapping(self, value: Any, at: tuple[object, ...]) -> dict[Any, Any]:
        """Check a mapping of keys to values; nothing is an empty one."""
        if value is None:
            return {}
        if not isinstance(value, dict):
            name = at[-1] if at else "the file"
            raise self.error(at, f'"{name}" must be a mapping of keys to values')
        return value

    def written(self, value: Any, at: tuple[object, ...]) -> str:
        """Give a plain value as it is written: a number's characters may mean something."""
        from hpcimg.document import written_at

        found = written_at(self.root, at)
        return str(value) if found is None else found

    def error(self, at: tuple[object, ...], message: str, hint: str = _HINT) -> WrongSettingError:
        """Make the error for what stands at `at`, with its file and line."""
        from hpcimg.document import place_of

        return WrongSettingError(place_of(self.root, at), message, hint, at)


def near(word: str, known: Iterable[str]) -> str:
    """Say which known word a wrong one may have been meant to be; empty where none is near."""
    from difflib import get_close_matches

    found = get_close_matches(word, sorted(known), 1)
    return f"; did you mean {found[0]}?" if found else ""


def _scalar_of(item: Field[Any]) -> bool | float | str | None:
    """Give a value of the type that a field wants; None for one that is no scalar."""
    if isinstance(item.default, bool | int | float | str):
        return item.default
    optional: dict[str, bool | float | str] = {"str | None": "", "bool | None": False}
    return optional.get(str(item.type))


def _fits(given: object, default: bool | float | str) -> bool:  # noqa: FBT001 - any scalar default
    if isinstance(default, bool) or isinstance(given, bool):
        return isinstance(default, bool) and isinstance(given, bool)
    if isinstance(default, int | float):
        return isinstance(given, int | float) and 0 <= given < math.inf
    return isinstance(given, str)
