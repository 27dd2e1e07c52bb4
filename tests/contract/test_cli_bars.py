"""Bars on a real terminal: a warming and a push, as wide as it says, and gone in the end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading

import pytest
from registry import digest_of
from test_cli import site  # noqa: F401 - a fixture
from test_cli_warm import CHECKOUT, Meeting, slurm  # noqa: F401 - a fixture

PROGRAM = "import sys; from hpcimg.cli import run; run()"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(*words, width=80, until=None, **environment):
    """Run a command on a terminal: its exit code, its result, and all pieces of lines it drew.

    `until` is called with what is there after each piece, to let the command go on.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    drawn = ""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=CHECKOUT,
        env={**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", **environment},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    ) as command:
        os.close(theirs)
        while chunk := _read(ours):
            drawn += chunk
            if until is not None:
                until(drawn)
        out = command.communicate(timeout=60)[0]
    os.close(ours)
    pieces = re.split(r"[\r\n]+|\x1b\[[0-9]*[AKJ]", drawn)
    return command.returncode, out, [ESCAPE.sub("", piece) for piece in pieces], drawn


def _read(descriptor):
    """Read from a terminal; nothing when its last user has gone, or its file has ended."""
    try:
        return os.read(descriptor, 65536).decode(errors="replace")
    except OSError:
        return ""


@pytest.fixture
def slow(slurm):  # noqa: F811
    """A registry that gives layer 1 when the test says that its bar was seen."""
    seen = threading.Barrier(2, timeout=60)
    slurm.registry.blobs = Meeting(slurm.registry.blobs, seen, {digest_of(b"layer 1")})
    return seen


class Until:
    """Lets the command go on when a text is on its terminal."""

    def __init__(self, wanted, seen):
        self.wanted, self.seen, self.met = wanted, seen, False

    def __call__(self, drawn):
        """Look at what is drawn so far."""
        if not self.met and self.wanted in ESCAPE.sub("", drawn):
            self.met = True
            self.seen.wait()


@pytest.mark.parametrize(
    ("width", "environment"),
    [(80, {}), (80, {"NO_COLOR": "1"}), (40, {}), (80, {"LC_ALL": "C", "PYTHONUTF8": "0"})],
    ids=["80", "no-color", "40", "ascii"],
)
def test_a_warming_draws_bars_that_never_wrap(slow, width, environment):
    """While it goes on there is a bar; then a line and the table, and the cursor is back."""
    environment = {"PYTHONCOERCECLOCALE": "0", **environment}
    until = Until("fetching too", slow)
    code, out, pieces, drawn = on_terminal(
        "cache", "warm", "tool", width=width, until=until, **environment
    )
    assert code == 0, drawn
    assert until.met
    bars = [piece for piece in pieces if piece.startswith(("fetching", "converting", "waiting"))]
    assert max(len(bar) for bar in bars) <= width
    assert any("tool cpu:broadwell: fetched in" in piece for piece in pieces)
    assert "fetched" in out
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")
    if "NO_COLOR" in environment:
        assert not re.search(r"\x1b\[[0-9;]*m", drawn)
    if "LC_ALL" in environment:
        assert drawn.isascii()


def test_a_dumb_terminal_gets_lines(slurm):  # noqa: F811
    """It cannot move its cursor."""
    code, _, _, drawn = on_terminal("cache", "warm", "tool", TERM="dumb")
    assert code == 0
    assert "\x1b" not in drawn


def test_a_push_draws_bars(slurm, tmp_path):  # noqa: F811
    """`index push` shows the copying, and prints the digest alone."""
    recipe = tmp_path / "recipe.yml"
    host = slurm.registry.name
    recipe.write_text(
        f"image: {host}/new:latest\nmanifests:\n"
        f"  - image: {host}/tool@{slurm.digests[1]}\n"
        "    platform: {os: linux, architecture: amd64, features: ['cpu:broadwell']}\n"
    )
    code, out, pieces, drawn = on_terminal("index", "push", str(recipe))
    assert code == 0, drawn
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", out)
    assert any(piece.startswith("copying the images") for piece in pieces), pieces
