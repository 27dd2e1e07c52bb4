"""Reads the `console` blocks of Markdown pages: commands as people type them, and what they print.

A block's first line may say more after `console`: a node (`bdw1`) in place of the login node;
`checkout` for this machine itself; `new-cluster` for a cluster that has no hpcimg yet; `sorted`
where nodes answer in any order; `fails` where the command ends with another code than 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)\s*(.*)$")


@dataclass
class Command:
    """One command, who types it, and the lines that the page shows below it."""

    page: Path
    line: int
    words: tuple[str, ...]
    user: str
    text: str
    shown: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"

    def agrees(self, output: str) -> bool:
        """Whether this output is what the page shows; a page that shows nothing leaves it open."""
        if not self.shown:
            return True
        shown, said = list(self.shown), output.rstrip("\n").split("\n")
        if "sorted" in self.words:
            shown, said = sorted(shown), sorted(said)
        return (
            re.fullmatch("".join(map(_pattern, shown)), "".join(f"{s}\n" for s in said)) is not None
        )


def _pattern(line: str) -> str:
    """A line's pattern: `…` stands for anything, alone on its line for any number of lines."""
    if line.strip() == "…":
        return r"(?:.*\n)*"
    return r"\s+".join(
        ".*".join(re.escape(part) for part in word.split("…")) for word in line.split(" ") if word
    ).join((r"\s*", r"\s*\n"))


def read_commands(page: Path) -> list[Command]:
    """All commands of a page's console blocks, in order."""
    found: list[Command] = []
    words: tuple[str, ...] | None = None
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if fence:
            inside = words is None and fence[1] == "console"
            words = tuple(fence[2].split()) if inside else None
        elif words is not None:
            _take(found, page, number, words, line)
    return found


def _take(found: list[Command], page: Path, number: int, words: tuple[str, ...], line: str) -> None:
    if line.startswith(("$ ", "# ")):
        user = "alice" if line[0] == "$" else "root"
        found.append(Command(page, number, words, user, line[2:]))
    elif line.startswith("> ") and not found[-1].shown:
        found[-1].text += "\n" + line[2:]
    else:
        found[-1].shown.append(line)
