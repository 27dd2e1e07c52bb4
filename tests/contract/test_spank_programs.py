"""The starter, the holder and the joiner outside Slurm, as shipped and with sanitizers."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import programs
import pytest

pytestmark = pytest.mark.skipif(not programs.has_compiler(), reason="there is no C compiler")

FAILED = 125
NOBODY = 65534


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "sanitized"])
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Where the programs are; pytest's own folders are closed to the user who runs some of them."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        yield programs.build(place, sanitized=request.param)


@dataclass(frozen=True)
class Container:
    """A process in namespaces of its own, and what the joiner is given of it."""

    pid: int
    descriptors: tuple[int, int, int]

    @property
    def words(self) -> list[str]:
        """The descriptors as the joiner's words."""
        return [str(fd) for fd in self.descriptors]


def memory(content: bytes) -> int:
    """A file without a name."""
    fd = os.memfd_create("test", 0)
    os.write(fd, content)
    return fd


@pytest.fixture
def container() -> Iterator[Container]:
    """One that waits, with the variables of an image."""
    child = subprocess.Popen(
        ["unshare", "--user", "--mount", "--map-current-user", "sh", "-c", "echo up; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    if child.stdout.readline() != b"up\n":
        pytest.skip("unprivileged user namespaces are off")
    fds = (
        os.pidfd_open(child.pid),
        os.open(f"/proc/{child.pid}/root", os.O_RDONLY),
        memory(b"\0PATH=/usr/bin:/bin\0OF_IMAGE=1 2\0HOME=/image\0SLURM_X=image\0"),
    )
    for fd in fds:
        os.set_inheritable(fd, True)
    yield Container(child.pid, fds)
    for fd in fds:
        os.close(fd)
    child.communicate()


def join(
    folder: Path, container: Container, *words: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the joiner as a task of Slurm would."""
    environment = {"PATH": "/host", "HOME": "/", "SLURM_X": "job", **variables}
    return subprocess.run(
        [str(folder / "joiner"), *words],
        env={"ASAN_OPTIONS": "detect_leaks=0", **environment},
        pass_fds=container.descriptors,
        cwd="/tmp",
        check=False,
        capture_output=True,
        text=True,
    )


SCRIPT = (
    'echo "$OF_IMAGE,$HOME,$SLURM_X,$PWD,$SLURM_HPCIMG_JOIN,$1"; readlink /proc/self/ns/mnt; '
    "ls /proc/self/fd; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; exit 7"
)


@pytest.mark.parametrize("release", ["new", "old"])
def test_joiner_hands_over(folder: Path, container: Container, release: str) -> None:
    """By words or, before Slurm 23.11, by a variable: namespaces, variables, nothing else."""
    if release == "new":
        words = [*container.words, "--", "sh", "-c", SCRIPT, "sh", "a b"]
        done = join(folder, container, *words)
    else:
        variable = " ".join([*container.words, "sh"])
        done = join(folder, container, "-c", SCRIPT, "sh", "a b", SLURM_HPCIMG_JOIN=variable)
    lines = done.stdout.splitlines()
    assert lines[0] == "1 2,/,job,/tmp,,a b", done
    assert lines[1] == str(Path(f"/proc/{container.pid}/ns/mnt").readlink())
    assert lines[2:6] == ["0", "1", "2", "3"]  # the last is that of ls
    assert lines[6:] == ["CapEff:\t0000000000000000", "NoNewPrivs:\t1"]
    assert done.returncode == 7


def test_joiner_keeps_the_pmi_descriptor(folder: Path, container: Container) -> None:
    """The one descriptor that PMI_FD names stays open."""
    reader, writer = os.pipe()
    with os.fdopen(reader), os.fdopen(writer):
        pair = (*container.descriptors, writer)
        done = subprocess.run(
            [folder / "joiner", *container.words, "--", "bash", "-c", "echo word >&$PMI_FD"],
            env={"PMI_FD": str(writer), "ASAN_OPTIONS": "detect_leaks=0"},
            pass_fds=pair,
            check=False,
        )
        assert done.returncode == 0
        assert os.read(reader, 10) == b"word\n"


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        pytest.param(["--refuse", "--", "echo", "ran"], {}, id="refused"),
        pytest.param(["ran"], {"SLURM_HPCIMG_JOIN": "refuse"}, id="refused by variable"),
        pytest.param(["ran"], {"SLURM_HPCIMG_JOIN": "1 2 echo"}, id="too few numbers"),
        pytest.param(["ran"], {"SLURM_HPCIMG_JOIN": ""}, id="empty variable"),
        pytest.param(["1", "2", "x", "--", "echo", "ran"], {}, id="not a number"),
        pytest.param(["1", "2", "3", "echo", "ran"], {}, id="no dashes"),
        pytest.param(["900", "901", "902", "--", "echo", "ran"], {}, id="not open"),
        pytest.param(["0", "0", "0", "--", "echo", "ran"], {}, id="no process"),
        pytest.param([], {}, id="nothing"),
    ],
)
def test_joiner_runs_nothing_on_the_host(
    folder: Path, container: Container, words: list[str], variables: dict[str, str]
) -> None:
    """Refused or confused, it ends with 125 and starts no command."""
    done = join(folder, container, *words, **variables)
    assert (done.returncode, done.stdout) == (FAILED, "")
    assert ("refuse" in str(words) + str(variables)) == (done.stderr == "")


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        pytest.param(["--end", "--", "echo", "ran"], {}, id="by word"),
        pytest.param(["ran"], {"SLURM_HPCIMG_JOIN": "end"}, id="by variable"),
    ],
)
def test_joiner_ends_a_step_that_only_fetches(
    folder: Path, container: Container, words: list[str], variables: dict[str, str]
) -> None:
    """Well, and without a word; the command runs nowhere."""
    done = join(folder, container, *words, **variables)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("content", [b"A=1", b"A=1\0B", b"x" * (1 << 20) + b"\0"])
def test_joiner_refuses_a_broken_environment(
    folder: Path, container: Container, content: bytes
) -> None:
    """One that does not end with a NUL, or is too long, is none."""
    fd = memory(content)
    broken = Container(container.pid, (*container.descriptors[:2], fd))
    done = join(folder, broken, *broken.words, "--", "/bin/echo", "ran")
    os.close(fd)
    assert (done.returncode, done.stdout) == (FAILED, "")
    assert 'could not read what was asked for to run "/bin/echo": Invalid argument' in done.stderr


@pytest.mark.parametrize(
    ("told", "printed"),
    [
        pytest.param(b"own=/usr\0", "/tmp,1 2", id="where it was started"),
        pytest.param(b"workdir=/usr\0own=/etc\0", "/usr,1 2", id="where it has to"),
        pytest.param(b"env=NO,OF_IMAGE\0", "/tmp,job's", id="a variable that stays the job's"),
        pytest.param(b"env=OF,OF_IMAGE2\0", "/tmp,1 2", id="other names"),
    ],
)
def test_joiner_does_as_it_is_told(
    folder: Path, container: Container, told: bytes, printed: str
) -> None:
    """Words of the request stand before the variables of the image."""
    fd = memory(told + b"\0PATH=/usr/bin:/bin\0OF_IMAGE=1 2\0")
    asked = Container(container.pid, (*container.descriptors[:2], fd))
    words = [*asked.words, "--", "sh", "-c", 'echo "$(pwd),$OF_IMAGE"']
    done = join(folder, asked, *words, OF_IMAGE="job's")
    os.close(fd)
    assert done.stdout == f"{printed}\n", done.stderr


def test_joiner_starts_nowhere_else(folder: Path, container: Container) -> None:
    """Where the directory that was asked for is not there, nothing runs."""
    fd = memory(b"workdir=/nowhere\0own=/usr\0\0")
    asked = Container(container.pid, (*container.descriptors[:2], fd))
    done = join(folder, asked, *asked.words, "--", "/bin/echo", "ran")
    os.close(fd)
    assert (done.returncode, done.stdout) == (FAILED, "")
    assert 'could not start in the directory "/nowhere": No such file' in done.stderr


def test_holder_lives_as_long_as_its_input(folder: Path) -> None:
    """It reports its pid and environment, and ends with its standard input."""
    with subprocess.Popen(
        [folder / "holder"],
        env={"OF_IMAGE": "1", "ASAN_OPTIONS": "detect_leaks=0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        size = len(b"OF_IMAGE=1\0ASAN_OPTIONS=detect_leaks=0\0")
        assert holder.stdout.readline() == b"\n"
        assert holder.stdout.readline() == b"hpcimg-holder-ready %d %d\n" % (holder.pid, size)
        assert b"OF_IMAGE=1\0" in holder.stdout.read()
        assert holder.poll() is None
        holder.stdin.close()
        assert holder.wait(timeout=30) == 0


APPTAINER = """#!/bin/sh
echo "INFO: words of a start-up"
echo "hpcimg-holder-ready of an image that talks"
{last}
"""
NAMESPACES = "exec unshare --user --mount {folder}/holder"


def start(folder: Path, last: str, *more: str, lifeline: int) -> subprocess.CompletedProcess[bytes]:
    """Run the starter as root with a stand-in for Apptainer."""
    stand_in = folder / "apptainer"
    stand_in.write_text(APPTAINER.format(last=last))
    stand_in.chmod(0o755)
    options = {
        "uid": NOBODY,
        "gid": NOBODY,
        "groups": "100,65534",
        "job": 1,
        "image": "/image.sif",
        "name": "name",
        "node": "node",
        "workdir": "/nowhere",
        "apptainer": stand_in,
        "holder": folder / "holder",
    }
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    return subprocess.run(
        [folder / "starter", *words, *more],
        env={"ASAN_OPTIONS": "detect_leaks=0"},
        stdin=lifeline,
        check=False,
        capture_output=True,
        timeout=60,
    )


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the starter is root's")


@needs_root
def test_starter_opens_a_container_that_ends_with_its_lifeline(folder: Path) -> None:
    """The anchor is the user's, with all groups mapped, and goes when the launcher does."""
    reader, writer = os.pipe()
    # The substitution ends when the program has begun, since only it holds the pipe until then.
    leaves = """: "$(setsid sh -c 'exec >/dev/null; exec sleep 4713' &)"; """
    talks = f"printf 'a line without an end'; {leaves}"
    done = start(folder, talks + NAMESPACES.format(folder=folder), lifeline=reader)
    os.close(reader)
    assert done.returncode == 0, done.stderr
    head, processes, tail = done.stdout.split(b"\n", 2)
    word, anchor, _ = head.split()
    assert word == b"anchor"
    pids = [int(pair.split(b":")[0]) for pair in processes.split()[1:]]
    # It may still be the shell that becomes sleep.
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids]
    comms = [Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids]
    names = ["sleep" if b"4713" in one else comm for one, comm in zip(lines, comms, strict=True)]
    assert sorted(names) == ["holder", "sleep", "starter"]  # the starter's is the anchor
    os.kill(pids[names.index("sleep")], signal.SIGKILL)
    size, environment = tail.split(b"\n", 1)
    assert size == b"environment %d" % len(environment)
    status = Path(f"/proc/{int(anchor)}")
    assert status.stat().st_uid == NOBODY
    ids = [line.split() for line in (status / "gid_map").read_text().splitlines()]
    assert ids == [["100", "100", "1"], ["65534", "65534", "1"]]
    ends = [os.pidfd_open(pid) for pid in pids if pid != pids[names.index("sleep")]]
    os.close(writer)
    for fd in ends:
        assert select.select([fd], [], [], 30)[0], "the process did not end"
        os.close(fd)


@needs_root
@pytest.mark.parametrize(
    ("last", "reason"),
    [
        pytest.param("echo no space left >&2; exit 1", "no space left", id="fails"),
        pytest.param("exit 0", "Apptainer ended and said nothing", id="says nothing"),
        pytest.param("(setsid sleep 4712 >/dev/null 2>&1 &)", "said nothing", id="leaves one"),
        pytest.param("echo hpcimg-holder-ready 1 0; sleep 4711", "said nothing", id="init's pid"),
        pytest.param("echo hpcimg-holder-ready $$ 0; sleep 4711", "not permitted", id="the host's"),
        pytest.param("echo hpcimg-holder-ready -5 0", "said nothing", id="no pid"),
        pytest.param("echo hpcimg-holder-ready $$ 99999999", "said nothing", id="too large"),
        pytest.param("echo hpcimg-holder-ready $$ 9; printf short", "said nothing", id="short"),
        pytest.param("head -c 100000 /dev/zero | tr '\\0' x", "said nothing", id="endless line"),
    ],
)
def test_starter_refuses(folder: Path, last: str, reason: str) -> None:
    """What is no container of the user's is refused in two lines."""
    reader, writer = os.pipe()
    done = start(folder, last, lifeline=reader)
    os.close(reader)
    os.close(writer)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == FAILED
    assert done.stdout == b""
    assert subprocess.run(["pgrep", "-f", "^sleep 471[12]"], check=False).returncode == 1
    assert len(lines) == 2
    assert reason in lines[0].replace("Operation not", "not")
    assert lines[1].startswith("hpcimg: node: hint: ")
    assert subprocess.run(["pgrep", "-f", "^sleep 4711"], check=False).returncode == 1


@needs_root
@pytest.mark.parametrize("said", ["", "hpcimg-holder-ready $$ 9; printf short"])
def test_starter_does_not_wait_for_ever(folder: Path, said: str) -> None:
    """What hangs before its container stands is ended: a batch job could not be cancelled."""
    reader, writer = os.pipe()
    done = start(folder, f"echo {said}; exec sleep 4714", "--seconds", "1", lifeline=reader)
    os.close(reader)
    os.close(writer)
    reason, hint = done.stderr.decode().splitlines()
    assert done.returncode == FAILED
    assert reason.endswith('could not start "name": it needed more than 1 s')
    assert hint.startswith("hpcimg: node: hint: the image's file system hangs")
    assert subprocess.run(["pgrep", "-f", "^sleep 4714"], check=False).returncode == 1


def test_starter_wants_all_its_words(folder: Path) -> None:
    """Without them it says so and starts nothing."""
    done = subprocess.run([folder / "starter", "--uid", "x"], check=False, capture_output=True)
    assert (done.returncode, done.stdout) == (FAILED, b"")
    assert b"starter: wrong arguments" in done.stderr


def test_plugin_compiles_for_this_machines_slurm(tmp_path: Path) -> None:
    """Without a warning, with nothing visible but SPANK's entry points. Debian 12 has 22.05."""
    if not Path("/usr/include/slurm/spank.h").exists():
        pytest.skip("Slurm's headers are not installed")
    subprocess.run(["make", "-s", "-C", programs.SPANK, f"BUILD={tmp_path}"], check=True)
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", tmp_path / "hpcimg.so"],
        check=True,
        capture_output=True,
        text=True,
    )
    names = {line.split()[-1] for line in listed.stdout.splitlines()}
    visible = {name for name in names if not name.startswith(("slurm_spank_", "plugin_", "HPCIMG"))}
    assert visible <= {"spank_plugin_type", "spank_plugin_version"}


def test_sources_are_formatted() -> None:
    """The C sources are as clang-format writes them."""
    try:
        done = subprocess.run(
            ["clang-format", "--dry-run", "--Werror", *programs.SPANK.glob("*.[ch]")],
            check=False,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        pytest.skip("clang-format is not installed")
    assert done.returncode == 0, done.stderr
