"""Bars of progress, drawn into a text as wide as the test says: what there is, and how wide."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from hpcimg.cli.progress_bars import PARTS_SHOWN, ProgressBars
from hpcimg.progress import Progress

MB = 1_000_000
NAME = "registry.example.org:5000/a-rather-long/repository/of-an-image:with-a-tag-2026.11"


class Terminal:
    """A terminal of some width, the bars on it, and a clock that only the test moves."""

    def __init__(self, width=80, encoding="utf-8", height=50, **options):
        self.bytes = io.BytesIO()
        self.file = io.TextIOWrapper(self.bytes, encoding=encoding, errors="backslashreplace")
        self.console = Console(
            file=self.file, width=width, height=height, force_terminal=True, **options
        )
        self.now = 0.0
        self.bars = ProgressBars(self.console, lambda: self.now)
        self.bars.close()  # nobody draws but `lines`

    def fetch(self, what, seconds, part="", total=400 * MB, phase="convert"):
        """Report ten megabytes a second."""
        for at in range(seconds + 1):
            self.now += 1.0
            self.bars.show(what, Progress(phase, at * 10 * MB, total, part=part))

    def raw(self):
        """Draw once; what was written, with all that colours it."""
        self.file.flush()
        before = len(self.bytes.getvalue())
        self.console.print(self.bars.table())
        self.file.flush()
        return self.bytes.getvalue()[before:].decode(self.file.encoding)

    def lines(self):
        """Draw once; the lines without colours."""
        plain = Console(file=io.StringIO(), width=1000)
        with plain.capture() as capture:
            plain.print(Text.from_ansi(self.raw().rstrip("\n")), soft_wrap=True)
        return [line.rstrip() for line in capture.get().splitlines()]


def test_a_bar_tells_size_speed_and_time_left():
    """Of the whole image, and of each layer beneath it."""
    terminal = Terminal()
    terminal.fetch("qnib/bench", 20)
    terminal.fetch("qnib/bench", 10, part="1a2b3c4d5e6f", total=200 * MB, phase="fetch")
    whole, layer = terminal.lines()
    assert whole.split()[:2] == ["converting", "qnib/bench"]
    assert whole.endswith("50% of 400.0 MB 10.0 MB/s 20 s left")
    assert layer.startswith("  fetching 1a2b3c4d5e6f")
    assert layer.endswith("50% of 200.0 MB 10.0 MB/s 10 s left")


def test_a_layer_that_is_done_goes_away():
    """The others and the whole stay."""
    terminal = Terminal()
    for part in ("one", "two"):
        terminal.fetch("tool", 3, part=part)
    terminal.bars.show("tool", Progress("fetch", 9, 9, part="one"))
    terminal.fetch("tool", 5)
    assert [line.split()[1] for line in terminal.lines()] == ["tool", "two"]


def test_a_hundred_layers_do_not_fill_the_terminal():
    """The next one shows when one has gone."""
    terminal = Terminal()
    terminal.fetch("tool", 1)
    for part in range(100):
        terminal.fetch("tool", 1, part=f"layer{part}")
    assert len(terminal.lines()) == 1 + PARTS_SHOWN
    terminal.bars.show("tool", Progress("fetch", 9, 9, part="layer0"))
    assert terminal.lines()[-1].split()[1] == f"layer{PARTS_SHOWN}"


def test_each_image_has_its_own_group():
    """Layers stand under their image, whoever was told of first; an image that is done goes."""
    terminal = Terminal()
    terminal.fetch("one", 2, part="x")
    terminal.fetch("two", 2)
    terminal.fetch("one", 2)
    terminal.fetch("two", 2, part="y")
    words = [line.split()[1] for line in terminal.lines()]
    assert words == ["one", "x", "two", "y"]
    terminal.bars.finish("one", "one: in the store")
    assert [line.split()[1] for line in terminal.lines()] == ["two", "y"]


def test_what_is_not_known_is_not_told():
    """No size, no percent; and what stands at its beginning has a bar that moves all the same."""
    terminal = Terminal()
    terminal.bars.show("tool", Progress("publish"))
    assert terminal.lines()[0].split()[:2] == ["storing", "tool"]
    assert "%" not in terminal.lines()[0]
    terminal.bars.show("tool", Progress("convert", 0, 100 * MB))
    before = terminal.raw()
    terminal.now += 0.3
    assert terminal.raw() != before


@pytest.mark.parametrize("width", [80, 60, 40, 20])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_no_line_is_wider_than_the_terminal(width, encoding):
    """A long name is cut, in every locale, and nothing wraps."""
    terminal = Terminal(width, encoding)
    terminal.fetch(NAME, 20)
    terminal.fetch(NAME, 20, part="1a2b3c4d5e6f", total=12_345 * MB)
    lines = terminal.lines()
    assert len(lines) == 2
    assert max(map(len, lines)) <= width
    assert width < 40 or lines[0].startswith("conv")
    assert "\\u" not in terminal.raw()


def test_a_terminal_of_80_columns_shows_what_matters():
    """A name of usual length, and the numbers whole."""
    terminal = Terminal()
    terminal.fetch("qnib/bench:1.0", 20)
    line = terminal.lines()[0]
    assert "converting qnib/benc" in line
    assert line.endswith("20 s left")


def test_a_terminal_that_becomes_smaller():
    """The next drawing has the new width."""
    terminal = Terminal(120)
    terminal.fetch(NAME, 20)
    terminal.lines()
    terminal.console.width = 50
    assert max(map(len, terminal.lines())) <= 50


def test_no_colour_where_nobody_wants_any():
    """NO_COLOR holds for bars too: rich reads it, no colour is set."""
    terminal = Terminal(no_color=True)
    terminal.fetch("tool", 20)
    assert "\x1b[" not in terminal.raw()
    coloured = Terminal(color_system="standard")
    coloured.fetch("tool", 20)
    assert "\x1b[" in coloured.raw()


def test_foreign_words_are_no_markup():
    """A name with brackets is shown as it is."""
    terminal = Terminal()
    terminal.bars.show("[red]tool[/red]", Progress("fetch", 1, 2))
    assert "[red]tool[/red]" in terminal.lines()[0]
