"""A store's disk that is full, read-only or gone: a clear error, nothing half-made, others run."""

from __future__ import annotations

import re

import mishaps
import pytest
from faulty import REGISTRY, running_front
from shared_store import IMAGE, OTHER, SharedStore
from test_failure import refused

pytestmark = pytest.mark.integration

NODE = "zen1"
PLACE = "/srv/small"
NAME = f"{REGISTRY}/{IMAGE}"


@pytest.fixture(scope="module")
def front(cluster):
    """Run the registry's front."""
    with running_front(cluster) as front:
        yield front


@pytest.fixture
def small(cluster, front):
    """Give the node a store on a small disk of its own, with one image in it."""
    front.obey()
    with mishaps.small_disk(cluster, NODE, "8m"):
        small = SharedStore(cluster, f"{PLACE}/store", home=NODE)
        assert runs(cluster, OTHER)
        yield small
        small.close()


def runs(cluster, name):
    """Whether a new job on the node can run the image."""
    done = cluster.run("srun", "-w", NODE, "--container", name, "bench")
    return "This container is" in done.stdout


def test_a_disk_that_fills_up_while_an_image_is_built(cluster, small, front):
    """The error has path and space, nothing is left, other images run, and later this one too."""
    front.obey({"path": "/blobs/", "after": 500_000, "then": "hold"})
    asking = small.ask(NODE, NAME)
    front.wait_until_held()
    mishaps.do(cluster, f"cat /dev/zero >{PLACE}/fill 2>/dev/null || :", NODE)
    front.release()
    said = asking.error()
    wanted = rf'could not .* in "{PLACE}/store.*": no space left; .* free, about .* MB needed'
    assert re.match(wanted, said), said
    assert small.temporaries() == []
    assert small.check() == 1
    assert runs(cluster, OTHER), "a full disk stops what is in the store"
    mishaps.do(cluster, f"rm {PLACE}/fill", NODE)
    small.ask(NODE, NAME).image()
    assert small.check() == 2


def test_a_read_only_disk(cluster, small):
    """What is in the store runs; what is not is refused in two lines that say why."""
    mishaps.do(cluster, f"mount -o remount,ro {PLACE}", NODE)
    assert runs(cluster, OTHER), "a read-only disk stops what is in the store"
    ((what, hint),) = refused(cluster, NAME, "-n2", nodes=(NODE,))
    assert re.match(rf'could not .* in "{PLACE}/store.*": read-only file system', what), what
    assert "mounted" in hint
    mishaps.do(cluster, f"mount -o remount,rw {PLACE}", NODE)
    assert small.temporaries() == []
    assert runs(cluster, NAME)


FAILING = {
    "quota while converting": ("hpcimg.runtime.sif:Sif.finish", "EDQUOT", "disk quota exceeded; "),
    "quota at the record": ("hpcimg.store.workspace:_measure", "EDQUOT", "disk quota exceeded; "),
    "stale handle at the sync": ("hpcimg.store.workspace:sync", "ESTALE", "stale file handle"),
    "stale handle at the rename": (
        "hpcimg.store.store:Store._publish",
        "ESTALE",
        "stale file handle",
    ),
    "stale handle at the look": ("hpcimg.store.entry:open_directory", "ESTALE", "stale file"),
    "an error of the disk": ("hpcimg.store.workspace:_measure", "EIO", "input/output error"),
}


@pytest.mark.parametrize("case", FAILING)
def test_a_file_system_that_fails(cluster, small, case):
    """The error names the store and the reason, nothing is left, and the next request builds."""
    place, number, words = FAILING[case]
    said = small.ask(NODE, at=place, do=number).error()
    assert re.match(rf'could not .* "{PLACE}/store', said), said
    assert words in said.lower()
    assert small.temporaries() == []
    assert small.check() == 1
    small.ask(NODE).image()
    assert small.check() == 2
