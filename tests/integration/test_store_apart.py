"""Without a shared file system: each node has a store of its own, and launches as ever."""

from __future__ import annotations

import re

import pytest
from conftest import Cluster
from launching import IMAGE
from mishaps import do, settings

pytestmark = pytest.mark.integration

PLACE = "/var/lib/hpcimg"
NODES = ("login", "bdw1", "skx1")


@pytest.fixture(autouse=True)
def apart(cluster: Cluster):
    """A site whose nodes share no store."""
    for node in NODES:
        do(cluster, f"install -d -o hpcimg -g hpcimg {PLACE}", node)
    with settings(cluster, store={"path": f"{PLACE}/store", "shared": False}):
        yield
    for node in NODES:
        do(cluster, f"rm -rf {PLACE}", node)


def test_each_node_builds_for_itself(cluster):
    """And the user is told once that nobody pinned the tag; with a digest there is no question."""
    step = f"srun -n4 -O --container {IMAGE} bench"
    done = cluster.shell(f"salloc -Q -w bdw1,skx1 --mem=100 sh -c '{step}; {step}'")
    assert done.stdout.count("cpu:broadwell") == 4, done.stderr
    assert done.stdout.count("cpu:skylake") == 4
    told = [line for line in done.stderr.splitlines() if "reads the tag" in line]
    assert len(told) == 2, "once for each node"
    for node in NODES[1:]:
        assert do(cluster, f"ls {PLACE}/store/entries/sha256", node).count(".stream-") == 1
    found = cluster.run("hpcimg", "resolve", IMAGE, "--platform=linux/amd64:broadwell").stdout
    digest = found.strip().partition("@")[2]
    named = cluster.run("srun", "-wbdw1,skx1", f"--container-image={IMAGE}@{digest}", "true")
    assert "reads the tag" not in named.stderr


def test_with_pin_always_they_agree(cluster):
    """Both srun and salloc read the tag: what the nodes are asked for is a digest."""
    line = "/etc/slurm/plugstack.conf"
    do(cluster, f"cp -p {line} {line}.before; sed -i 's/hpcimg.so/& pin=always/' {line}")
    image = 'echo "$SLURM_HPCIMG_IMAGE"'
    try:
        alone = cluster.run("srun", "-wbdw1,skx1", "--container", IMAGE, "sh", "-c", image)
        inner = f"srun sh -c '{image}'; srun --container {IMAGE} sh -c '{image}'"
        job = cluster.run(
            *("salloc", "-Qw", "bdw1,skx1", "--mem=100", f"--container-image={IMAGE}"),
            *("sh", "-c", inner),
        )
        # A file has no tag.
        file = cluster.run("srun", "-wbdw1", "--container-image=./no.sif", "true")
    finally:
        do(cluster, f"mv {line}.before {line}")
    names = {*alone.stdout.split(), *job.stdout.split()}
    assert len(names) == 1, alone.stderr + job.stderr
    assert re.fullmatch(r"registry:5000/qnib/bench:latest@sha256:[0-9a-f]{64}", names.pop())
    assert "reads the tag" not in alone.stderr + job.stderr
    assert "could not open image '/home/alice/no.sif'" in file.stderr
    assert "the tag is read" not in file.stderr


def test_warm_says_what_does_it_here(cluster):
    """A user's `cache warm` would look for the image in the wrong place."""
    done = cluster.run("hpcimg", "cache", "warm", IMAGE, "--type", "linux/amd64:broadwell")
    assert done.returncode == 2
    assert "each node has a store of its own here" in done.stderr
    assert "srun -N COUNT --ntasks-per-node=1 --container NAME true" in done.stderr
