"""The launch where the kernel is that of Enterprise Linux 8: real Slurm, Apptainer and Python.

On one node slurmd runs under a filter that fails all system calls which Linux 5.1 and later
brought. What a 4.18 kernel does otherwise this cannot show.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Cluster
from launching import IMAGE

pytestmark = pytest.mark.integration

_NODE = "zen1"
_PROGRAM = Path(__file__).parents[1] / "contract" / "oldkernel.c"
_RESTART = """
kill "$(cat /run/slurmd.pid)"; while [ -e /run/slurmd.pid ]; do sleep 0.05; done
{older} slurmd
while ! srun -t 1 -w zen1 true; do sleep 0.2; done
"""


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> Iterator[str]:
    """One whose slurmd, and all that it starts, has an older kernel."""
    source = shlex.quote(_PROGRAM.read_text("utf-8"))
    build = f"printf %s {source} | gcc -x c -O1 -o /root/oldkernel -\n"
    older = "/root/oldkernel 4.18"
    script = build + _RESTART.format(older=older)
    done = cluster.shell(script, node=_NODE, user="root", timeout=90)
    try:
        assert done.returncode == 0, done.stderr
        yield _NODE
    finally:
        cluster.shell(_RESTART.format(older=""), node=_NODE, user="root", timeout=90)


_TASK = """
python3 -c 'import os; os.pidfd_open(1)' 2>&1 | tail -n 1
"""

_INSIDE = """
echo "$(readlink /proc/self/ns/user) $(readlink /proc/self/ns/mnt) $(id -u):$(id -g) $(bench)"
"""


def test_tasks_run_in_one_container(cluster: Cluster, node: str) -> None:
    """As the user, with the build that fits; there is no pidfd, which the host's Python says."""
    srun = f"srun -w {node} -n4 --overcommit"
    done = cluster.shell(
        f"cd /tmp; srun -w {node} sh -c {shlex.quote(_TASK)}\n"
        f"{srun} --container-image={IMAGE} sh -c {shlex.quote(_INSIDE)}\n"
        f"{srun} --container-image={IMAGE} sh -c 'exit 7'; echo code $?"
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "OSError: [Errno 38] Function not implemented", done.stderr
    assert len(set(lines[1:5])) == 1, done.stderr
    assert " 1001:1001 >> This container is " in lines[1]
    assert lines[5:] == ["code 7"]


# What cross-memory attach asks the kernel as well: may this process look into that one?
_LOOK_AT_PEER = """
if [ $SLURM_PROCID = 0 ]; then
    echo $$ >~/peer.new; mv ~/peer.new ~/peer; until [ -e ~/seen ]; do sleep 0.05; done
else
    until [ -e ~/peer ]; do sleep 0.05; done; readlink /proc/$(cat ~/peer)/cwd; touch ~/seen
fi
"""


def test_tasks_may_look_into_each_other(cluster: Cluster, node: str) -> None:
    """They are in one user namespace."""
    task = shlex.quote(_LOOK_AT_PEER)
    done = cluster.shell(
        "cd /tmp; rm -f ~/peer ~/seen; "
        f"srun -w {node} -n2 --overcommit --container-image={IMAGE} sh -c {task}; rm ~/peer ~/seen"
    )
    assert done.stdout == "/tmp\n", done.stderr


_LOOK = """
for i in $(seq 100); do
    left=$(ps -eo user,args | grep -E '[a]pptainer|/[h]older|[s]tarter|[s]quashfuse|[s]leep 4719')
    [ -n "$left" ] || exit 0
    sleep 0.1
done
echo "$left"
"""


def test_nothing_is_left(cluster: Cluster, node: str) -> None:
    """Neither after the end nor after scancel."""
    cluster.shell(
        f"srun -w {node} --container-image={IMAGE} true\n"
        f"srun -w {node} -J old --container-image={IMAGE} sh -c 'echo up; exec sleep 4719' | "
        "{ read -r up; scancel -n old; cat >/dev/null; }"
    )
    assert cluster.shell(_LOOK, node=node, user="root").stdout == ""
