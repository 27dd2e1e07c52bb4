"""The site's switch: steps with an image are refused, all else goes on, and no node is drained."""

from __future__ import annotations

import pytest
from conftest import Cluster
from launching import IMAGE, NODE
from mishaps import do

pytestmark = pytest.mark.integration

OFF = "/etc/hpcimg/off"


@pytest.fixture
def off_on_node(cluster: Cluster):
    """One node with a /etc/hpcimg of its own, in which the switch is."""
    make = "cp -a /etc/hpcimg /root/switched; echo 'until noon' >/root/switched/off"
    do(cluster, f"{make}; mount --bind /root/switched /etc/hpcimg", NODE)
    yield
    do(cluster, "umount /etc/hpcimg; rm -r /root/switched", NODE)


def test_a_node_that_is_switched_off(cluster, off_on_node):
    """It refuses what it cannot do and does the rest; other nodes do all."""
    inside = f"srun --container {IMAGE} sh -c 'echo in $SLURMD_NODENAME'"
    script = f"srun -w bdw1,skx1 -N2 hostname; srun -w skx1 -N1 -n1 {inside[5:]}; {inside}"
    done = cluster.run("salloc", "-Q", "-w", "bdw1,skx1", "--mem=100", "sh", "-c", script)
    assert sorted(done.stdout.split("\n")) == ["", "bdw1", "in skx1", "in skx1", "skx1"]
    assert f'hpcimg: bdw1: could not run "{IMAGE}": until noon' in done.stderr
    assert done.stderr.count("hpcimg is switched off on this node") == 1
    assert "bdw1: task 0: Exited with exit code 125" in done.stderr
    state = cluster.run("sinfo", "-hn", NODE, "-oN=%T").stdout
    assert "drain" not in state
    assert "down" not in state


def test_where_people_submit(cluster):
    """They are told at once, and commands without an image are not touched."""
    do(cluster, f"touch {OFF}")
    try:
        refused = cluster.run("srun", "--container", IMAGE, "true")
        bare = cluster.run("srun", "-w", NODE, "hostname")
        none = cluster.run("srun", "-w", NODE, "--container-image=none", "hostname")
    finally:
        do(cluster, f"rm {OFF}")
    assert refused.returncode == 1
    said, hint = refused.stderr.splitlines()
    assert said.endswith('switched off on this machine: "the site has switched it off"')
    assert hint == "srun: error: hpcimg: hint: leave out --container, or ask the site"
    assert bare.stdout == none.stdout == f"{NODE}\n"
