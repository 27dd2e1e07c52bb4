"""The door to child processes: what a failure says, time limits, and going on detached."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcimg.errors import ExitCode, RuntimeFailure
from hpcimg.process import ProcessTimeoutError, detach_after, run


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


def test_detached_call_gives_its_exit_code():
    """A call that ends in time gives its own exit code."""
    assert detach_after(30.0, lambda: 7) == 7


def test_detached_call_that_fails_says_so(capfd):
    """A call that raises is an internal error with its traceback; our own code goes on once."""

    def fail() -> int:
        raise ZeroDivisionError("by design")

    assert detach_after(30.0, fail) == ExitCode.INTERNAL
    assert "ZeroDivisionError: by design" in capfd.readouterr().err


def test_detached_call_goes_on(tmp_path: Path):
    """A call that takes longer is left behind, and still does its work."""
    start, end = tmp_path / "start", tmp_path / "end"
    os.mkfifo(start)
    os.mkfifo(end)

    def wait_and_write() -> int:
        start.read_text(encoding="ascii")
        end.write_text("worked", encoding="ascii")
        return 0

    code = detach_after(0.0, wait_and_write)
    start.write_text("go", encoding="ascii")  # before any assertion: the child waits for it
    assert code is None
    assert end.read_text(encoding="ascii") == "worked"
