"""Progress where there is no terminal: few plain lines, in an srun as in a log.

Of all nodes of a step that wait, one speaks at a time: they take turns.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from hpcimg.progress_text import READY, Pace, report_line, sentence

if TYPE_CHECKING:
    from hpcimg.cli.progress_bars import ProgressBars
    from hpcimg.progress import Progress

EVERY_SECONDS = 5.0
WAITING_SECONDS = 10.0
"""Of several nodes that wait, each says no more than this, however few they are."""
PATIENCE_SECONDS = 2.0
"""What takes no longer is not worth a word."""
REPORT_SECONDS = 0.5
_LOOK_SECONDS = 1.0


def has_bars() -> bool:
    """Tell whether people look at a terminal that can draw."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class ProgressLines:
    """Writes a line once something takes long, then every few seconds, also when nothing comes.

    `start` is put before each line; `place` is this node's number among those of the step, and
    theirs: of a hundred that wait, each says every 500 seconds what one alone says every 5.
    """

    def __init__(
        self,
        what: str,
        start: str = "hpcimg: ",
        place: tuple[int, int] = (0, 1),
        *,
        clock: Callable[[], float] = time.monotonic,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self._what = what
        self._start = start
        self._turn, self._turns = place
        self._clock = clock
        self._look_seconds = look_seconds
        self._began = clock()
        self._next = 0.0
        self._spoke = False
        self._last: Progress | None = None
        self._pace = Pace()
        self._busy = threading.Lock()
        self._closed = threading.Event()

    def __call__(self, progress: Progress) -> None:
        """Take one report, cheap enough to be told of every block; parts are not for lines."""
        if progress.part:
            return
        now = self._clock()
        with self._busy:
            if self._last is None:
                turn = self._turn * EVERY_SECONDS if progress.phase == "wait" else 0.0
                self._next = now + PATIENCE_SECONDS + turn
                self._look_while_nothing_comes()
            elif self._last.phase == "wait" != progress.phase:
                # It builds now: nobody else speaks for it.
                self._next = min(self._next, now)
                self._pace = Pace()
            self._last = progress
            self._pace.add(now, progress.done)
        self.look()

    def look(self) -> None:
        """Write a line if it is time for one."""
        with self._busy:
            now, last = self._clock(), self._last
            if last is None or now < self._next:
                return
            self._pace.add(now, last.done)
            period = EVERY_SECONDS
            if last.phase == "wait" and self._turns > 1:
                period = max(WAITING_SECONDS, EVERY_SECONDS * self._turns)
            self._next = now + period
            self._say(sentence(last, self._what, self._pace, with_note=not self._spoke))
            self._spoke = True

    def ready(self, words: str = "") -> None:
        """Say the end, where the beginning was said; `words` tell what there is now."""
        took = self._clock() - self._began
        with self._busy:
            self._last = None
            if self._spoke:
                ending = f": {words}" if words else ""
                self._say(f"{self._what}{READY}{took:.1f} s{ending}")

    def close(self) -> None:
        """Be silent from now on."""
        self._closed.set()

    def _say(self, text: str) -> None:
        print(f"{self._start}{text}", file=sys.stderr, flush=True)

    def _look_while_nothing_comes(self) -> None:
        """A converter may be silent for minutes, and a registry may stall."""
        if self._look_seconds:
            threading.Thread(target=self._keep_looking, name="hpcimg-lines", daemon=True).start()

    def _keep_looking(self) -> None:
        while not self._closed.wait(self._look_seconds):
            self.look()


class ProgressReports:
    """Writes reports for another program of ours: of each part no more than a few a second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}

    def __call__(self, progress: Progress) -> None:
        """Write one report, if it is time for one of its kind or the last of it."""
        now, key = self._clock(), (progress.part, progress.phase)
        is_over = 0 < progress.total <= progress.done
        if is_over or now - self._told.get(key, float("-inf")) >= REPORT_SECONDS:
            self._told[key] = now
            print(report_line(progress), file=sys.stderr, flush=True)


class ShowProgress:
    """Shows the reports of one image or copy: bars on a terminal, lines elsewhere."""

    def __init__(self, what: str, start: str = "hpcimg: ", place: tuple[int, int] = (0, 1)) -> None:
        self._what = what
        self._lines = ProgressLines(what, start, place)
        self._bars: ProgressBars | None = None

    def __call__(self, progress: Progress) -> None:
        """Show one report."""
        if not has_bars():
            self._lines(progress)
            return
        if self._bars is None:
            # Not for those who have nothing to wait for.
            from hpcimg.cli.progress_bars import ProgressBars

            self._bars = ProgressBars()
        self._bars.show(self._what, progress)

    def ready(self, words: str = "") -> None:
        """Say the end, where lines were written; the image, or what is left to do, follows."""
        self._lines.ready(words)

    def close(self) -> None:
        """Take the bars off the terminal, and write no more lines."""
        self._lines.close()
        if self._bars is not None:
            self._bars.close()
