"""--container-mounts: what of the node's files a container shows, and how."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Cluster
from launching import Allocation, allocate

pytestmark = pytest.mark.integration

IMAGE = "app"
MADE = "mkdir -p data/in 's p'; echo one >data/file; echo two >'s p/file'; echo three >data/in/file"


@pytest.fixture(scope="module")
def job(cluster: Cluster) -> Iterator[Allocation]:
    """One job for all steps of this file, and files in alice's home."""
    assert cluster.shell(f"cd; rm -rf data 's p'; {MADE}").returncode == 0
    yield from allocate(cluster)


def mounted(job: Allocation, mounts: str, script: str) -> str:
    """What a script prints in a container with these mounts."""
    ended = job.step(
        f"--container-mounts={mounts}", "sh", "-c", f"exec 2>&1; {script}", image=IMAGE
    )
    return ended.output + ended.errors


@pytest.mark.parametrize(
    ("mounts", "script", "printed"),
    [
        pytest.param("/home/alice/data:/new/place", "cat /new/place/file", "one", id="directory"),
        pytest.param("/home/alice/data/file:/new/f", "cat /new/f", "one", id="file"),
        pytest.param("data:/d,s p:/t p", "cat /d/file '/t p/file'", "one\ntwo", id="two, relative"),
        pytest.param("~/data:/d,~/data", "cat /d/file /home/alice/data/file", "one\none",
                     id="home"),
        pytest.param("data/in:/app/data", "cat /app/data/file", "", id="on a file"),
        pytest.param("/work", "cat /work/file", "four", id="at its own place"),
        pytest.param("/dev/null:/nul", "echo x >/nul && stat -c %F /nul", "character special file",
                     id="device"),
        pytest.param("tmpfs:/s", "echo x >/s/y; cat /s/y; stat -f -c %T /s", "x\ntmpfs",
                     id="tmpfs"),
        pytest.param("umount:/tmp", "ls -A /tmp", "", id="umount"),
        pytest.param("/gone:/x:optional", "ls -d /x || :", "ls: /x: No such file or directory",
                     id="optional"),
        pytest.param("data:/d:ro,data/in:/d/in", "echo x >/d/x; echo new >/d/in/y; cat data/in/y",
                     "sh: can't create /d/x: Read-only file system\nnew", id="read-only around"),
        pytest.param("data:/d:noexec+nosuid+rslave",
                     "grep ' /d ' /proc/self/mountinfo | tr ' ' '\\n' | grep -E 'noexec|^master'"
                     " | sed 's/:.*//; s/.*noexec.*/noexec/'", "noexec\nmaster", id="flags"),
    ],
)  # fmt: skip
def test_row_mounts(job: Allocation, mounts: str, script: str, printed: str) -> None:
    """Each kind of source, each flag; a destination that the image lacks is made."""
    job.on_node("mkdir -p /work; echo four >/work/file")
    said = mounted(job, mounts, script)
    if printed == "" and mounts.endswith("data/in:/app/data"):
        assert "Not a directory" in said or "not a directory" in said, said
    else:
        assert said == f"{printed}\n" * bool(printed), said


def test_a_missing_source_is_named(job: Allocation) -> None:
    """Once a node, however many tasks there are, and nothing runs."""
    ended = job.step("-n4", "--container-mounts=data,gone:/x", "echo", "ran", image=IMAGE)
    assert (ended.code, ended.output) == (125, "")
    assert [line for line in ended.errors.splitlines() if line.startswith("hpcimg: ")] == [
        (
            f'hpcimg: bdw1: could not start "{IMAGE}": the source "/home/alice/gone" of a mount '
            "cannot be used: No such file or directory"
        ),
        "hpcimg: bdw1: hint: write a path that is on this node, or leave it out",
    ]


def test_only_as_the_user(job: Allocation) -> None:
    """What the user may not reach is not shown, also not by root's programs."""
    job.on_node("install -d -m 700 /root/closed; touch /root/closed/file")
    said = mounted(job, "/root/closed/file:/x", "cat /x")
    assert 'the source "/root/closed/file" of a mount cannot be used: Permission denied' in said


@pytest.mark.parametrize(
    ("mounts", "part"),
    [
        ("data:/d:rx", "data:/d:rx"), ("data:d", "data:d"), ("/a:/d,/b:/d", "/b:/d"),
        ("/a:/b/../c", "/a:/b/../c"), ("/a:/", "/a:/"),
    ],
)  # fmt: skip
def test_what_is_no_mount(job: Allocation, mounts: str, part: str) -> None:
    """Srun names the part that is wrong."""
    said = mounted(job, mounts, "echo ran")
    assert f'hpcimg: this is no mount that can be made: "{part}"' in said
    assert "hint: write SOURCE:DESTINATION[:FLAG+FLAG], several with commas between" in said
    assert "ran" not in said


def test_what_is_no_mount_in_the_container(job: Allocation) -> None:
    """Only what is mounted there can be unmounted."""
    said = mounted(job, "umount:/app", "echo ran")
    assert 'what is wanted of "/app" in the container cannot be done: Invalid argument' in said
    assert "hint: leave it out: it is no mount, or has no such flag" in said
    assert "ran" not in said


def test_lists_are_joined(job: Allocation) -> None:
    """The option said twice, in a script say, is one list."""
    words = ["--container-mounts=data:/d", "--container-mounts=s p:/t", "cat", "/d/file", "/t/file"]
    ended = job.step(*words, image=IMAGE)
    assert ended.output == "one\ntwo\n", ended.errors
