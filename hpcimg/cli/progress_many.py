"""Progress of several images at once: a group of bars for each, or lines that name theirs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hpcimg.cli.progress_lines import ProgressLines, has_bars

if TYPE_CHECKING:
    from hpcimg.cli.progress_bars import ProgressBars
    from hpcimg.progress import Progress


class ShowMany:
    """Shows each image's reports under its name, and a line when it has ended."""

    def __init__(self) -> None:
        self._lines: dict[str, ProgressLines] = {}
        self._bars: ProgressBars | None = None

    def __call__(self, what: str, progress: Progress) -> None:
        """Show one report of an image."""
        if not has_bars():
            self._lines.setdefault(what, ProgressLines(what))(progress)
            return
        if self._bars is None:
            from hpcimg.cli.progress_bars import ProgressBars

            self._bars = ProgressBars()
        self._bars.show(what, progress)

    def finish(self, what: str, text: str) -> None:
        """Write what became of an image, and no more of its progress."""
        if what in self._lines:
            self._lines.pop(what).close()
        if self._bars is not None:
            self._bars.finish(what, text)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take all bars off the terminal, and write no more lines."""
        for lines in self._lines.values():
            lines.close()
        if self._bars is not None:
            self._bars.close()
