"""The store on the cluster's shared directory: real nodes, real Apptainer, a real power cut."""

from __future__ import annotations

import secrets
import subprocess
from pathlib import Path

import pytest
from conftest import COMMAND

pytestmark = pytest.mark.integration

ASK = (Path(__file__).parent / "ask_store.py").read_text()
IMAGE = "qnib/plain-featuretest:generic"
OTHER = "qnib/plain-featuretest:cpu-broadwell"
NODES = ("bdw1", "skx1", "zen1", "gpu1")


class SharedStore:
    """A store of one test, beside the site's, on the file system that all nodes see."""

    def __init__(self, cluster) -> None:
        self.cluster = cluster
        self.lock = "flock"
        self.root = f"/srv/hpcimg/test-{secrets.token_hex(4)}/store"
        self.children: list[subprocess.Popen[str]] = []

    def ask(self, node: str, name: str = IMAGE, mode: str = "go") -> subprocess.Popen[str]:
        """Ask for an image on a node."""
        python = ("/opt/hpcimg/bin/python", "-I", "-c", ASK, self.root, name, mode, self.lock)
        child = subprocess.Popen(
            [str(COMMAND), "exec", "-n", node, "-u", "hpcimg", "--", *python],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.children.append(child)
        return child

    def run(self, command: str, node: str = "login", user: str = "hpcimg"):
        """Run a shell command on a node; STORE is this store's path."""
        return self.cluster.shell(f"STORE={self.root}; {command}", node=node, user=user)


@pytest.fixture
def shared(cluster):
    """Give a store on the cluster, and remove it afterwards."""
    shared = SharedStore(cluster)
    yield shared
    for child in shared.children:
        child.kill()
        child.communicate()
    shared.run('rm -rf "${STORE%/store}"')


def test_four_nodes_ask_at_once_and_one_converts(shared):
    """One node fetches and converts for all; every user on every node can run the image."""
    children = [shared.ask(node) for node in NODES]
    said = [child.communicate(timeout=300)[0].split() for child in children]
    assert [child.returncode for child in children] == [0] * len(NODES), said
    assert sum("convert" in words for words in said) == 1
    assert {words[-1] for words in said} == {said[0][-1]}
    image = said[0][-1]
    done = shared.run(f"apptainer --quiet exec --userns {image} bench", node="zen1", user="bob")
    assert "not optimized for a specific microarchitecture" in done.stdout, done.stderr
    assert shared.run('ls "$STORE/tmp"').stdout == ""


@pytest.mark.parametrize("lock", ["flock", "link"])
def test_a_node_that_loses_power_while_it_builds_delays_nobody(shared, lock):
    """Another node builds; what the lost one left is swept when it is back and builds.

    At once where the file system gives the lock back, else when the record stood still.
    """
    shared.lock = lock
    lost = shared.ask("zen1", mode="hold")
    assert any(line.strip() == "convert" for line in iter(lost.stdout.readline, ""))
    waiter = shared.ask("skx1")
    assert any(line.strip() == "wait" for line in iter(waiter.stdout.readline, ""))
    try:
        assert shared.cluster.verb("kill", "zen1").returncode == 0
        said = waiter.communicate(timeout=300)[0].split()
        assert waiter.returncode == 0, said
        assert "convert" in said
        assert shared.run('ls "$STORE/tmp"').stdout.startswith("zen1.")
    finally:
        started = shared.cluster.verb("start", "zen1")
    assert started.returncode == 0, started.stderr
    back = shared.ask("zen1", OTHER)
    assert back.communicate(timeout=300)[0].split()[-1].endswith("/image.sif")
    assert shared.run('ls "$STORE/tmp"').stdout == ""


def test_a_user_cannot_plant_an_entry(shared):
    """Ordinary users may read the store's images, and write nothing in it."""
    assert shared.ask("bdw1").wait(timeout=300) == 0
    done = shared.run(
        'cd "$STORE"; for place in . entries entries/sha256 locks nodes tmp entries/sha256/*; do'
        ' touch "$place/x" 2>/dev/null && echo "wrote $place"; done;'
        ' cp "$STORE"/entries/sha256/*/image.sif /dev/null && echo read',
        user="alice",
    )
    assert done.stdout == "read\n", done.stderr
