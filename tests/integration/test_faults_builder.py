"""A builder that ends or stops in any phase delays nobody for long and leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import mishaps
import pytest
from conftest import COMMAND
from faulty import REGISTRY, running_front
from shared_store import IMAGE, OTHER, SharedStore

pytestmark = pytest.mark.integration

NAME = f"{REGISTRY}/{IMAGE}"
VICTIM, WAITER = "bdw1", "skx1"

# The downloads are stopped by the registry; all else by the process itself, on its way.
HELD_BYTES = {"download": 500_000, "merge": 1_070_000}
PLACES = {
    "fetch": "hpcimg.workflow.ensure:check_manifest",
    "compress": "hpcimg.runtime.merging:Merging._judge",
    "wrap": "hpcimg.runtime.sif:Sif.finish",
    "seal": "hpcimg.store.workspace:_measure",
    "publish": "hpcimg.store.store:Store._publish",
}


@pytest.fixture(scope="module")
def front(cluster):
    """Run the registry's front."""
    with running_front(cluster) as front:
        yield front


@pytest.fixture
def shared(cluster):
    """Give a store on the cluster, and remove it afterwards."""
    shared = SharedStore(cluster)
    yield shared
    shared.close()


def builder_in(phase, shared, front):
    """Start a builder that stops in this phase, and wait until it is there."""
    if phase in HELD_BYTES:
        front.obey({"path": "/blobs/", "after": HELD_BYTES[phase], "then": "hold"})
        builder = shared.ask(VICTIM, NAME)
        front.wait_until_held()
    else:
        front.obey()
        builder = shared.ask(VICTIM, NAME, at=PLACES[phase])
        builder.hear("held")
    return builder


def programs_of_the_account(cluster, node):
    """Wait until a node's programs of the store's account are gone; what is left after 10 s."""
    loop = "for i in $(seq 500); do pgrep -u hpcimg >/dev/null || exit 0; sleep 0.02; done"
    return mishaps.do(cluster, f"{loop}; ps -u hpcimg -o args=", node)


@pytest.mark.parametrize("phase", [*HELD_BYTES, *PLACES])
def test_kill_9_in_any_phase(shared, front, phase):
    """A waiter on another node builds at once; the dead one's files go with its node's next."""
    builder = builder_in(phase, shared, front)
    waiter = shared.ask(WAITER, NAME)
    waiter.hear("wait")
    front.obey()
    shared.kill(builder)
    assert waiter.image().startswith(shared.root)
    assert "convert" in waiter.heard
    assert set(shared.temporaries()) <= {VICTIM}
    assert programs_of_the_account(shared.cluster, VICTIM) == ""
    shared.ask(VICTIM, OTHER).image()
    assert shared.temporaries() == []
    assert shared.check() == 2


def test_kill_9_after_the_rename(shared, front):
    """The entry is whole: the next request finds it and asks the registry for no blob."""
    front.obey()
    builder = shared.ask(VICTIM, NAME, at="hpcimg.store.store:Store._publish", do="after")
    builder.hear("held")
    shared.kill(builder)
    front.obey()
    after = shared.ask(VICTIM, NAME)
    after.image()
    assert "convert" not in after.heard
    assert front.counts() == {}
    assert shared.check() == 1


def test_a_stopped_builder_is_taken_over_from_another_node(shared, front):
    """A node that hangs holds its lock: past the heartbeat's limit another builds without it."""
    front.obey()
    builder = shared.ask(VICTIM, NAME, at="hpcimg.runtime.sif:Sif.finish")
    builder.hear("held")
    mishaps.do(shared.cluster, f"kill -STOP {builder.pid}", VICTIM)
    waiter = shared.ask(WAITER, NAME, stale=1.0)
    waiter.image()
    assert "convert" in waiter.heard
    shared.kill(builder)
    assert shared.check() == 1


def launch(node):
    """Start srun with the image on a node, and return while it runs."""
    return subprocess.Popen(
        [str(COMMAND), "exec", "--", "srun", "-w", node, "--container", NAME, "bench"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def builder_of(store):
    """Read the lock file: the node and the number of the process that builds."""
    state = json.loads(store.run('cat "$STORE"/locks/[0-9a-f][0-9a-f]*').stdout)
    return state["host"], state["pid"]


def test_a_killed_prefetch_fails_no_job(cluster, front):
    """The prolog's prefetch is killed: the step fetches itself, and so does another node's job."""
    store = SharedStore(cluster, "/srv/hpcimg/test-launch/store")
    mishaps.do(cluster, f"install -d -o hpcimg {Path(store.root).parent}")
    with mishaps.settings(cluster, store={"path": store.root}):
        front.obey({"path": "/blobs/", "after": 500_000, "then": "hold"})
        jobs = [launch(VICTIM)]
        front.wait_until_held()
        node, pid = builder_of(store)
        jobs.append(launch(WAITER))
        front.obey()
        mishaps.do(cluster, f"kill -9 {pid}", node)
        said = [job.communicate(timeout=120)[0] for job in jobs]
    assert node == VICTIM
    assert [job.returncode for job in jobs] == [0, 0], said
    assert all("not optimized for a specific" in text for text in said), said
    assert store.check() == 1
    store.close()
