"""What the person at the terminal sees: one line a phase, with its seconds."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType


def say(text: str) -> None:
    """One line of talk on standard error."""
    sys.stderr.write(f"cluster: {text}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def phase(text: str) -> Iterator[None]:
    """Announce a phase, count its seconds on a terminal, and say how long it took."""
    if not sys.stderr.isatty():
        start = time.monotonic()
        sys.stderr.write(f"cluster: {text} ...\n")
        sys.stderr.flush()
        yield
        say(f"{text}: {time.monotonic() - start:.1f} s")
        return
    with _ticking(text) as start:
        yield
    sys.stderr.write(f"\r\033[Kcluster: {text}: {time.monotonic() - start:.1f} s\n")
    sys.stderr.flush()


@contextlib.contextmanager
def _ticking(text: str) -> Iterator[float]:
    """Redraw the live line by a timer signal: a thread would be in the way of fork."""
    start = time.monotonic()

    def draw(_number: int, _frame: FrameType | None) -> None:
        sys.stderr.write(f"\r\033[Kcluster: {text} ... {time.monotonic() - start:.0f} s")
        sys.stderr.flush()

    previous = signal.signal(signal.SIGALRM, draw)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.5)
    try:
        yield start
    except BaseException:
        sys.stderr.write("\n")
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
