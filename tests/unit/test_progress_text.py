"""Progress in words: speed and time left from a clock that is passed in, and the sentence back."""

from __future__ import annotations

import pytest

from hpcimg.progress import Progress
from hpcimg.progress_text import (
    PHASES,
    Pace,
    read_report,
    report_line,
    sentence,
    size_words,
    time_words,
)

MB = 1_000_000


def pace_of(*points):
    """Make a pace of (second, bytes) points."""
    pace = Pace()
    for at, done in points:
        pace.add(at, done)
    return pace


def test_an_even_speed_is_told_as_it_is():
    """Ten megabytes a second, and the rest takes as long as it must."""
    pace = pace_of(*((100.0 + at, 10 * MB * at) for at in range(8)))
    assert pace.speed == pytest.approx(10 * MB)
    assert pace.seconds_left(70 * MB, 100 * MB) == pytest.approx(3.0)


def test_one_slow_second_does_not_throw_the_time_left_about():
    """The speed is smoothed: a stall of a second takes a part of it, and a long one nearly all."""
    even = [(float(at), 10 * MB * at) for at in range(10)]
    stalled = pace_of(*even, (10.0, 90 * MB))
    assert 8 * MB < stalled.speed < 10 * MB
    for at in range(11, 60):
        stalled.add(float(at), 90 * MB)
    assert stalled.speed < MB / 10


def test_blocks_within_a_moment_make_no_speed_of_their_own():
    """A burst out of a buffer counts over the time that passes, not over its microseconds."""
    assert pace_of((0.0, 0), (0.001, 50 * MB)).speed == 0.0
    assert pace_of((0.0, 0), (0.001, 50 * MB), (1.0, 60 * MB)).speed == 60 * MB


def test_a_new_phase_begins_anew():
    """Fewer bytes than before are another count."""
    pace = pace_of((0.0, 0), (1.0, 10 * MB), (2.0, 0))
    assert pace.speed == 0.0
    pace.add(3.0, MB)
    assert pace.speed == MB


@pytest.mark.parametrize(("done", "total"), [(0, 10), (10, 10), (11, 10), (5, 0)])
def test_no_time_left_where_nobody_can_know(done, total):
    """Before the first byte, after the last, and where the whole is not known."""
    assert pace_of((0.0, 0), (4.0, 100)).seconds_left(done, total) is None


def test_no_time_left_of_the_first_moment():
    """How fast it begins says little of how fast it goes on."""
    pace = pace_of((0.0, 0), (1.0, 100))
    assert pace.seconds_left(100, 1000) is None
    pace.add(2.0, 200)
    assert pace.seconds_left(200, 1000) == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (59.0, "59 s"),
        (60.0, "1 min 0 s"),
        (754.2, "12 min 35 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_times(seconds, words):
    """In two units at most."""
    assert time_words(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0.0 MB"), (512, "0.5 kB"), (479_200_000, "479.2 MB"), (12_300_000_000, "12.3 GB")],
)
def test_sizes(count, words):
    """Powers of ten with one decimal, as everywhere."""
    assert size_words(count) == words


def test_the_sentence_of_a_build():
    """Size, percent, speed and time left, on one short line."""
    pace = pace_of((0.0, 0), (4.0, 220 * MB))
    text = sentence(Progress("convert", 220 * MB, 440 * MB), "qnib/bench", pace)
    assert text == "converting qnib/bench: 50% of 440.0 MB, 55.0 MB/s, 4 s left"


def test_the_sentence_of_a_wait():
    """Whom it waits for stands at the end, and only where it is wanted."""
    progress = Progress("wait", 1 * MB, 4 * MB, "bdw1 (pid 7) builds it")
    text = sentence(progress, "qnib/bench", Pace())
    assert text == "waiting for qnib/bench: 25% of 4.0 MB (bdw1 (pid 7) builds it)"
    assert sentence(progress, "qnib/bench", Pace(), with_note=False).endswith("of 4.0 MB")


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("start", ["hpcimg: ", "hpcimg: bdw1: "])
def test_a_nodes_sentence_is_read_back(phase, start):
    """`cache warm` draws bars of what the node says to its srun."""
    note = "bdw1 (pid 7, job 3) builds it" if phase == "wait" else ""
    progress = Progress(phase, 220 * MB, 440 * MB, note)
    for pace in (Pace(), pace_of((0.0, 0), (4.0, 220 * MB))):
        line = start + sentence(progress, "registry:5000/qnib/bench:1.0", pace)
        assert read_report(line) == progress, line
    bare = Progress(phase, note=note)
    assert read_report(start + sentence(bare, "qnib/bench", Pace())) == bare


def test_a_report_for_programs_is_read_back():
    """Nothing of it is lost."""
    progress = Progress("fetch", 3, 7, "a note", "1a2b3c")
    assert read_report(report_line(progress)) == progress


@pytest.mark.parametrize(
    "line",
    [
        "",
        "srun: error: bdw1: task 0: Exited with exit code 125",
        'hpcimg: bdw1: "registry:5000/nosuch:latest" is not in the registry',
        "hpcimg: bdw1: hint: write another name",
        '{"phase": "fetch"}',
        '{"phase": ',
        '{"phase": "fetch", "done": "x", "total": 1, "note": "", "part": ""}',
        '{"phase": "fetch", "done": 1e999, "total": 1, "note": "", "part": ""}',
        '{"phase": "fetch", "done": -1, "total": 1, "note": "", "part": ""}',
        '{"phase": "\\u001b[2J", "done": 1, "total": 1, "note": "", "part": ""}',
        '{"phase": "wait", "done": 1, "total": 1, "note": "\\u009b2J", "part": ""}',
        '{"phase": "fetch", "done": 1, "total": 1, "note": "", "part": "\\n"}',
        '{"phase": "fetch", "done": 1, "total": 1, "note": "", "part": "' + "1" * 65 + '"}',
        "hpcimg: bdw1: waiting for tool (\x1b]0;title\x07)",
        "[" * 9999,
        '{"phase": ' + "[" * 9999,
    ],
)
def test_anything_else_is_no_report(line):
    """What a failing node says is not taken for progress, but kept."""
    assert read_report(line) is None
