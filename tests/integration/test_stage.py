"""`stage: local`: steps read the image from a disk of their node, and from the store where not."""

from __future__ import annotations

import shlex

import pytest
from conftest import Cluster
from launching import IMAGE, needs_kernel_mount
from mishaps import do, settings

pytestmark = pytest.mark.integration

DISK = "/var/cache/hpcimg"
NODES = ("bdw1", "skx1")
WHERE = 'echo "$SLURMD_NODENAME $APPTAINER_CONTAINER"; bench'


@pytest.fixture(autouse=True)
def disks(cluster: Cluster):
    """Two nodes with a directory of the account's on their own disk, taken away afterwards."""
    for node in NODES:
        do(cluster, f"install -d -o hpcimg -g hpcimg {DISK}", node)
    yield
    for node in NODES:
        do(cluster, f"rm -rf {DISK}", node)


def in_job(cluster: Cluster, *lines: str) -> str:
    """What these lines say in one job on both nodes."""
    script = shlex.quote("; ".join(lines))
    done = cluster.shell(f"salloc -Q -w {','.join(NODES)} --mem=100 sh -c {script}")
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_each_node_has_its_own_copy(cluster):
    """All its steps use it; one that is removed under a job is made again."""
    step = f"srun -N2 -n4 -O --container {IMAGE} sh -c {shlex.quote(WHERE)}"
    with settings(cluster, stage="local"):
        said = in_job(cluster, step)
        listed = {node: do(cluster, f"ls {DISK}/entries/*/*/image.sif", node) for node in NODES}
        do(cluster, f"rm -rf {DISK}/entries", "bdw1")
        again = in_job(cluster, step)
    for node, words in zip(NODES, ("cpu:broadwell", "cpu:skylake"), strict=True):
        assert listed[node].count("image.sif") == 1
        assert said.count(f"{node} {listed[node].strip()}") == 2, said
        assert again.count(f"{node} {listed[node].strip()}") == 2, again
        assert said.count(f"optimized for: {words}") == 2, said


@needs_kernel_mount
def test_the_kernel_mounts_the_copy(cluster):
    """Both settings go together."""
    step = f"srun -N1 -n1 -w bdw1 --container {IMAGE} sh -c {shlex.quote(WHERE)}"
    with settings(cluster, stage="local", mount="kernel"):
        said = in_job(cluster, step, "cat /sys/block/loop*/loop/backing_file")
    assert "bdw1 /run/hpcimg/mounts/" in said
    assert f"{DISK}/entries/" in said


def test_without_a_place_for_it_the_store_is_used(cluster):
    """The step runs, and the node's syslog says what is missing."""
    with settings(cluster, stage={"path": "/proc/nowhere", "bytes": "1G"}):
        said = in_job(
            cluster, f"srun -N1 -n1 -w bdw1 --container {IMAGE} sh -c {shlex.quote(WHERE)}"
        )
    assert "bdw1 /srv/hpcimg/store/entries/" in said
