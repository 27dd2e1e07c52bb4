"""The text of a hosts.toml in its sections, to be changed in a few places and else left as it is.

Knows as much of TOML as it takes to see where a statement ends; what stands for what is the
caller's matter. Refuses what it cannot keep.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hpcimg.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MARK = "# hpcimg autologin"
"""Ends each line that was written here, so that the next time it can be told from others'."""

Path = tuple[str, ...]

_PART = r"(?:[A-Za-z0-9_-]+|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*')"
_KEYS = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_TABLE = re.compile(rf"[ \t]*(\[\[?)[ \t]*({_KEYS})[ \t]*\]\]?[ \t]*(?:#.*)?")
_STATEMENT = re.compile(rf"[ \t]*({_KEYS})[ \t]*=[ \t]*\S", re.DOTALL)
_NOTHING = re.compile(r"[ \t]*(?:#.*)?")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"""|\'\'\'.*?\'\'\'|(?!""")"(?:[^"\\\n]|\\.)*"|(?!\'\'\')\'[^\'\n]*\''
    r"|#[^\n]*|[^\"'#]",
    re.DOTALL,
)


@dataclass
class _Line:
    """One statement, comment or empty line; `keys` is empty where there is no statement."""

    text: str
    keys: Path = ()

    @property
    def is_ours(self) -> bool:
        return self.text.endswith(MARK)


@dataclass
class _Section:
    """A table with its header, which the first one has not; `is_plain` is False for [[...]]."""

    path: Path = ()
    header: str = ""
    is_plain: bool = True
    lines: list[_Line] = field(default_factory=list)


class HostsTable:
    """One file's text; raises SettingsError for what cannot be changed by its lines."""

    def __init__(self, text: str, source: str) -> None:
        self._source = source
        self._sections = [_Section()]
        for line in self._logical(text):
            self._read(line)
        self._check()

    def forget_ours(self) -> None:
        """Remove what was written here before, and tables that are empty without it."""
        kept = [self._sections[0]]
        for section in self._sections:
            was_ours = section.header.endswith(MARK)
            section.lines = [line for line in section.lines if not line.is_ours]
            if section is self._sections[0]:
                continue
            if was_ours and not any(line.keys for line in section.lines):
                kept[-1].lines += [line for line in section.lines if line.text]
            else:
                kept.append(section)
        if not any(line.text for line in kept[0].lines):
            kept[0].lines = []
        self._sections = kept

    def make_first(self, path: Path) -> None:
        """Have this table before all others of its parent: clients ask the hosts in this order."""
        if self._find(path) is None:
            places = (at for at, one in enumerate(self._sections) if one.path[:1] == path[:1])
            self._insert(next(places, len(self._sections)), path)

    def put(
        self, path: Path, key: str, value: str | Sequence[object], *, keep: bool = False
    ) -> bool:
        """Say a key's value in a table; with `keep` another's value stays, and it is False."""
        section = self._find(path) or self._insert(self._place_for(path), path)
        at = next((at for at, one in enumerate(section.lines) if one.keys == (key,)), None)
        if at is not None and keep:
            return False
        # ensure_ascii would write surrogates, which TOML has not.
        line = _Line(f"{key} = {json.dumps(value, ensure_ascii=False)}  {MARK}", (key,))
        if at is not None:
            section.lines[at] = line
        else:
            last = max((at for at, one in enumerate(section.lines) if one.keys), default=-1)
            section.lines.insert(last + 1, line)
        return True

    def text(self) -> str:
        """Write it."""
        lines: list[str] = []
        for section in self._sections:
            lines += [section.header] * bool(section.path) + [one.text for one in section.lines]
        return "".join(f"{line}\n" for line in lines)

    def _find(self, path: Path) -> _Section | None:
        return next((one for one in self._sections if one.path == path), None)

    def _place_for(self, path: Path) -> int:
        """Put a table behind its parent, where that is in the file, else last."""
        places = [at for at, one in enumerate(self._sections) if one.path == path[:-1] and at]
        return places[0] + 1 if places else len(self._sections)

    def _insert(self, at: int, path: Path) -> _Section:
        header = ".".join(k if _BARE.fullmatch(k) else json.dumps(k) for k in path)
        section = _Section(path, f"[{header}]  {MARK}")
        before = self._sections[at - 1]
        if (before.path and not before.lines) or (before.lines and before.lines[-1].text.strip()):
            before.lines.append(_Line(""))
        if at < len(self._sections):
            section.lines.append(_Line(""))
        self._sections.insert(at, section)
        return section

    def _read(self, text: str) -> None:
        table, statement = _TABLE.fullmatch(text), _STATEMENT.match(text)
        if table:
            is_plain = table[1] == "["
            self._sections.append(_Section(tuple(_keys(table[2])), text, is_plain=is_plain))
        elif statement:
            self._sections[-1].lines.append(_Line(text, tuple(_keys(statement[1]))))
        elif _NOTHING.fullmatch(text):
            self._sections[-1].lines.append(_Line(text))
        else:
            raise self._error("it is not TOML")

    def _logical(self, text: str) -> Iterator[str]:
        """Give statements whole, as those whose list goes over several lines."""
        open_text = ""
        for line in text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text else ():
            open_text += line
            if self._is_open(open_text):
                open_text += "\n"
            else:
                yield open_text
                open_text = ""
        if open_text:
            raise self._error("a list or a text in it has no end")

    def _is_open(self, text: str) -> bool:
        depth = at = 0
        while at < len(text):
            token = _TOKEN.match(text, at)
            if token is None:
                if text.startswith(('"""', "'''"), at):
                    return True
                raise self._error("a text in it has no end")
            depth += (token[0] in "[{") - (token[0] in "]}")
            at = token.end()
        return depth > 0

    def _check(self) -> None:
        """Refuse hosts and headers in another form than tables, and what stands twice."""
        seen: set[Path] = set()
        for section in self._sections:
            inner = section.path[:1] == ("host",)
            found = {(*section.path, *line.keys) for line in section.lines if line.keys}
            if section.is_plain and section.path:
                found.add(section.path)
            count = sum(bool(line.keys) for line in section.lines)
            if seen & found or len(found) < count + (section.is_plain and bool(section.path)):
                raise self._error("something stands twice in it")
            seen |= found if section.is_plain else set()
            if inner and (not section.is_plain or (len(section.path) == 1 and count)):
                raise self._error('its hosts are not written as tables [host."URL"]')
            odd = {"host", "header"} if not section.path else set()
            odd |= {"header"} if inner and len(section.path) == 2 else set()
            wrong = next((line.keys[0] for line in section.lines if odd & {*line.keys[:1]}), "")
            if wrong:
                raise self._error(f'"{wrong}" is not written as a table')

    def _error(self, why: str) -> SettingsError:
        return SettingsError(
            f'"{self._source}" cannot be changed: {why}',
            "mend it, or move it away to have it written anew",
        )


def _keys(text: str) -> Iterator[str]:
    for part in re.findall(_PART, text):
        if part.startswith('"'):
            try:
                yield str(json.loads(part))
            except ValueError:
                yield part
        else:
            yield part.strip("'")
