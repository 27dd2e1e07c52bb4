"""The text of mounts as the plugin and the starter take it apart."""

from __future__ import annotations

import subprocess
from pathlib import Path

import programs
import pytest

pytestmark = pytest.mark.skipif(not programs.has_compiler(), reason="there is no C compiler")

NOSUID, NODEV, NOEXEC = 2, 4, 8
SLAVE, RECURSIVE = 1 << 19, 1 << 14


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that prints what binds.c finds, with sanitizers."""
    made = tmp_path_factory.mktemp("binds") / "probe"
    files = [Path(__file__).with_name("binds_probe.c"), programs.SPANK / "binds.c"]
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"]
    subprocess.run(["gcc", *flags, "-I", programs.SPANK, "-o", made, *files], check=True)
    return made


def said(probe: Path, *words: str) -> tuple[int, list[str]]:
    """How the probe ended, and its lines."""
    done = subprocess.run([probe, *words], check=False, capture_output=True, text=True)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        pytest.param("/a", ["path|/a|/a|rw|0|0"], id="one path"),
        pytest.param("data", ["path|data|data|rw|0|0"], id="a relative one"),
        pytest.param("../d:/b", ["path|../d|/b|rw|0|0"], id="from above"),
        pytest.param("/a b:/c d", ["path|/a b|/c d|rw|0|0"], id="spaces"),
        pytest.param("tmpfs:/s", ["tmpfs|tmpfs|/s|rw|0|0"], id="tmpfs"),
        pytest.param("umount:/tmp", ["umount|umount|/tmp|rw|0|0"], id="umount"),
        pytest.param("/a:/..b", ["path|/a|/..b|rw|0|0"], id="a name with dots"),
        pytest.param(
            "/a:/b:ro+nosuid+nodev+noexec+rslave",
            [f"path|/a|/b|ro|{NOSUID | NODEV | NOEXEC:x}|{SLAVE | RECURSIVE:x}"],
            id="flags",
        ),
        pytest.param("/a:/b:optional", ["path|/a|/b|rw,optional|0|0"], id="optional"),
        pytest.param("/a:/b:ro,/c", ["path|/a|/b|ro|0|0", "path|/c|/c|rw|0|0"], id="several"),
        pytest.param("/a:/b,/a:/b", ["path|/a|/b|rw|0|0"], id="repeated"),
    ],
)
def test_mounts(probe: Path, text: str, lines: list[str]) -> None:
    """Each form of a mount, and what stands in it."""
    assert said(probe, text) == (0, lines)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", ""), ("/a,,/b", ""), (":/b", ":/b"), ("/a:", "/a:"), ("/a:b", "/a:b"),
        ("/a:/", "/a:/"), ("/a:/./", "/a:/./"), ("/a:/b/../c", "/a:/b/../c"), ("../a", "../a"),
        ("/a:/b:", "/a:/b:"), ("/a:/b:rx", "/a:/b:rx"), ("/a:/b:ro+rw", "/a:/b:ro+rw"),
        ("/a:/b:slave+shared", "/a:/b:slave+shared"), ("/a:/b:ro:x", "/a:/b:ro:x"),
        ("umount:/a:ro", "umount:/a:ro"), ("/a:/x,/b:/x", "/b:/x"), ("/a:/x,/a:/x:ro", "/a:/x:ro"),
        ("/a\tb", "/a\tb"), ("/1,/2,/3,/4,/5", "/5"), ("/" + "a" * 4096, "/" + "a" * 4096),
    ],
)  # fmt: skip
def test_what_is_no_mount(probe: Path, text: str, wrong: str) -> None:
    """The part that is wrong is named, and what comes before it stands."""
    code, lines = said(probe, text)
    assert (code, lines[-1]) == (1, f"wrong: {wrong}")


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("/a:b\t/c,d\tro,optional", "path|/a:b|/c,d|ro,optional|0|0"),
        ("/a\t/b\t", "path|/a|/b|rw|0|0"),
        ("tmpfs\t/b", "tmpfs|tmpfs|/b|rw|0|0"),
    ],
)
def test_lines_of_get(probe: Path, line: str, printed: str) -> None:
    """What the node puts in may have any character that is none of a line's."""
    assert said(probe, line, "line") == (0, [printed])
    assert said(probe, "/a", "line")[0] == 1
