"""An entry that was changed is seen before anything starts, put aside and built again."""

from __future__ import annotations

from contextlib import contextmanager

import mishaps
import pytest
from faulty import REGISTRY, running_front
from launching import allocate
from shared_store import IMAGE, SharedStore
from test_failure import refused

pytestmark = pytest.mark.integration

NODE = "bdw1"
NAME = f"{REGISTRY}/{IMAGE}"
PLACE = "/srv/hpcimg/test-entry"
ROOT = f"{PLACE}/store"


@pytest.fixture(scope="module")
def front(cluster):
    """Run the front; the site's store is one of these tests' own."""
    with running_front(cluster, store={"path": ROOT}) as front:
        yield front


@pytest.fixture(scope="module")
def store(cluster, front):
    """Give the site's store; each test leaves it with one good image, or with none."""
    mishaps.do(cluster, f"install -d -o hpcimg {PLACE}")
    yield SharedStore(cluster, ROOT)
    mishaps.do(cluster, f"rm -rf {PLACE}")


@pytest.fixture
def shared(store, front):
    """Give the store with one image in it, and a front that has seen nothing yet."""
    front.obey()
    if not store.check():
        store.ask(NODE, NAME).image()
        front.obey()
    return store


# What root does in the entry's directory.
DAMAGES = {
    "truncated": "truncate -s -4096 image.sif",
    "emptied": ": >image.sif",
    "another file of that size": "head -c $(stat -c %s image.sif) /dev/zero >x; mv x image.sif",
    "a link": "mv image.sif $PLACE/x; ln -s $PLACE/x image.sif",
    "a pipe": "rm image.sif; mkfifo image.sif",
    "without its image": "rm image.sif",
    "of another owner": "chown bob image.sif",
    "open to others": "chmod o+w image.sif",
    "in an open directory": "chmod 777 .",
    "without its record": "rm record.json",
    "with half a record": "truncate -s 100 record.json",
    "with the record of another": "sed -i s/sha256:./sha256:x/ record.json",
    "a link to a directory": "mv $PWD $PLACE/d; ln -s $PLACE/d $PWD",
}

# What a step with a ticket sees of them: all that can be seen without reading a file.
IN_SIGHT = [
    name for name in DAMAGES if "record" not in name and name != "another file of that size"
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_changed_entry_is_put_aside_and_built_again(cluster, shared, front, damage):
    """The launch runs the right image, the changed entry is kept for the administrator."""
    change = f"PLACE={PLACE}; cd {ROOT}/entries/sha256/*; {DAMAGES[damage]}"
    mishaps.do(cluster, f"rm -rf {ROOT}/quarantine/*; {change}")
    done = cluster.run("srun", "-w", NODE, "--container", NAME, "bench")
    assert "not optimized for a specific" in done.stdout, done.stderr
    assert set(front.counts().values()) == {1}, "the layers were not fetched again, once each"
    assert len(mishaps.do(cluster, f"ls {ROOT}/quarantine").split()) == 1
    assert shared.check() == 1


@pytest.mark.parametrize("damage", IN_SIGHT)
def test_the_next_step_of_a_job_sees_it_too(cluster, shared, damage):
    """The job's ticket names a changed entry: the step has it built again, as a first step does."""
    with contextmanager(allocate)(cluster) as job:
        assert job.step("true", image=NAME).code == 0
        change = f"PLACE={PLACE}; cd {ROOT}/entries/sha256/*; {DAMAGES[damage]}"
        mishaps.do(cluster, f"rm -rf {ROOT}/quarantine/*; {change}")
        ended = job.step("bench", image=NAME)
    aside = mishaps.do(cluster, f"ls {ROOT}/quarantine")
    if not aside:
        mishaps.do(cluster, f"rm -r {ROOT}/entries/sha256/*")
    assert ended.code == 0, ended.errors
    assert aside


def test_an_entry_of_another_user_is_not_run(cluster, shared):
    """Its directory cannot be moved aside by the account: the launch says what root has to do."""
    mishaps.do(cluster, f"chown -R bob {ROOT}/entries/sha256/*")
    ((what, hint),) = refused(cluster, NAME, nodes=(NODE,))
    assert "belongs to bob" in what
    assert hint.startswith("remove it as root: rm -r ")
    mishaps.do(cluster, f"rm -r {ROOT}/entries/sha256/*")


def test_a_store_open_to_others_is_not_used(cluster, shared):
    """Who can write the directory can plant entries: nothing in it counts."""
    mishaps.do(cluster, f"chmod 777 {ROOT}/entries")
    ((what, hint),) = refused(cluster, NAME, nodes=(NODE,))
    assert 'is not safe: "entries" may be written by others (mode 0777)' in what
    assert "chmod go-w" in hint
    mishaps.do(cluster, f"chmod 755 {ROOT}/entries")
