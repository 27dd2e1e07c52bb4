"""Many that ask at once for a cold image: one download, one conversion, and nobody is left out."""

from __future__ import annotations

import json
import subprocess
from collections import Counter

import mishaps
import pytest
from conftest import COMMAND
from faulty import REGISTRY, running_front
from shared_store import IMAGE, SharedStore

pytestmark = pytest.mark.integration

PLACE = "/srv/hpcimg/test-crowd"
BENCH = COMMAND.parents[1] / "bench"
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


def layers_of(cluster, tag):
    """List the digests of an image's layers, the shared one first."""
    name = f"registry:5000/qnib/plain-featuretest:{tag}"
    raw = mishaps.do(cluster, f"skopeo inspect --raw --tls-verify=false docker://{name}")
    return [one["digest"] for one in json.loads(raw)["layers"]]


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


def test_a_cold_start_on_four_nodes(cluster, shared, front):
    """16 tasks on each of four nodes: each layer is fetched once, the image is converted once."""
    front.obey()
    done = cluster.run("srun", "-N4", "-O", "-n64", "--container", NAME, "bench", timeout=300)
    assert done.stdout.count("not optimized for a specific") == 64, done.stderr
    counts = front.counts()
    assert [counts[layer] for layer in layers_of(cluster, "generic")] == [1, 1]
    assert shared.check() == 1


def test_a_cold_start_of_three_builds(cluster, shared, front):
    """Each node runs its own build of the name, two the same: each of them is converted once.

    So is each layer fetched, the one that all of them share too.
    """
    front.obey()
    name = f"{REGISTRY}/qnib/bench"
    done = cluster.run("srun", "-N4", "-O", "-n64", "--container", name, "bench", timeout=300)
    assert done.stdout.count("This container is") == 64, done.stderr
    counts = front.counts()
    own = [layers_of(cluster, tag)[1] for tag in ("generic", "cpu-skylake", "cpu-broadwell")]
    assert [counts[layer] for layer in own] == [1, 1, 1]
    assert counts[layers_of(cluster, "generic")[0]] == 1
    assert shared.check() == 3


class Clients:
    """Four clients on a node, one of them in namespaces of its own."""

    def __init__(self, node, name):
        script = (BENCH / "clients.sh").read_text("utf-8")
        words = ["exec", "-n", node, "-u", "root", "--", "bash", "-c", script, "_", name, "3", "1"]
        self.process = subprocess.Popen(
            [str(COMMAND), *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        self.pids = self.process.stdout.readline().split()

    def codes(self):
        """Wait until all have ended; their exit codes."""
        return [int(code) for code in self.process.communicate(timeout=120)[0].split()]


@pytest.fixture(scope="module")
def requests(cluster, front, pinned):
    """Count the requests of one client, and then of 16 of which one is killed, each time cold."""
    shared = SharedStore(cluster, ROOT)
    mishaps.do(cluster, f"rm -rf {PLACE}; install -d -o hpcimg {PLACE}")
    front.obey()
    assert cluster.run("/opt/hpcimg/bin/hpcimg", "get", pinned, user="hpcimg").returncode == 0
    one = front.counts("/v2/")
    mishaps.do(cluster, f"rm -rf {ROOT}")
    front.obey(HOLD)
    groups = {node: Clients(node, pinned) for node in NODES}
    front.wait_until_held()
    builder = json.loads(shared.run('cat "$STORE"/locks/[0-9a-f][0-9a-f]*').stdout)["host"]
    other = next(node for node in NODES if node != builder)
    mishaps.do(cluster, f"kill -9 {groups[other].pids[0]}", other)
    front.release()
    codes = [code for group in groups.values() for code in group.codes()]
    assert sorted(codes) == [0] * 15 + [137]
    assert shared.check() == 1
    yield one, front.counts("/v2/")
    shared.close()


def test_separate_clients_fetch_each_layer_once(cluster, requests):
    """16 clients on one store, some in namespaces of their own: one download, one conversion."""
    counts = requests[1]
    assert [counts[layer] for layer in layers_of(cluster, "generic")] == [1, 1]


def test_separate_clients_ask_no_more_than_one(requests):
    """What one of them was told all others know: the registry sees the requests of one client."""
    one, many = requests
    assert many == one
