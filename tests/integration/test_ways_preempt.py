"""On a site that preempts, and whose salloc starts its shell on the node, contained jobs go on."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest
from conftest import COMMAND, Cluster
from launching import IMAGE, build_probe
from mishaps import do

pytestmark = pytest.mark.integration

_LINES = """
PreemptType=preempt/partition_prio
PreemptMode=SUSPEND,GANG
SchedulerTimeSlice=5
LaunchParameters=use_interactive_step
PartitionName=often Nodes=bdw1,skx1 PriorityTier=1 PreemptMode=REQUEUE OverSubscribe=NO
PartitionName=held Nodes=zen1,gpu1 PriorityTier=1 PreemptMode=SUSPEND OverSubscribe=FORCE:1
PartitionName=first Nodes=ALL PriorityTier=9 PreemptMode=OFF OverSubscribe=FORCE:1
"""


@pytest.fixture(scope="module")
def own(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of its own with three partitions."""
    config = tmp_path_factory.mktemp("config")
    text = (COMMAND.parent / "etc" / "slurm.conf").read_text("utf-8")
    (config / "slurm.conf").write_text(text + _LINES)
    made = Cluster(str(tmp_path_factory.mktemp("cluster")))
    try:
        started = made.verb("up", "--config", str(config))
        assert started.returncode == 0, started.stderr
        build_probe(made)
        yield made
    finally:
        made.verb("down")


# Which partition a job is in, where it runs, and what it gives to its srun.
_JOBS = {
    "requeued-bare": ("often", "bdw1", ""),
    "requeued": ("often", "skx1", f"--container {IMAGE}"),
    "suspended-bare": ("held", "zen1", ""),
    "suspended": ("held", "gpu1", f"--container {IMAGE}"),
}
_SCRIPT = "echo start ${SLURM_RESTART_COUNT-0}; srun %s ./probe wait; echo code $?"


def _each(line: str) -> str:
    """The line for each job, with its NAME, PARTITION, NODE and the STATE it is to have."""
    states = {"often": "PENDING", "held": "SUSPENDED"}
    lines = [
        f"NAME={name}; PARTITION={where[0]}; NODE={where[1]}; STATE={states[where[0]]}; {line}"
        for name, where in _JOBS.items()
    ]
    return "\n".join(lines) + "\n"


def _submit(name: str) -> str:
    partition, node, asked = _JOBS[name]
    words = f"-p {partition} -w {node} -c2 --mem=100 --requeue --open-mode=append"
    return f"sbatch -Q -J {name} {words} -o {name}.out --wrap {shlex.quote(_SCRIPT % asked)}\n"


@pytest.fixture(scope="module")
def said(own: Cluster) -> dict[str, list[str]]:
    """What each job says: it is preempted by another, runs again, and is told to end."""
    submit = "".join(_submit(name) for name in _JOBS)
    ready = _each("until grep -qs ready $NAME.out; do sleep 0.1; done")
    other = "sh -c 'until [ -e go ]; do sleep 0.1; done'"
    preempt = _each(f"srun -Q -p first -w $NODE -c2 --mem=100 {other} &")
    held = _each('until [ "$(squeue -hn $NAME -o %T)" = $STATE ]; do sleep 0.1; done')
    done = own.shell(f"cd; rm -f go\n{submit}{ready}{preempt}{held}touch go; wait")
    assert done.returncode == 0, done.stderr
    again = _each(
        'until [ "$(squeue -hn $NAME -o %T)" = RUNNING ]; do scontrol update starttime=now '
        "jobid=$(squeue -hn $NAME -o %A) 2>/dev/null || sleep 0.1; done"
    )
    do(own, again)
    restarted = "until [ $(grep -c ready $NAME.out) = 2 -o $STATE = SUSPENDED ]; do sleep 0.1; done"
    tell = "scancel -s USR1 -n $NAME; until grep -q code $NAME.out; do sleep 0.1; done"
    done = own.shell(f"cd; {_each(restarted)}{_each(tell)}{_each('sed s/^/$NAME:/ $NAME.out')}")
    assert done.returncode == 0, done.stderr
    lines: dict[str, list[str]] = {name: [] for name in _JOBS}
    for name, _, line in (row.partition(":") for row in done.stdout.splitlines()):
        if not line.startswith(("srun", "slurmstepd")):
            lines[name].append(line)
    return lines


def test_requeued(said: dict[str, list[str]]) -> None:
    """A job that makes room for another is ended, and its container starts again with it."""
    assert said["requeued"] == said["requeued-bare"]
    assert said["requeued"] == ["start 0", "ready", "start 1", "ready", "got 10", "code 10"]


def test_suspended(said: dict[str, list[str]]) -> None:
    """A job that is held for another goes on in its container as if nothing had been."""
    assert said["suspended"] == said["suspended-bare"]
    assert said["suspended"] == ["start 0", "ready", "got 10", "code 10"]


@pytest.mark.parametrize("option", ["--container", "--container-image"])
def test_interactive_shell(own: Cluster, option: str) -> None:
    """The shell that salloc starts on the node stays on the host, and its steps are inside."""
    shell = shlex.quote(f"salloc -Q -w bdw1 --mem=100 {option}={IMAGE}")
    typed = "hostname; ls -d /.sing*; srun --overlap bench; exit 3"
    # Without readline, which would wait for a terminal's answers.
    quiet = "export TERM=dumb; echo 'set enable-bracketed-paste off' >~/.inputrc"
    script = f"{quiet}; printf '%s\\n' {shlex.quote(typed)} | script -qec {shell} /dev/null"
    done = own.shell(script)
    assert "\nbdw1\n" in done.stdout, done
    assert "'/.sing*': No such file" in done.stdout
    assert ">> This container is optimized for: cpu:broadwell" in done.stdout


def test_suspended_processes(own: Cluster) -> None:
    """`scontrol suspend` stops a contained job's tasks, and resume lets them go on."""
    step = f"srun --container {IMAGE} ./probe wait"
    submit = f"sbatch -Q -J halted -w bdw1 --mem=100 -o halted.out --wrap '{step}'"
    ready = "until grep -qs ready halted.out; do sleep 0.1; done"
    own.shell(f"cd; rm -f halted.out; {submit}; {ready}")
    halt = "id=$(squeue -hn halted -o %A); scontrol {} $id; squeue -hj $id -o %T"
    state = "until ps -C probe -o stat= | grep -q '^{}'; do sleep 0.1; done; ps -C probe -o stat="
    assert do(own, halt.format("suspend")) == "SUSPENDED\n"
    assert do(own, state.format("[TD]"), "bdw1")[0] in "TD"
    assert do(own, halt.format("resume")) == "RUNNING\n"
    assert do(own, state.format("S"), "bdw1")[0] == "S"
    ended = "scancel -s USR1 -n halted; until ! squeue -h | grep -q halted; do sleep 0.1; done"
    assert own.shell(f"{ended}; cat ~/halted.out").stdout.startswith("ready\ngot 10\n")
