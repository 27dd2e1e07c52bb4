"""Lines of progress: when a node speaks and when it is silent, by a clock that the test moves."""

from __future__ import annotations

import threading

import pytest

from hpcimg.cli.progress_lines import ProgressLines, ProgressReports
from hpcimg.progress import Progress
from hpcimg.progress_text import read_report
from hpcimg.slurm import place_of

MB = 1_000_000
NOTE = "bdw1 (pid 7) builds it since 21:03:04: convert"


class Clock:
    """Time that passes only when the test says so."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        """Tell the time."""
        return self.now


def told(capsys, lines, clock, phase, seconds, *, note="", rate=10 * MB, total=1000 * MB):
    """Report for some seconds, twice a second; the lines with the second at which each came."""
    said = []
    for half in range(2 * seconds + 1):
        lines(Progress(phase, round(rate * half / 2), total, note))
        text = capsys.readouterr().err
        said += [(clock.now - 1000.0, line) for line in text.splitlines()]
        clock.now += 0.5
    return said


def make(place=(0, 1)):
    """Make the lines of one node, and its clock."""
    clock = Clock()
    lines = ProgressLines("qnib/bench", "hpcimg: bdw1: ", place, clock=clock, look_seconds=0)
    return lines, clock


def test_what_is_there_at_once_is_not_worth_a_word(capsys):
    """A warm start reports nothing, a quick one has no time to speak: no line, not even an end."""
    lines, clock = make()
    lines.ready("442.0 MB")
    lines(Progress("fetch", 1, 2))
    clock.now += 1.9
    lines(Progress("convert", 2, 2))
    lines.ready("442.0 MB")
    assert capsys.readouterr().err == ""


def test_the_builder_speaks_every_few_seconds_and_at_the_end(capsys):
    """One line when the waiting begins, one every five seconds, one when it is ready."""
    lines, clock = make()
    said = told(capsys, lines, clock, "convert", 12)
    lines.ready("442.0 MB, zen3 build")
    assert said == [
        (2.0, "hpcimg: bdw1: converting qnib/bench: 2% of 1.0 GB, 10.0 MB/s, 1 min 38 s left"),
        (7.0, "hpcimg: bdw1: converting qnib/bench: 7% of 1.0 GB, 10.0 MB/s, 1 min 33 s left"),
        (12.0, "hpcimg: bdw1: converting qnib/bench: 12% of 1.0 GB, 10.0 MB/s, 1 min 28 s left"),
    ]
    end = "hpcimg: bdw1: qnib/bench is ready after 12.5 s: 442.0 MB, zen3 build\n"
    assert capsys.readouterr().err == end


def test_a_line_fits_a_terminal_of_80_columns(capsys):
    """Also the longest of a build, with a node's name of eight letters."""
    lines, clock = make()
    said = told(capsys, lines, clock, "convert", 12)
    assert max(len(line) for _, line in said) <= 80


def test_who_waits_says_once_for_whom(capsys):
    """And then only how far it is."""
    lines, clock = make()
    said = told(capsys, lines, clock, "wait", 25, note=NOTE)
    assert [at for at, _ in said] == [2.0, 7.0, 12.0, 17.0, 22.0]
    assert [NOTE in line for _, line in said] == [True, False, False, False, False]


def test_a_hundred_waiting_nodes_say_what_one_says(capsys):
    """They take turns: a minute's waiting makes a dozen lines in all, from different nodes."""
    said = []
    for number in range(100):
        lines, clock = make((number, 100))
        said += told(capsys, lines, clock, "wait", 60, note=NOTE)
    assert sorted(at for at, _ in said) == [2.0 + 5 * turn for turn in range(12)]


def test_two_waiting_nodes_are_no_louder_than_ten_seconds_each(capsys):
    """However few they are."""
    for number, times in ((0, [2.0, 12.0, 22.0]), (1, [7.0, 17.0, 27.0])):
        lines, clock = make((number, 2))
        assert [at for at, _ in told(capsys, lines, clock, "wait", 29)] == times


def test_who_was_not_heard_does_not_say_that_it_is_ready(capsys):
    """Of a hundred nodes those end with a line that began with one."""
    lines, clock = make((99, 100))
    assert told(capsys, lines, clock, "wait", 60) == []
    lines.ready("442.0 MB")
    assert capsys.readouterr().err == ""


def test_who_takes_over_speaks_at_once(capsys):
    """A waiter that becomes the builder has the word from then on, whatever its turn was."""
    lines, clock = make((99, 100))
    assert told(capsys, lines, clock, "wait", 20) == []
    said = told(capsys, lines, clock, "convert", 6)
    assert [at for at, _ in said] == [20.5, 25.5]


def test_a_stall_is_seen(capsys):
    """When no report comes any more, the next look still says where it stands, ever slower."""
    lines, clock = make()
    told(capsys, lines, clock, "convert", 12)
    for _ in range(20):
        clock.now += 5.0
        lines.look()
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("hpcimg: bdw1: converting qnib/bench: 12% of 1.0 GB")
    assert "kB/s" in last or "/s" not in last


def test_layers_are_not_for_lines(capsys):
    """Parts are drawn on a terminal alone."""
    lines, clock = make()
    for _ in range(20):
        lines(Progress("fetch", 1, 2, part="1a2b3c"))
        clock.now += 5.0
    assert capsys.readouterr().err == ""


def test_looks_go_on_by_themselves_until_the_end():
    """A converter that is silent for minutes is looked at from aside, and no longer than that."""
    lines = ProgressLines("qnib/bench", look_seconds=0.001)
    looked = []
    lines.look = lambda: looked.append(1) or len(looked) < 5 or lines.close()
    lines(Progress("convert"))
    for thread in threading.enumerate():
        if thread.name == "hpcimg-lines":
            thread.join(timeout=30)
    assert len(looked) >= 5


@pytest.mark.parametrize("text", ["", "3", "100/100", "-1/4", "a/b", "3/"])
def test_a_node_without_a_place_is_alone(text):
    """What the plugin could not tell makes nobody silent."""
    assert place_of(text) == (0, 1)
    assert place_of("3/100") == (3, 100)


def test_reports_for_a_program_are_few_and_end_with_the_last(capsys):
    """Each part, two a second, and the end of each at once: it takes the bar away."""
    clock = Clock()
    report = ProgressReports(clock)
    for tenth in range(101):
        report(Progress("convert", tenth, 100))
        report(Progress("fetch", tenth, 100, part="layer"))
        clock.now += 0.1
    found = [read_report(line) for line in capsys.readouterr().err.splitlines()]
    assert 2 * 15 <= len(found) <= 2 * 22
    assert found[-2:] == [Progress("convert", 100, 100), Progress("fetch", 100, 100, part="layer")]
