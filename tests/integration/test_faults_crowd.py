"""Many that ask at once for a cold image: one download, one conversion, and nobody is left out."""

from __future__ import annotations

import json
from collections import Counter

import mishaps
import pytest
from faulty import REGISTRY, running_front
from shared_store import IMAGE, SharedStore

pytestmark = pytest.mark.integration

PLACE = "/srv/hpcimg/test-crowd"
ROOT = f"{PLACE}/store"
NODES = ("bdw1", "skx1", "zen1", "gpu1")
HOLD = {"path": "/blobs/", "after": 500_000, "then": "hold"}
NAME = f"{REGISTRY}/{IMAGE}"


@pytest.fixture(scope="module")
def front(cluster):
    """Run the front; the site's store is one of these tests' own, so that every launch is cold."""
    with running_front(cluster, store={"path": ROOT}) as front:
        yield front


@pytest.fixture
def shared(cluster):
    """Give an empty store, which is the site's while these tests run."""
    shared = SharedStore(cluster, ROOT)
    mishaps.do(cluster, f"rm -rf {PLACE}; install -d -o hpcimg {PLACE}")
    yield shared
    shared.close()


@pytest.fixture(scope="module")
def pinned(cluster):
    """Name the image by its digest, so that nobody has to ask what a tag means."""
    done = cluster.run("hpcimg", "inspect", IMAGE, "--json")
    return f"{NAME.rpartition(':')[0]}@{json.loads(done.stdout)['digest']}"


def test_a_thousand_ask_at_once(shared, front, pinned):
    """A thousand on four nodes wait for one; a process of ten is killed, the rest have it."""
    front.obey(HOLD)
    builder = shared.ask("zen1", pinned, read=300)
    front.wait_until_held()
    crowds = [shared.ask(node, pinned, crowd=25, threads=10) for node in NODES]
    for crowd in crowds:
        crowd.hear("all wait")
    mishaps.do(shared.cluster, f"kill -9 {crowds[0].pid}", crowds[0].node)
    front.release()
    image = builder.image()
    heard = sum((Counter(json.loads(crowd.image())) for crowd in crowds), Counter())
    assert heard == {"wait": 1000, image: 990}
    assert set(front.counts().values()) == {1}
    assert shared.temporaries() == []
    assert shared.check() == 1
