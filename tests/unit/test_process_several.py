"""Several child processes at once: bounds, lines, failures, and an interrupt that tidies up."""

from __future__ import annotations

import os
import signal

import pytest

from hpcimg.process import run_several


class Listener:
    """Notes what it is told; takes lines that begin with `took`."""

    def __init__(self, raises_at=""):
        self.running = set()
        self.most = 0
        self.lines = []
        self.ended = {}
        self.raises_at = raises_at

    def start(self, name):
        """A child is about to run."""
        self.running.add(name)
        self.most = max(self.most, len(self.running))

    def line(self, name, text):
        """A child wrote a line."""
        self.lines.append((name, text))
        if self.raises_at and text == self.raises_at:
            raise KeyboardInterrupt
        return text.startswith("took")

    def end(self, name, ended):
        """A child has ended."""
        self.running.discard(name)
        self.ended[name] = ended

    def run(self, commands, at_once=2):
        """Run shell commands."""
        shells = {name: ["sh", "-c", text] for name, text in commands.items()}
        run_several(
            shells,
            at_once,
            env=os.environ,
            on_start=self.start,
            on_line=self.line,
            on_end=self.end,
        )


def test_no_more_than_so_many_run_at_once():
    """The next one starts when one has ended."""
    listener = Listener()
    listener.run({str(number): "echo took" for number in range(7)}, 3)
    assert listener.most == 3
    assert [ended.returncode for ended in listener.ended.values()] == [0] * 7


def test_they_do_run_at_once(tmp_path):
    """Two that wait for each other both end."""
    script = f"mkdir {tmp_path}/NAME; while [ ! -d {tmp_path}/OTHER ]; do sleep 0.02; done"
    listener = Listener()
    both = {one: script.replace("NAME", one).replace("OTHER", other) for one, other in ("ab", "ba")}
    listener.run(both)
    assert set(listener.ended) == {"a", "b"}


def test_lines_of_both_streams_are_told_and_those_not_taken_are_kept():
    """Also one that does not end with a newline; an empty one is nothing."""
    listener = Listener()
    listener.run({"a": "echo took 1; echo >&2; echo kept >&2; printf last"})
    assert listener.lines == [("a", "took 1"), ("a", "kept"), ("a", "last")]
    assert listener.ended["a"].said == ("kept", "last")


def test_a_failure_stops_no_other():
    """Each has its own exit code; one that cannot even start says so."""
    listener = Listener()
    listener.run({"bad": "exit 3", "good": "exit 0"}, 1)
    codes = {name: ended.returncode for name, ended in listener.ended.items()}
    assert codes == {"bad": 3, "good": 0}
    run_several(
        {"none": ["/no/such/program"], "good": ["true"]},
        1,
        env={},
        on_start=listener.start,
        on_line=listener.line,
        on_end=listener.end,
    )
    assert listener.ended["none"].said == (
        "could not start '/no/such/program': No such file or directory",
    )
    assert listener.ended["good"].returncode == 0


def test_an_interrupt_lets_all_tidy_up_and_starts_no_more(tmp_path):
    """Children get the signal of Ctrl-C, and are waited for; one of them in its tidying."""
    trap = f"trap 'sleep 0.3; touch {tmp_path}/tidied; exit' INT"
    listener = Listener(raises_at="go")
    commands = {
        "a": f"{trap}; touch {tmp_path}/ready; while :; do sleep 0.05; done",
        "b": f"until [ -e {tmp_path}/ready ]; do sleep 0.02; done; echo go; exec sleep 1000",
        "c": f"touch {tmp_path}/began",
    }
    # Where pytest is a shell's background job, its children would pass over the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            listener.run(commands)
    finally:
        signal.signal(signal.SIGINT, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ready", "tidied"]


def test_a_child_cannot_fill_the_memory():
    """A line without end is cut, and of many lines the last ones are kept."""
    listener = Listener()
    listener.run({"a": "head -c 3000000 /dev/zero | tr '\\0' x; seq 100 1>&2"})
    assert max(len(text) for _, text in listener.lines) <= 1 << 17
    assert listener.ended["a"].said[-1] == "100"
    assert len(listener.ended["a"].said) == 20
