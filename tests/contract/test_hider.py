"""The hider: a program that does not see some devices, and all others as they are."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import programs
import pytest

pytestmark = pytest.mark.skipif(not programs.has_compiler(), reason="there is no C compiler")
NOBODY = 65534


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "sanitized"])
def hider(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Where it is; pytest's own folders are closed to the user who runs it."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        yield programs.compile_one(place, "hider", sanitized=request.param)


def run(hider: Path, *words: str, user: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run it, as this user or another one."""
    done = subprocess.run(
        [hider, *words], capture_output=True, text=True, check=False, user=user, cwd="/"
    )
    if "Operation not permitted" in done.stderr:
        pytest.skip("namespaces are not to be had here")
    return done


@pytest.mark.parametrize("user", [None, NOBODY], ids=["self", "nobody"])
def test_what_is_named_is_not_there(hider: Path, user: int | None) -> None:
    """A file and one in a directory; what is beside them works, and nothing can be left there."""
    if user is not None and os.geteuid() != 0:
        pytest.skip("only root becomes somebody else")
    script = (
        "ls -d /dev/full /dev/pts/ptmx; test -c /dev/null -a -d /dev/shm || echo lost;"
        "echo x >/dev/null; readlink /dev/fd; test -e /etc/passwd && echo etc; id -u; touch /dev/x"
    )
    words = ("/dev/full", "/dev/pts/ptmx", "/etc/passwd", "--", "sh", "-c", script)
    done = run(hider, *words, user=user)
    assert done.stdout.split() == ["/proc/self/fd", "etc", str(user or os.geteuid())]
    for path in ("/dev/full", "/dev/pts/ptmx"):
        assert f"'{path}': No such file" in done.stderr
    assert "Read-only file system" in done.stderr
    assert Path("/dev/full").is_char_device()


@pytest.mark.parametrize("words", [(), ("/dev/full",), ("/dev/full", "--")])
def test_wrong_words_run_nothing(hider: Path, words: tuple[str, ...]) -> None:
    """There has to be a program after the paths."""
    done = run(hider, *words)
    assert (done.returncode, done.stderr) == (125, "hpcimg: hider: wrong arguments\n")


def test_a_program_that_is_not_there_is_named(hider: Path) -> None:
    """With what the kernel says of it."""
    done = run(hider, "/dev/full", "--", "/nothing/here")
    assert done.returncode == 125
    assert done.stderr == 'hpcimg: could not run "/nothing/here": No such file or directory\n'
