"""What long work reports while it runs: which phase, how far, and a note.

Pure; it does not know who shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """`phase` is one of `progress_text.PHASES`; `done` of `total` bytes.

    A `total` of 0 is not known; in compress, `done` are the bytes that the result has so far.

    `part` names what part of the whole this is of, such as a layer; empty for the whole.
    """

    phase: str
    done: int = 0
    total: int = 0
    note: str = ""
    part: str = ""


OnProgress = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Drop the report: for callers that show nothing."""
