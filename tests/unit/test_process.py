"""The door to child processes: what a failure says, time limits, and going on detached."""

from __future__ import annotations

import os
import sys

import pytest

from hpcimg.errors import RuntimeFailure
from hpcimg.process import ProcessTimeoutError, Stage, pipeline, read_output, run


def test_output_is_returned():
    """Both streams come back as bytes, and standard input reaches the child."""
    done = run(["sh", "-c", "cat; echo said >&2"], stdin=b"given")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"given", b"said\n")


def test_failure_can_be_replayed():
    """A failed child's error has its exit code, its last words and a command to paste."""
    with pytest.raises(RuntimeFailure) as caught:
        run(["sh", "-c", "echo 'it is broken' >&2; exit 3"])
    assert caught.value.message == "sh exited with 3: it is broken"
    assert caught.value.hint == "replay: sh -c 'echo '\"'\"'it is broken'\"'\"' >&2; exit 3'"


def test_signal_is_named():
    """A killed child's error names the signal."""
    with pytest.raises(RuntimeFailure, match=r"sh was killed by SIGKILL: it said nothing"):
        run(["sh", "-c", "kill -9 $$"])


def test_missing_program():
    """A program that is not there is said so, with its name."""
    with pytest.raises(RuntimeFailure, match="could not start 'no-such-program-here': No such"):
        run(["no-such-program-here"])


def test_time_limit_ends_grandchildren_too():
    """A child that holds its pipes open through a grandchild does not outlast its time limit."""
    with pytest.raises(ProcessTimeoutError, match=r"did not end within 0\.2 s"):
        run(["sh", "-c", "sleep 1000 & wait"], timeout=0.2)


def test_other_account_needs_to_exist():
    """An account that the machine does not have is named, and nothing runs as somebody else."""
    with pytest.raises(RuntimeFailure, match='account "no-such-account" does not exist'):
        run(["true"], account="no-such-account")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_account_has_no_groups_of_ours():
    """A child under another account has that account's ids and no supplementary group."""
    done = run(["sh", "-c", "id -un; id -G"], account="nobody")
    assert done.stdout == b"nobody\n65534\n"


def test_what_a_stage_says_is_bounded():
    """It lies in memory: the first megabyte is kept, and the program goes on without the rest."""
    code = (
        "import os\n"
        "try:\n"
        "    while True: os.write(2, b'x' * 65536)\n"
        "except PermissionError: os._exit(7)"
    )
    with pipeline([Stage([sys.executable, "-c", code])], {}) as running:
        done = running.wait(0)
    assert (done.returncode, done.stderr) == (7, b"x" * (1 << 20))


def test_a_stage_is_quoted_as_it_spoke():
    """What it said ends where it ended."""
    words = [sys.executable, "-c", "import os; os.write(2, b'one\\n')"]
    with pipeline([Stage(words)], {}) as running:
        assert running.wait(0).stderr == b"one\n"


def test_a_child_writes_no_more_than_it_may():
    """One that would go on for ever fails; what fits is given whole, zeros at its end as well."""
    bounds = {"env": {"LC_ALL": "C"}, "timeout": 60}
    assert read_output(["/usr/bin/printf", r"a\0\0"], 3, **bounds) == b"a\0\0"
    with pytest.raises(RuntimeFailure, match="exited with"):
        read_output(["/bin/cat", "/dev/zero"], 1 << 20, **bounds)
