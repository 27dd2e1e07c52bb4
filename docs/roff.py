"""Turns the reference pages, which are written in a small part of Markdown, into manual pages.

It knows headings, paragraphs of one sentence a line, lists, tables, code blocks and the marks in a
line; what it does not know it leaves as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_LINK = re.compile(r"\[((?:[^\]`]|`[^`]*`)*)\]\([^)]*\)")
_MARK = re.compile(r"(`[^`]+`|\*\*[^*]+\*\*)")
_CELL = re.compile(r"(?<!\\)\|(?=(?:[^`]*`[^`]*`)*[^`]*$)")


def manual(title: str, section: int, about: str, markdown: str, version: str) -> str:
    """Write one page; `about` is the line that `apropos` finds."""
    name = title.lower()
    head = [
        f'.TH "{title.upper()}" "{section}" "" "hpcimg {version}" "hpcimg"',
        ".nh",
        ".ad l",
        ".SH NAME",
        f"{_plain(name)} \\- {_plain(about)}",
    ]
    lines = _COMMENT.sub("", markdown).splitlines()
    return "\n".join([*head, *_blocks(lines)]) + "\n"


def _blocks(lines: list[str]) -> Iterator[str]:
    rest = list(lines)
    while rest:
        line = rest[0]
        if line.startswith(("```", "    ")):
            yield from _code(rest)
        elif line.startswith("|"):
            yield from _table(rest)
        elif line.startswith("#"):
            yield from _heading(rest.pop(0))
        elif line.startswith("- "):
            yield ".IP \\(bu 2"
            yield _words(rest.pop(0)[2:])
            yield from _continued(rest)
        elif line.strip():
            yield ".PP"
            while rest and rest[0].strip() and not rest[0].startswith(("- ", "|", "#", "```")):
                yield _words(rest.pop(0))
        else:
            rest.pop(0)


def _continued(rest: list[str]) -> Iterator[str]:
    while rest and rest[0].startswith("  ") and rest[0].strip():
        yield _words(rest.pop(0).strip())


def _heading(line: str) -> Iterator[str]:
    depth = len(line) - len(line.lstrip("#"))
    text = line.lstrip("# ")
    if depth == 1:
        yield ".SH DESCRIPTION"
    else:
        yield f".SH {_plain(text).upper()}" if depth == 2 else f".SS {_words(text)}"


def _code(rest: list[str]) -> Iterator[str]:
    is_fenced = rest[0].startswith("```")
    if is_fenced:
        rest.pop(0)
    yield from (".PP", ".RS 4", ".nf")
    while rest and (rest[0] != "```" if is_fenced else rest[0].startswith("    ")):
        line = rest.pop(0)
        yield _kept(_plain(line if is_fenced else line.removeprefix("    ")))
    if is_fenced and rest:
        rest.pop(0)
    yield from (".fi", ".RE")


def _table(rest: list[str]) -> Iterator[str]:
    """Write a row as a paragraph under its first cell; a manual page has no room for columns."""
    rows = []
    while rest and rest[0].startswith("|"):
        rows.append([cell.strip() for cell in _CELL.split(rest.pop(0).strip().strip("|"))])
    names = rows[0]
    for first, *others in rows[2:]:
        yield ".TP"
        yield _words(first)
        for name, cell in zip(names[1:], others, strict=False):
            if cell:
                yield _words(cell if len(others) == 1 or name == "means" else f"{name}: {cell}")
                yield ".br"


def _words(text: str) -> str:
    """Write one line with its marks."""
    parts = _MARK.split(_LINK.sub(r"\1", text))
    return _kept("".join(_marked(part) for part in parts))


def _kept(line: str) -> str:
    """Keep a line that begins as a command of troff's would from being one."""
    return f"\\&{line}" if line.startswith((".", "'")) else line


def _marked(part: str) -> str:
    if part.startswith("`") and len(part) > 1:
        return f"\\fB{_plain(part[1:-1])}\\fR"
    if part.startswith("**"):
        return f"\\fB{_plain(part[2:-2])}\\fR"
    return _plain(part)


def _plain(text: str) -> str:
    """Escape what troff would read as its own, and what is not ASCII, which it reads as Latin-1."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in escaped)
