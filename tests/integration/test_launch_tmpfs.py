"""A job may have a /tmp of its own: its tasks in a container have the same.

job_container/tmpfs gives it, by itself and with contain_spank, and since 25.11 namespace/linux.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import COMMAND, Cluster
from launching import (
    Allocation,
    allocate,
    build_probe,
    needs_kernel_mount,
    needs_pmix,
    newest_only,
)
from mishaps import do, settings
from ways import WAYS, Way, is_same

pytestmark = pytest.mark.integration

_TEMPLATE = COMMAND.parent / "etc" / "slurm.conf"


_TMPFS = {"JobContainerType": "job_container/tmpfs"}
_LINUX = {"NamespaceType": "namespace/linux"}
_KINDS = [
    pytest.param(_TMPFS, id="on"),
    pytest.param({**_TMPFS, "SlurmdParameters": "contain_spank"}, id="contain_spank"),
    pytest.param(_LINUX, id="linux", marks=[newest_only, pytest.mark.newest]),
]


@pytest.fixture(scope="module", params=_KINDS)
def job(
    cluster: Cluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Allocation]:
    """A job on a cluster whose jobs have private /tmp and /dev/shm."""
    config = tmp_path_factory.mktemp("config")
    _write_configuration(config, request.param)
    own = Cluster(str(tmp_path_factory.mktemp("cluster")))
    try:
        with _on_one_processor():
            started = own.verb("up", "--config", str(config))
        assert started.returncode == 0, started.stderr
        build_probe(own)
        yield from allocate(own)
    finally:
        own.verb("down")


@contextmanager
def _on_one_processor() -> Iterator[None]:
    """What starts now, and all it starts, stays on one processor.

    slurmd keeps a job's mount namespace by a bind mount. The kernel allows it for namespaces that
    are newer than one's own, by a number that Linux 6.18 counts for each processor by itself.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _write_configuration(folder: Path, kind: dict[str, str]) -> None:
    text = _TEMPLATE.read_text("utf-8")
    text = text.replace("PrologFlags=Alloc", "PrologFlags=Alloc,Contain")
    for key, value in kind.items():
        both = f"config_overrides,{value}" if key == "SlurmdParameters" else value
        text = text.replace(f"{key}=config_overrides\n", "") + f"{key}={both}\n"
    (folder / "slurm.conf").write_text(text)
    (folder / "job_container.conf").write_text(
        "AutoBasePath=true\nBasePath=/var/spool/private\nDirs=/tmp,/dev/shm\n"
    )
    (folder / "namespace.yaml").write_text(
        "defaults:\n  auto_base_path: true\n  base_path: /var/spool/private\n"
    )


def test_one_private_tmp(job: Allocation) -> None:
    """A task in a container and a bare task of one job see the same /tmp, the node another."""
    do(job.cluster, "echo node >/tmp/nodes; rm -f /tmp/bare /tmp/inside", job.node)
    job.step("sh", "-c", "echo one >/tmp/bare; mkdir /tmp/work", image=None)
    ours = job.step("sh", "-c", "ls /tmp; cat /tmp/bare; echo two >/tmp/inside; bench")
    assert ours.output.split("\n")[:3] == ["bare", "work", "one"], ours
    assert "cpu:broadwell" in ours.output
    bare = job.step("cat", "/tmp/inside", image=None)
    assert bare.output == "two\n", bare.errors
    assert job.on_node("ls /tmp").split() == ["nodes"]


def test_working_directory_in_it(job: Allocation) -> None:
    """A working directory that only the job's /tmp has is kept."""
    ours = job.step("--chdir=/tmp/work", "sh", "-c", "pwd; echo here >file")
    assert ours.output == "/tmp/work\n", ours.errors
    assert job.step("cat", "/tmp/work/file", image=None).output == "here\n"


@needs_pmix
def test_many_tasks(job: Allocation) -> None:
    """Tasks join and leave as without it."""
    ours = job.step("-n8", "--mpi=pmix", "sh", "-c", "cat /tmp/bare")
    assert ours.output == "one\n" * 8, ours.errors


@pytest.mark.parametrize("way", [way for way in WAYS if way.everywhere], ids=str)
def test_ways_are_as_bare(job: Allocation, way: Way) -> None:
    """The ways to run that these set-ups may touch give what they give without a container."""
    assert is_same(job, way)


def test_options_of_a_container(job: Allocation) -> None:
    """Mounts come from the job's own /tmp, and what is written goes with the step."""
    words = [
        "--container-mounts=/tmp/own:/w:ro,tmpfs:/s", "--container-writable",
        "--container-workdir=/w", "--container-remap-root", "--container-entrypoint",
    ]  # fmt: skip
    job.step("sh", "-c", "mkdir -p /tmp/own; echo here >/tmp/own/file", image=None)
    script = "pwd; cat file; touch /w/x; echo y >/usr/y && cat /usr/y; id -u; ls -d /tmp/own"
    ours = job.step(*words, "sh", "-c", f"echo $APP_READY; {script}", image="app")
    assert ours.output == "yes\n/w\nhere\ny\n0\n/tmp/own\n", ours.errors
    assert "Read-only file system" in ours.errors


def test_saved(job: Allocation) -> None:
    """The savers of the tasks share their count, whose descriptor is not made in user_init."""
    saved = "--container-save=/tmp/saved.sif"
    ours = job.step("-n2", saved, "sh", "-c", "echo done >/done", image="app")
    assert (ours.code, ours.output) == (0, ""), ours.errors
    assert job.step("test", "-s", "/tmp/saved.sif", image=None).code == 0


@needs_kernel_mount
def test_mounted_by_the_kernel(job: Allocation) -> None:
    """A step whose image the node has mounted sees it and the job's /tmp; the job does not."""
    script = 'echo "$APPTAINER_CONTAINER"; cat /tmp/bare; mpihello'
    with settings(job.cluster, mount="kernel"):
        ours = job.step("sh", "-c", script, image="mpi")
    where, private, *said = ours.output.splitlines()
    assert where.startswith("/run/hpcimg/mounts/"), ours
    assert (private, len(said)) == ("one", 1), ours
    mounted = f"findmnt -n {where}"
    assert job.on_node(mounted) != ""
    assert job.step("sh", "-c", mounted, image=None).output == ""


def test_nothing_is_left(job: Allocation) -> None:
    """After the steps neither a process nor a mount of a container is on the node."""
    keepers = "[h]pcimg-holder|[/]starter|[A]pptainer|[s]quashfuse"
    wait = f"for i in $(seq 100); do pgrep -f '{keepers}' >/dev/null || break; sleep 0.1; done"
    assert (
        job.on_node(f"{wait}; pgrep -fa '{keepers}'; grep -E 'fuse|apptainer' /proc/mounts") == ""
    )
