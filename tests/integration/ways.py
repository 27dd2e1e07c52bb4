"""Ways to run steps, each a shell script that a test runs with bare steps and with contained ones.

In a script `step` is srun in the test's job; what it prints, in any order, its errors and its exit
code are compared.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from launching import IMAGE, Allocation

_READY = "until grep -qs ready said; do sleep 0.05; done"
# A second interrupt counts within a second only: on a busy machine it may be another first one.
_INTERRUPT = f"""
set -m
rm -f said errors; step ./probe ready sleep >said 2>errors & srun=$!
{_READY}
kill -INT -$srun; sent=1
while kill -0 $srun 2>/dev/null && ! grep -qs 'sending Ctrl-C' errors; do
    if [ "$(grep -cs 'one more within' errors)" -ge $sent ]; then
        kill -INT -$srun; sent=$((sent + 1))
    fi
    sleep 0.05
done
wait $srun; code=$?; sort -u errors >&2; exit $code"""
_OTHER_STEP = f"""
rm -f said; step ./probe wait >said & srun=$!
{_READY}
%s
wait $srun; code=$?; cat said; exit $code"""
_NUMBER = "$(squeue -hs -j $JOB -o '%i %j' | sed -n 's/ probe$//p')"


@dataclass(frozen=True)
class Way:
    """One way: its name and script, and whether other set-ups of Slurm are tried with it too."""

    name: str
    script: str
    everywhere: bool = False

    def __str__(self) -> str:
        return self.name


WAYS = [
    Way("output a task", "step -n2 -o said.%t sh -c 'echo out'; cat said.0 said.1; rm said.?"),
    Way("output to one file", "step -n2 -o said sh -c 'echo out; echo err >&2'; sort said"),
    Way("output of one task", "step -n2 -o 1 sh -c 'echo $SLURM_PROCID'"),
    Way("no output", "step -o none -e none sh -c 'echo out; echo err >&2'"),
    Way("errors to a file", "step -e said sh -c 'echo out; echo err >&2'; cat said"),
    Way("label, unbuffered", "step -n3 -lu sh -c 'printf a; sleep 0.1; echo b'", everywhere=True),
    Way("input to one task", "printf 'one\\n' | step -n2 -l -i 1 cat"),
    Way("no input", "printf 'one\\n' | step -n2 -i none cat"),
    Way("a long pipe", "head -c 3000000 /dev/zero | step cat | wc -c", everywhere=True),
    Way("multi-prog", "printf '0 id\\n1-2 echo %%t of %%o\\n' >list; step -n3 --multi-prog list"),
    Way("no such directory", "step -D /nonexistent pwd"),
    Way("directory below /tmp", "step mkdir -p /tmp/ways; step -D /tmp/ways pwd", everywhere=True),
    Way("from a directory", "mkdir -p 'd e'; cd 'd e'; step pwd; cd ..; rmdir 'd e'"),
    Way("export all", "A=b step --export=ALL,C=d,E=f sh -c 'echo $A $C $E'"),
    Way("export a list", "A=b step --export=A,C=d /bin/sh -c 'echo $A $C ${USER-none}'"),
    Way("export none", "A=b step --export=NONE /bin/sh -c 'echo ${A-none} ${SLURM_JOB_ID+job}'"),
    Way("export nil", "A=b step --export=NIL /bin/sh -c 'echo ${A-none} ${SLURM_JOB_ID+job}'"),
    Way("export by variable", "export A=b SLURM_EXPORT_ENV=NONE; step /bin/sh -c 'echo ${A-no}'"),
    Way("display", "DISPLAY=:5 XAUTHORITY=$PWD/x step sh -c 'echo $DISPLAY $XAUTHORITY'"),
    Way("no display", "unset DISPLAY; step --x11 true"),
    Way("one limit", "ulimit -n 333; step --propagate=NOFILE sh -c 'ulimit -n'", everywhere=True),
    Way("no limits", "ulimit -Sc 0; step --propagate=NONE sh -c 'ulimit -c'"),
    Way("all limits", "ulimit -Ss 4096; step --propagate=ALL sh -c 'ulimit -s'"),
    Way("mask", "umask 027; step sh -c umask"),
    Way("binding said", "step --cpu-bind=verbose,map_cpu:1 ./probe processors"),
    Way("killed", "step sh -c 'kill -KILL $$'", everywhere=True),
    Way("one task fails", "step -n3 -K sh -c '[ $SLURM_PROCID = 1 ] && exit 3; sleep 60'", True),
    Way("others may go on", "step -n2 -K0 sh -c '[ $SLURM_PROCID = 0 ] && exit 3; echo on'"),
    Way("wait for one", "step -n2 -W1 sh -c '[ $SLURM_PROCID = 0 ] || sleep 60'"),
    Way("no kill", "step -k true"),
    Way("quiet", "step -Q sh -c 'exit 5'"),
    Way("two at once", "step -n2 echo a & step -n2 echo b & wait", everywhere=True),
    Way("task epilog", "printf '#!/bin/sh\\nls -d /.sing* >said 2>&1\\n' >after; chmod +x after; "
        "step --task-epilog=$PWD/after true; cat said"),
    Way("around srun", "printf '#!/bin/sh\\necho $0 $#\\n' >by; chmod +x by; "
        "step --prolog=$PWD/by --epilog=$PWD/by echo between"),
    Way("broadcast to a file", "step --bcast=/tmp/copy ./probe terminal; step rm /tmp/copy"),
    Way("broadcast", "step --bcast ./probe terminal; rm slurm_bcast_*"),
    Way("interrupted twice", _INTERRUPT, everywhere=True),
    Way("signal to a step", _OTHER_STEP % f"scancel -s USR1 {_NUMBER}", everywhere=True),
    Way("cancelled step", _OTHER_STEP % f"scancel {_NUMBER}"),
    Way("core file", "ulimit -Sc unlimited; rm -rf core; step ./probe crash; ls core; rm -f core"),
    Way("attached", _OTHER_STEP % f"sattach {_NUMBER} & sleep 0.5; scancel -s USR1 {_NUMBER}"),
    Way("terminal", 'script -qec "$(declare -f step); step --pty tty" /dev/null | grep -o "/d.*"'),
]  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """What a way gave: comparable, so without numbers of steps, times and the order of tasks."""

    code: int
    output: list[str]
    errors: list[str]


def run(job: Allocation, way: Way, image: str | None) -> Shown:
    """Run a way in a job, bare where no image is given."""
    step = shlex.join(job.command(image=image))
    start = f'step() {{ {step} "$@"; }}; JOB={job.job}; cd ~; rm -rf said\n'
    done = job.cluster.shell(start + way.script)
    return Shown(done.returncode, sorted(done.stdout.splitlines()), _steady(done.stderr))


def is_same(job: Allocation, way: Way) -> bool:
    """Whether the contained way gives what the bare one gives; a test asserts it."""
    bare, ours = run(job, way, None), run(job, way, IMAGE)
    assert ours == bare
    return True


def _steady(errors: str) -> list[str]:
    """Without numbers, masks and Slurm's notes about waiting."""
    lines = [re.sub(r"0x[0-9a-fA-F]+|\d+", "N", line) for line in errors.splitlines()]
    return sorted(line for line in lines if "CANCELLED" not in line and "queued" not in line)
