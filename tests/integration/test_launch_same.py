"""What a step in a container is given and gives back, beside the same step without one."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from conftest import Cluster
from launching import IMAGE, Allocation, allocate, build_probe

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def job(cluster: Cluster) -> Iterator[Allocation]:
    """One job for all steps of this file."""
    build_probe(cluster)
    yield from allocate(cluster)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["id"], id="user and groups"),
        pytest.param(["true"], id="success"),
        pytest.param(["sh", "-c", "exit 42"], id="exit code"),
        pytest.param(["sh", "-c", "kill -SEGV $$"], id="crash"),
        pytest.param(["sh", "-c", "kill -TERM $$"], id="terminated"),
        pytest.param(["./probe", "limits"], id="limits"),
        pytest.param(["./probe", "signals"], id="signals"),
        pytest.param(["./probe", "descriptors"], id="descriptors"),
        pytest.param(["--cpu-bind=cores", "./probe", "processors"], id="bound to a core"),
        pytest.param(["-c2", "--cpu-bind=none", "./probe", "processors"], id="not bound"),
        pytest.param(["-n2", "-l", "--cpu-bind=map_cpu:1,0", "./probe", "processors"], id="map"),
        pytest.param(["--chdir=/tmp", "pwd"], id="working directory"),
        pytest.param(["--chdir=/usr/lib", "pwd"], id="working directory of both"),
        pytest.param(["-n3", "-l", "sh", "-c", "echo out; echo err >&2"], id="labels"),
        pytest.param(["-n3", "-K", "sh", "-c", 'exit "$SLURM_PROCID"'], id="kill on bad exit"),
        pytest.param(["-n4", "sh", "-c", 'echo "$SLURM_PROCID $SLURM_LOCALID"'], id="ranks"),
        pytest.param(["-t1", "sh", "-c", 'echo "$SLURM_STEP_NUM_TASKS"'], id="time limit"),
    ],
)
def test_same_as_bare(job: Allocation, words: list[str]) -> None:
    """Output, error stream and exit code are those of the bare step."""
    bare, ours = job.both(*words)
    assert sorted(ours.output.splitlines()) == sorted(bare.output.splitlines()), ours.errors
    assert ours.code == bare.code, ours.errors
    assert _steady(ours.errors) == _steady(bare.errors)


def _steady(errors: str) -> list[str]:
    """Without the step's number, Slurm's order of tasks and its notes about waiting."""
    lines = [re.sub(r"StepId=\S+|\b\d+:\d+:\d+\S*", "STEP", line) for line in errors.splitlines()]
    return sorted(line for line in lines if "CANCELLED" not in line and "queued" not in line)


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        pytest.param("nosuchcommand", 2, "No such file or directory", id="not found"),
        pytest.param("/nowhere/tool", 2, "No such file or directory", id="no such path"),
        pytest.param("/etc/passwd", 13, "Permission denied", id="not executable"),
    ],
)
def test_command_that_cannot_run(job: Allocation, command: str, code: int, reason: str) -> None:
    """The exit code is Slurm's own, and one line names the command and the reason."""
    bare, ours = job.both(command)
    assert (bare.code, ours.code) == (code, code)
    assert f'hpcimg: bdw1: could not run "{command}" in "qnib/bench": {reason}\n' in ours.errors


def test_script_whose_interpreter_is_missing(job: Allocation) -> None:
    """The kernel's "no such file" is about the interpreter then, and so it is said."""
    script = "printf '#!/usr/bin/nosuchshell\\n' >lost.sh; chmod +x lost.sh"
    ended = job.step("./lost.sh", environment=script)
    assert ended.code == 2
    assert "the image lacks the interpreter that its first line names" in ended.errors


def test_input_reaches_task_zero(job: Allocation) -> None:
    """What is piped into srun, or named with --input, is read by the tasks that Slurm chooses."""
    bare, ours = job.both("-n2", "-l", "--input=0", "cat", give="one\ntwo\n")
    assert ours == bare
    assert ours.output == "0: one\n0: two\n"
    bare, ours = job.both("-n2", "cat", environment="printf 'words\\n' >given", give="unread")
    assert sorted(ours.output) == sorted(bare.output)
    bare, ours = job.both("--input=given", "cat")
    assert (ours, ours.output) == (bare, "words\n")


@pytest.mark.newest
def test_multi_prog(job: Allocation) -> None:
    """Each task runs its own line of the --multi-prog file."""
    write = "printf '0 bench\\n1-2 echo task %%t of %%o\\n' >programs"
    ours = job.step("-n3", "-l", "--multi-prog", "programs", environment=write)
    assert ours.code == 0, ours.errors
    assert sorted(ours.output.splitlines()) == [
        "0: >> This container is optimized for: cpu:broadwell",
        "1: task 1 of 0",
        "2: task 2 of 1",
    ]


def test_terminal(job: Allocation) -> None:
    """With --pty the task has a terminal of the size that srun's has, in either kind of step."""
    size = "stty rows 33 cols 101; "
    said = []
    for image in (None, IMAGE):
        step = " ".join(job.command("--pty", "./probe", "terminal", image=image))
        done = job.cluster.shell(f"cd; script -qec '{size}{step}' /dev/null </dev/null")
        assert done.returncode == 0, done
        lines = (line.lstrip("^@") for line in done.stdout.splitlines())  # script's own words
        said += [line for line in lines if line.startswith("terminal")]
    assert said == ["terminal 1 1 1, 33 rows, 101 columns"] * 2


@pytest.mark.parametrize("image", [None, IMAGE], ids=["bare", "container"])
@pytest.mark.newest
def test_signals_reach_the_program(job: Allocation, image: str | None) -> None:
    """`scancel -s USR1` reaches the program itself, which may end as it likes."""
    step = job.start("-J", "signals", "./probe", "wait", image=image)
    assert step.stdout is not None
    assert step.stdout.readline() == "ready\n"
    number = job.cluster.shell(f"squeue -h -s -j {job.job} -n signals -o %i").stdout.strip()
    assert job.cluster.run("scancel", "-s", "USR1", number).returncode == 0
    output = step.communicate(timeout=60)[0]
    assert "got 10\n" in output
    assert step.returncode == 10


@pytest.mark.parametrize("image", [None, IMAGE], ids=["bare", "container"])
def test_task_prolog_runs_on_the_host(job: Allocation, image: str | None) -> None:
    """A --task-prolog runs outside; what it exports and prints reaches the task."""
    prolog = (
        "printf '#!/bin/bash\\necho export FROM_PROLOG=yes\\necho print seen\\n"
        "test -e /.singularity.d || echo print host\\n' >prolog; chmod +x prolog"
    )
    command = ["--task-prolog=/home/alice/prolog", "sh", "-c", 'echo "$FROM_PROLOG"']
    ended = job.step(*command, image=image, environment=prolog)
    assert ended.output == "seen\nhost\nyes\n", ended.errors


@pytest.mark.parametrize("image", [None, IMAGE], ids=["bare", "container"])
@pytest.mark.newest
def test_pmi_descriptor(job: Allocation, image: str | None) -> None:
    """A PMI-2 client finds the one more descriptor that it needs, a socket, where PMI_FD says."""
    ended = job.step("--mpi=pmi2", "./probe", "descriptors", "environment", image=image)
    more = [line for line in ended.output.splitlines() if line.endswith("140000")]
    number = re.findall(r"^PMI_FD=(\d+)$", ended.output, re.MULTILINE)
    assert more == [f"descriptor {number[0]} 140000"], ended
    assert ended.output.count("descriptor") == 4


@pytest.mark.newest
def test_memory_limit(job: Allocation) -> None:
    """A task that takes more than its job asked for is ended, as on the host."""
    if "memory" not in job.on_node("cat /proc/self/cgroup"):
        pytest.skip("this machine has no memory control group")
    bare, ours = job.both("--mem=50M", "./probe", "eat")
    assert ours.code == bare.code != 0, ours.errors


@pytest.mark.newest
def test_control_groups(job: Allocation) -> None:
    """The task is in the very groups that a bare task is in."""
    bare, ours = job.both("cat", "/proc/self/cgroup")
    steps = [re.sub(r"step_\d+", "step", ended.output) for ended in (bare, ours)]
    assert steps[0] == steps[1]


@pytest.mark.newest
def test_many_tasks(job: Allocation) -> None:
    """64 tasks on one node share one container."""
    ours = job.step("-n64", "sh", "-c", 'readlink /proc/self/ns/mnt; echo "$SLURM_PROCID"')
    lines = ours.output.split()
    assert ours.code == 0, ours.errors
    assert {line for line in lines if line.isdigit()} == {str(rank) for rank in range(64)}
    assert len({line for line in lines if not line.isdigit()}) == 1
