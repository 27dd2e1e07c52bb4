"""The store on the cluster's shared directory: real nodes, the real converter, a real power cut."""

from __future__ import annotations

import pytest
from shared_store import OTHER, SharedStore

pytestmark = pytest.mark.integration

NODES = ("bdw1", "skx1", "zen1", "gpu1")


@pytest.fixture
def shared(cluster):
    """Give a store on the cluster, and remove it afterwards."""
    shared = SharedStore(cluster)
    yield shared
    shared.close()


def test_four_nodes_ask_at_once_and_one_converts(shared):
    """One node fetches and converts for all; every user on every node can run the image."""
    asking = [shared.ask(node) for node in NODES]
    images = [one.image() for one in asking]
    assert sum("convert" in one.heard for one in asking) == 1
    assert set(images) == {images[0]}
    done = shared.run(f"apptainer --quiet exec --userns {images[0]} bench", "zen1", user="bob")
    assert "not optimized for a specific microarchitecture" in done.stdout, done.stderr
    assert shared.temporaries() == []


@pytest.mark.parametrize("lock", ["flock", "link"])
def test_a_node_that_loses_power_while_it_builds_delays_nobody(shared, lock):
    """Another node builds; what the lost one left is swept when it is back and builds.

    At once where the file system gives the lock back, else when the record stood still.
    """
    lost = shared.ask("zen1", lock=lock, at="hpcimg.runtime.sif:Sif.finish")
    lost.hear("held")
    waiter = shared.ask("skx1", lock=lock, stale=8.0)
    waiter.hear("wait")
    try:
        assert shared.cluster.verb("kill", "zen1").returncode == 0
        waiter.image()
        assert "convert" in waiter.heard
        assert set(shared.temporaries()) <= {"zen1"}
    finally:
        started = shared.cluster.verb("start", "zen1")
    assert started.returncode == 0, started.stderr
    shared.ask("zen1", OTHER, lock=lock).image()
    assert shared.temporaries() == []
    assert shared.check() == 2


def test_a_user_cannot_plant_an_entry(shared):
    """Ordinary users may read the store's images, and write nothing in it."""
    shared.ask("bdw1").image()
    done = shared.run(
        'cd "$STORE"; for place in . entries entries/sha256 locks nodes tmp entries/sha256/*; do'
        ' touch "$place/x" 2>/dev/null && echo "wrote $place"; done;'
        ' cp "$STORE"/entries/sha256/*/image.sif /dev/null && echo read',
        user="alice",
    )
    assert done.stdout == "read\n", done.stderr
