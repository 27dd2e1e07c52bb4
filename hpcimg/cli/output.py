"""What people see: errors in two lines, tables, colour on a terminal."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from hpcimg.errors import HpcimgError

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "dim": "2", "bold": "1"}
_GAP = "  "
_SHORT = 12
"""A column of no more, as sizes or states, stays whole: a break in it would win nothing."""


def print_error(error: HpcimgError, node: str = "") -> None:
    """Print what failed and what to do, a line each."""
    start = f"hpcimg: {node}: " if node else "hpcimg: "
    print(start + paint(one_line(error.message), "red", sys.stderr), file=sys.stderr)
    if error.hint:
        print(f"{start}hint: {one_line(error.hint)}", file=sys.stderr)


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    """Colour a text, on a terminal alone and where nobody set NO_COLOR."""
    if os.environ.get("NO_COLOR") or not (stream or sys.stdout).isatty():
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def print_json(value: Any) -> None:
    """Print one value as JSON for programs."""
    import json

    print(json.dumps(value, indent=2, sort_keys=False))


def print_table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    colours: Sequence[str | Sequence[str]] = (),
) -> None:
    """Print left-aligned columns: a line a row for scripts to cut, wrapped on a terminal.

    `colours` has one for each row, an empty word, or one for each of its cells.
    """
    lines = [tuple(head), *(tuple(row) for row in rows)]
    columns = list(zip(*lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    if sys.stdout.isatty():
        # Names and digests are copied from here, so no word is broken.
        longest = [
            max(len(w) for cell in column for w in (cell.split() or [""]))
            if width > _SHORT
            else width
            for column, width in zip(columns, widths, strict=True)
        ]
        widths = _narrowed(widths, longest, shutil.get_terminal_size().columns)
    for line, colour in zip(lines, ("bold", *colours, *[""] * len(lines)), strict=False):
        for cells in _laid_out(line, widths):
            if isinstance(colour, str):
                text = _GAP.join(cells).rstrip()
                print(paint(text, colour) if colour else text)
            else:
                each = zip(cells, colour, strict=True)
                print(_GAP.join(paint(c, one) if one else c for c, one in each).rstrip())


def _narrowed(widths: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Take from the widest columns what the lines are too long, but leave each its least."""
    found = list(widths)
    for _ in range(sum(found) + len(_GAP) * (len(found) - 1) - room):
        spare = [at for at, width in enumerate(found) if width > least[at]]
        if not spare:
            break
        found[max(spare, key=lambda at: found[at])] -= 1
    return found


def _laid_out(line: Sequence[str], widths: Sequence[int]) -> list[list[str]]:
    """Break a row's cells into lines of padded words."""
    import textwrap

    cells = [
        textwrap.wrap(cell, width, break_on_hyphens=False, break_long_words=False)
        if len(cell) > width
        else [cell]
        for cell, width in zip(line, widths, strict=True)
    ]
    rows = zip_longest(*cells, fillvalue="")
    return [[word.ljust(width) for word, width in zip(row, widths, strict=True)] for row in rows]


class SyslogStream(io.TextIOBase):
    """Takes the place of standard error where nobody sees one: each line goes to syslog."""

    def __init__(self, start: str) -> None:
        self._start = start
        self._rest = ""

    def write(self, text: str) -> int:
        """Send the whole lines; keep the rest for the next call."""
        import syslog

        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            syslog.openlog("hpcimg", 0, syslog.LOG_DAEMON)
            syslog.syslog(syslog.LOG_NOTICE, one_line(self._start + line.removeprefix("hpcimg: ")))
        return len(text)


def one_line(text: str) -> str:
    """Keep foreign text on one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
