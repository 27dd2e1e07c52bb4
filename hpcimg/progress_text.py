"""Progress in words: how fast, how long still, one sentence for people, and the sentence read back.

Pure; whoever shows it brings the clock.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict

from hpcimg.progress import Progress

PHASES = {
    "wait": "waiting for",
    "fetch": "fetching",
    "copy": "copying",
    "convert": "converting",
    "compress": "compressing",
    "wrap": "wrapping",
    "publish": "storing",
    "verify": "checking",
}
READY = " is ready after "
_NAMES = {word: phase for phase, word in PHASES.items()}
_MEMORY_SECONDS = 8.0
_STEP_SECONDS = 0.5
_SURE_SECONDS = 2.0
_BYTES_LIMIT = 1 << 60
_PART_LENGTH = 64
_UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9}
_SENTENCE = re.compile(
    rf"hpcimg: (?:[^\s:]+: )?(?P<word>{'|'.join(_NAMES)}) (?P<what>\S+)"
    r"(?:: (?P<percent>[0-9]{1,3})% of (?P<size>[0-9]{1,9}\.[0-9]) (?P<unit>[kMG]B)[^(]*)?"
    r"(?: ?\((?P<note>.*)\))?"
)


class Pace:
    """How fast bytes come, smoothed over the last seconds; told the time, which it never asks."""

    def __init__(self) -> None:
        self.speed = 0.0
        self._at: float | None = None
        self._began = 0.0
        self._done = 0

    def add(self, now: float, done: int) -> None:
        """Count that `done` bytes are there at `now`; fewer than before begin anew."""
        if self._at is None or done < self._done:
            self.speed, self._at, self._began, self._done = 0.0, now, now, done
            return
        passed = now - self._at
        if passed < _STEP_SECONDS:
            return
        rate = (done - self._done) / passed
        weight = 1 - math.exp(-passed / _MEMORY_SECONDS) if self.speed else 1.0
        self.speed += weight * (rate - self.speed)
        self._at, self._done = now, done

    def seconds_left(self, done: int, total: int) -> float | None:
        """Say how long the rest takes at this speed; None where nobody can know."""
        is_known = self._at is not None and self._at - self._began >= _SURE_SECONDS
        # Slower than a byte a second is standing still.
        if not is_known or self.speed < 1 or not 0 < done < total:
            return None
        return (total - done) / self.speed


def size_words(count: float) -> str:
    """Write a number of bytes, always with one decimal."""
    unit = "GB" if count >= 1e9 else "MB" if count >= 1e5 or not count else "kB"
    return f"{count / _UNITS[unit]:.1f} {unit}"


def time_words(seconds: float) -> str:
    """Write a time with no more exactness than anybody needs."""
    if seconds < 60:
        return f"{math.ceil(seconds)} s"
    minutes, rest = divmod(math.ceil(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def sentence(progress: Progress, what: str, pace: Pace, *, with_note: bool = True) -> str:
    """Write one report: `converting qnib/bench: 43% of 479.2 MB, 55.1 MB/s, 5 s left`."""
    words = [f"{PHASES.get(progress.phase, progress.phase)} {what}"]
    if progress.total:
        percent = min(100, 100 * progress.done // progress.total)
        words[0] += f": {percent}% of {size_words(progress.total)}"
        if pace.speed >= 1:
            words.append(f"{size_words(pace.speed)}/s")
        left = pace.seconds_left(progress.done, progress.total)
        if left is not None:
            words.append(f"{time_words(left)} left")
    has_note = with_note and progress.phase == "wait" and progress.note
    return ", ".join(words) + (f" ({progress.note})" if has_note else "")


def read_report(line: str) -> Progress | None:
    """Read a sentence that a node said, or a report as `report_line` wrote it; None: neither.

    Nor what could not be ours: it would be drawn on somebody's terminal.
    """
    match = _SENTENCE.fullmatch(line.strip())
    found = _read_json(line) if match is None else _read_words(match)
    if found is None or found.phase not in PHASES:
        return None
    is_sane = 0 <= found.done < _BYTES_LIMIT and 0 <= found.total < _BYTES_LIMIT
    is_short = len(found.part) <= _PART_LENGTH
    return found if is_sane and is_short and (found.note + found.part).isprintable() else None


def report_line(progress: Progress) -> str:
    """Write a report for another program of ours: one line of JSON."""
    return json.dumps(asdict(progress))


def _read_words(match: re.Match[str]) -> Progress:
    total = round(float(match["size"]) * _UNITS[match["unit"]]) if match["size"] else 0
    done = total * int(match["percent"]) // 100 if total else 0
    return Progress(_NAMES[match["word"]], done, total, match["note"] or "")


def _read_json(line: str) -> Progress | None:
    if not line.startswith('{"phase": '):
        return None
    try:
        fields = json.loads(line)
        phase, note, part = (str(fields[key]) for key in ("phase", "note", "part"))
        return Progress(phase, int(fields["done"]), int(fields["total"]), note, part)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
