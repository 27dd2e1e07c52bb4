"""Whole jobs without and with a container: batch scripts, arrays, limits, signals, requeues.

All are submitted at once and waited for once: what takes long is Slurm, which looks at time limits
twice a minute.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from conftest import Cluster
from launching import IMAGE, NODE, build_probe
from mishaps import do

pytestmark = pytest.mark.integration

KINDS = {"host": "", "steps": f"--container={IMAGE}", "inside": f"--container-image={IMAGE}"}
"""A batch script on the host, without and with contained steps, and one that is inside itself."""
LEFT = "[h]pcimg-holder|[A]pptainer|[s]quashfuse|[s]tarter|[.]/probe"
SRUN = "$(test -e /.singularity.d || echo srun)"
"""An image has no srun, and what a script inside starts is inside too."""


@dataclass(frozen=True)
class Case:
    """A job: its script, and the words before and after it."""

    name: str
    script: str
    options: str = ""
    arguments: str = ""
    kinds: tuple[str, ...] = tuple(KINDS)

    def __str__(self) -> str:
        return self.name

    def file(self, kind: str) -> str:
        """The job's name, that of its script and of its output."""
        return re.sub(r"\W", "-", f"job-{self.name}-{kind}")


STEPS = ("host", "steps")
"""For what Slurm does to steps alone."""
LIMIT, REQUEUE = "limit of a job", "requeue"
CASES = [
    Case("crash", "./probe crash; kill -SEGV $$"),
    Case("exit code", "exit 7"),
    Case("arguments", "echo $# $2; cat", arguments="first 'two words'"),
    Case("array", "echo task $SLURM_ARRAY_TASK_ID; exit $SLURM_ARRAY_TASK_ID", "-a 1-3"),
    Case("directory", f"pwd; {SRUN} pwd", "-D /tmp"),
    Case("export", "echo $A ${USER-none}", "--export=NONE,A=b"),
    Case("processors", f"{SRUN} ./probe processors; echo $SLURM_NTASKS", "-c2 --exclusive"),
    Case("input", f"{SRUN} cat", "-i job-input"),
    Case("signal", f"{SRUN} ./probe wait; echo $?", "-t10 --signal=USR1@600", kinds=STEPS),
    Case("signal to the script", "trap 'exit 3' USR1; sleep 600 & wait", "-t10 --signal=B:10@600"),
    Case(LIMIT, f"{SRUN} ./probe ready fork sleep", "-t10"),
    Case("limit of a step", f"{SRUN} -t1 ./probe fork sleep; echo $?", "-t10", kinds=STEPS),
    Case(
        REQUEUE,
        "echo ${SLURM_RESTART_COUNT-first}; "
        f"[ $SLURM_RESTART_COUNT ] || {SRUN} ./probe ready sleep",
        "--requeue --open-mode=append",
    ),
]


def _submit(case: Case, kind: str) -> str:
    name = case.file(kind)
    text = shlex.quote(f"#!/bin/sh\n{case.script}\n")
    words = f"-J {name} -w {NODE} --mem=100 -o {name}.out.%a {KINDS[kind]} {case.options}"
    return f"printf %s {text} >{name}; sbatch -Q {words} {name} {case.arguments} || exit"


def _those(name: str) -> str:
    return ",".join(case.file(kind) for case in CASES if case.name == name for kind in case.kinds)


_UNTIL_ENDED = f"""
cd ~alice
while squeue -hu alice -o %j | grep -q ^job-; do
    for name in $(squeue -ht R -n {_those(LIMIT)},{_those(REQUEUE)} -o %j); do
        grep -qs ready $name.out.* && [ ! -e $name.seen ] || continue
        : >$name.seen
        case $name in *limit*) act="update endtime=now jobid=";; *) act="requeue ";; esac
        scontrol $act$(squeue -hn $name -o %A)
    done
    for id in $(squeue -ht PD -n {_those(REQUEUE)} -o %A); do
        scontrol update jobid=$id starttime=now || : # it may have started by now
    done
    sleep 0.5
done 2>/dev/null
for file in job-*.out.*; do
    name=${{file%.out.*}}
    sed "s/^/$name /" $file
done
scontrol show job -o | grep JobName=job- | sed -E 's/.*JobName=([^ ]*).*( ExitCode=[^ ]*).*/\\1\\2/'
"""


@pytest.fixture(scope="module")
def ended(cluster: Cluster) -> Iterator[dict[str, list[str]]]:
    """How all jobs ended and what they said, by name."""
    build_probe(cluster)
    lines = [_submit(case, kind) for case in CASES for kind in case.kinds]
    script = "cd; rm -f job-*; echo given >job-input\n"
    done = cluster.shell(script + "\n".join(lines))
    assert done.returncode == 0, done.stderr
    said: dict[str, list[str]] = {}
    for line in do(cluster, _UNTIL_ENDED).splitlines():
        name, _, text = line.partition(" ")
        said.setdefault(name, []).append(text)
    yield said
    cluster.shell("scancel -u alice")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_as_bare(ended: dict[str, list[str]], case: Case) -> None:
    """A job says and ends the same on the host, with contained steps, and inside of the image."""
    said = {kind: _own(ended[case.file(kind)]) for kind in case.kinds}
    assert [line for line in said["host"] if "ExitCode" in line]
    assert all(lines == said["host"] for lines in said.values()), said
    if "limit" in case.name:
        assert all("DUE TO TIME LIMIT" in str(ended[case.file(kind)]) for kind in case.kinds)


def test_nothing_is_left(cluster: Cluster, ended: dict[str, list[str]]) -> None:
    """No process of all these jobs runs any more, and nothing is mounted."""
    wait = f"for i in $(seq 100); do pgrep -f '{LEFT}' >/dev/null || break; sleep 0.1; done"
    look = f"{wait}; pgrep -fa '{LEFT}' || :; grep -E 'fuse|apptainer' /proc/1/mounts || :"
    assert do(cluster, look, NODE) == ""


def _own(lines: list[str]) -> list[str]:
    """Without Slurm's words, which come or not as srun ends before or after them."""
    return sorted(line for line in lines if not line.startswith(("srun:", "slurmstepd")))
