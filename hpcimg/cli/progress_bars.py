"""Progress on a terminal: for each image a bar for the whole and one for each of its layers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hpcimg.progress import Progress
from hpcimg.progress_text import PHASES, Pace, size_words, time_words

PARTS_SHOWN = 4
"""Layers of one image that have a bar at the same time: a hundred shall not fill the terminal."""
_BAR_WIDTH = 14
_WIDTHS = (_BAR_WIDTH, len("100% of 123.4 MB"), len("12.3 MB/s"), len("59 s left"))
"""The columns do not dance while their numbers grow."""
_WIDE = 72
"""A terminal of fewer columns shows the numbers alone: its room is for names."""
_DRAWN_A_SECOND = 8


@dataclass
class _Row:
    """What one bar shows."""

    progress: Progress
    pace: Pace = field(default_factory=Pace)


class ProgressBars:
    """Draws the reports of several images, from any thread, each under the name of its image."""

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._console = console or Console(stderr=True)
        self._groups: dict[str, dict[str, _Row]] = {}
        self._busy = threading.Lock()
        self._live = Live(
            console=self._console,
            get_renderable=self.table,
            transient=True,
            refresh_per_second=_DRAWN_A_SECOND,
            redirect_stdout=False,  # results are not for the terminal's other stream
        )
        self._live.start()

    def show(self, what: str, progress: Progress) -> None:
        """Take one report of the image that is called `what`; cheap, drawn when it is time."""
        with self._busy:
            rows = self._groups.setdefault(what, {})
            if progress.part and 0 < progress.total <= progress.done:
                rows.pop(progress.part, None)
                return
            row = rows.setdefault(progress.part, _Row(progress))
            row.progress = progress
            row.pace.add(self._clock(), progress.done)

    def finish(self, what: str, text: str) -> None:
        """Take an image's bars away, and write above the others what became of it."""
        with self._busy:
            self._groups.pop(what, None)
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Take all bars off the terminal."""
        self._live.stop()

    def table(self) -> RenderableType:
        """Lay out what there is now, for one drawing."""
        table = Table.grid(padding=(0, 1), expand=True)
        # A locale that has no such character shall not get its escape, which is six wide.
        is_utf8 = self._console.encoding.lower().startswith("utf")
        table.add_column(no_wrap=True, overflow="ellipsis" if is_utf8 else "crop", ratio=1)
        is_wide = self._console.width >= _WIDE
        for width in _WIDTHS if is_wide else _WIDTHS[1::2]:
            table.add_column(no_wrap=True, overflow="crop", justify="right", min_width=width)
        with self._busy:
            for what, rows in self._groups.items():
                parts = [row for part, row in rows.items() if part][:PARTS_SHOWN]
                for row in [rows[""]] * ("" in rows) + parts:
                    name, bar, size, speed, left = self._cells(what, row)
                    rest = (bar, size, speed, left) if is_wide else (size, left)
                    table.add_row(name, *rest)
        return table

    def _cells(self, what: str, row: _Row) -> tuple[RenderableType, ...]:
        at = row.progress
        left = row.pace.seconds_left(at.done, at.total)
        doing = PHASES.get(at.phase, at.phase)
        # What stands at its beginning for minutes, as `apptainer build` has it, would look dead.
        is_known = bool(at.done and at.total)
        bar = ProgressBar(
            total=at.total if is_known else None,
            completed=at.done,
            width=_BAR_WIDTH,
            pulse=not is_known,
            animation_time=self._clock(),
        )
        percent = min(100, 100 * at.done // at.total) if at.total else 0
        return (
            Text(f"  {doing} {at.part}" if at.part else f"{doing} {what}"),
            bar,
            Text(f"{percent}% of {size_words(at.total)}" if at.total else ""),
            Text(f"{size_words(row.pace.speed)}/s" if row.pace.speed >= 1 else ""),
            Text("" if left is None else f"{time_words(left)} left"),
        )
