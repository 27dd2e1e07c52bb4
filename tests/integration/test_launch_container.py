"""What a task finds in its container, and what it cannot reach from there."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from conftest import Cluster
from launching import Allocation, allocate, build_probe
from mishaps import do

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def job(cluster: Cluster) -> Iterator[Allocation]:
    """One job for all steps of this file."""
    build_probe(cluster)
    yield from allocate(cluster)


def variables(output: str) -> dict[str, str]:
    """The environment that a step printed."""
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)


@pytest.mark.newest
def test_image_variables_win_and_the_jobs_stay(job: Allocation) -> None:
    """PATH and the image's own variables are the image's; the user's and Slurm's are the job's."""
    given = (
        "export PATH=$PATH:/host/bin LD_LIBRARY_PATH=/host/lib BENCH_MADE_FOR=host MINE='a b'\n"
        "export CUDA_VISIBLE_DEVICES=7 PMIX_MCA_x=1 HOME=/home/alice TMPDIR=/tmp APPTAINER_BIND=/x"
    )
    bare, ours = job.both("-n1", "./probe", "environment", environment=given)
    outside, inside = variables(bare.output), variables(ours.output)
    assert inside["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert "/host/lib" not in inside["LD_LIBRARY_PATH"]
    assert inside["BENCH_MADE_FOR"] == "cpu:broadwell"
    for name in ("MINE", "CUDA_VISIBLE_DEVICES", "PMIX_MCA_x", "HOME", "TMPDIR", "USER"):
        assert inside[name] == outside[name], name
    changing = re.compile("STEP|PID|PORT|HPCIMG")
    slurm = {name for name in outside if name.startswith("SLURM") and not changing.search(name)}
    assert len(slurm) > 20
    assert {name: inside.get(name) for name in slurm} == {name: outside[name] for name in slurm}
    assert "SLURM_HPCIMG_JOIN" not in inside


@pytest.mark.parametrize(
    ("where", "inside"),
    [
        pytest.param("/tmp", "/tmp", id="in both"),
        pytest.param("/home/alice/deep er", "/home/alice/deep er", id="in home"),
        pytest.param("/opt", "/home/alice", id="only on the host"),
    ],
)
def test_working_directory(job: Allocation, where: str, inside: str) -> None:
    """It is kept where the image has it too, else it is the home directory."""
    ours = job.step(f"--chdir={where}", "pwd", environment="mkdir -p 'deep er'")
    assert ours.output == f"{inside}\n", ours.errors


def test_without_any_directory_it_is_the_root(job: Allocation) -> None:
    """Where neither the working directory nor HOME is there, the task starts in /."""
    ours = job.step("--chdir=/opt", "pwd", environment="export HOME=/nowhere")
    assert ours.output == "/\n", ours.errors


def test_jobs_directory_is_bound(job: Allocation) -> None:
    """A directory that only the host has is there when the job was started in it."""
    do(job.cluster, "mkdir -p /work/alice && chown alice /work/alice", job.node)
    ours = job.step("--chdir=/work/alice", "sh", "-c", "pwd; echo inside >made")
    assert ours.output == "/work/alice\n", ours.errors
    assert job.on_node("cat /work/alice/made") == "inside\n"


def test_files_are_the_users(job: Allocation) -> None:
    """What a task writes in home and /tmp is the user's on the host, with the user's groups."""
    write = "echo one >~/made; echo two >/tmp/made; chgrp physics ~/made; cat /tmp/seen"
    job.on_node("rm -f /tmp/made; echo host >/tmp/seen")
    ours = job.step("sh", "-c", write)
    assert ours.output == "host\n", ours.errors
    assert job.on_node("stat -c %U:%G /home/alice/made /tmp/made; cat /tmp/made") == (
        "alice:physics\nalice:alice\ntwo\n"
    )


@pytest.mark.newest
def test_no_privileges(job: Allocation) -> None:
    """A task has no capability in any set and cannot gain one."""
    ours = job.step("./probe", "status")
    found = dict(line.split(":\t") for line in ours.output.splitlines())
    assert found.pop("NoNewPrivs") == "1"
    assert set(found.values()) == {"0000000000000000"}
    assert len(found) == 5


def test_image_is_read_only(job: Allocation) -> None:
    """Nothing in the image can be changed."""
    ours = job.step("sh", "-c", "echo x >/usr/bin/bench; rm /bin/sh; bench")
    assert "Read-only file system" in ours.errors
    assert "cpu:broadwell" in ours.output


def test_keepers_are_limited_and_out_of_reach(job: Allocation) -> None:
    """The container's processes are in the step's groups before a task runs; none can be traced."""
    script = (
        'cd /proc; for p in [0-9]*; do if tr "\\0" " " <$p/cmdline | '
        'grep -E "^(/.hpcimg-holder|Apptainer|/usr/bin/squashfuse|[^ ]*/starter --)" >/dev/null; '
        'then echo "keeper $p $(grep -E -o "(freezer|memory|cpuset):.*step_[0-9]+.*" $p/cgroup '
        '| tr "\\n" " ")"; fi; done; ~/probe [0-9]*'
    )
    ours = job.step("sh", "-c", script)
    keepers = [line for line in ours.output.splitlines() if line.startswith("keeper")]
    assert len(keepers) == 4, ours
    if "freezer" in job.on_node("cat /proc/self/cgroup"):
        assert [line.count("step_") for line in keepers] == [3] * 4, keepers
    assert "traced" not in ours.output
    # A shell may look at its own children; nothing else of the node is open.
    assert {line.split()[1] for line in ours.output.splitlines() if "opened" in line}.isdisjoint(
        line.split()[1] for line in keepers
    )


@pytest.mark.newest
def test_tasks_share_one_container(job: Allocation) -> None:
    """Two tasks of one step are in the same namespaces: the user's, and that of the mounts."""
    script = "readlink /proc/self/ns/mnt; readlink /proc/self/ns/user"
    bare, ours = job.both("-n2", "sh", "-c", script)
    assert len(set(ours.output.split())) == 2
    assert set(ours.output.split()).isdisjoint(bare.output.split())


def test_other_users_step(job: Allocation) -> None:
    """Another user's step with the same image on the node is that user's."""
    done = job.cluster.run(
        "srun", "-w", job.node, "--mem=100", "--container=qnib/bench", "id", user="bob"
    )
    assert done.stdout == "uid=1002(bob) gid=1002(bob) groups=1002(bob),1100(physics)\n", done
