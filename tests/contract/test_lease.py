"""Leases on a real file system: who holds what, and what happens where nothing can be written."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import threading
from pathlib import Path

import pytest
from sif import sif_bytes

from hpcimg.errors import StoreError
from hpcimg.store.entry import UntrustedError, entry_key
from hpcimg.store.lease import (
    LeaseKey,
    all_leased,
    drop_lease,
    forget,
    last_use,
    lease_key,
    read_leases,
    take_lease,
)
from hpcimg.store.store import Store
from hpcimg.store.workspace import BuiltImage

DIGEST = "sha256:" + "cd" * 32
CONVERTER = "fake-1.0-1"
ENTRY = entry_key(DIGEST, CONVERTER)
JOB = LeaseKey("folder", "4711", "1000")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to chown and to mount")


def build(workspace):
    """Make a small image."""
    workspace.image.write_bytes(sif_bytes())
    return BuiltImage((), (), ())


@pytest.fixture
def store(tmp_path):
    """Give a store that this process may write."""
    return Store(tmp_path / "store", os.geteuid())


def names(store):
    """Name the holders of the entry."""
    return sorted(lease.key.name for lease in read_leases(store, ENTRY))


def test_a_lease_is_a_file_of_the_job_s_name(store):
    """One for the job and the entry, with what people want to know in it."""
    take_lease(store, JOB, ENTRY, "registry/tool:1")
    path = store.root / "leases/sha256" / ENTRY.name / "folder~4711~1000"
    fields = json.loads(path.read_text())
    assert {name: fields[name] for name in ("job", "cluster", "uid", "image")} == {
        "job": "4711",
        "cluster": "folder",
        "uid": "1000",
        "image": "registry/tool:1",
    }
    assert list(all_leased(store)) == [ENTRY]


def test_which_job_runs_what_is_nobody_s_business(store):
    """Other users cannot list the leases."""
    take_lease(store, JOB, ENTRY)
    assert (store.root / "leases").stat().st_mode & 0o777 == 0o700


def test_a_lease_is_taken_again_by_all_nodes_and_steps(store):
    """The second time changes its time alone, and so does a time after it was dropped."""
    take_lease(store, JOB, ENTRY)
    (first,) = read_leases(store, ENTRY)
    path = store.root / "leases/sha256" / ENTRY.name / JOB.name
    os.utime(path, (1, 1))
    take_lease(store, JOB, ENTRY)
    (again,) = read_leases(store, ENTRY)
    assert again.taken >= first.taken
    assert drop_lease(store, again)
    forget(store, ENTRY)
    take_lease(store, JOB, ENTRY)
    assert names(store) == [JOB.name]


def test_many_take_leases_on_one_entry_at_once(store):
    """A first use on many nodes: each job has its lease, none of them fails."""
    keys = [LeaseKey("folder", str(number % 4), "1000") for number in range(32)]
    threads = [threading.Thread(target=take_lease, args=(store, key, ENTRY)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(store) == [f"folder~{number}~1000" for number in range(4)]


def test_the_lease_comes_before_the_lookup(store):
    """What is being built is held already, and a hit is held too."""
    seen = []

    def watched(workspace):
        seen.extend(names(store))
        return build(workspace)

    store.ensure(DIGEST, CONVERTER, watched, lease=JOB)
    store.ensure(DIGEST, CONVERTER, pytest.fail, lease=LeaseKey("folder", "4712", "1000"))
    assert seen == [JOB.name]
    assert names(store) == [JOB.name, "folder~4712~1000"]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("folder", "7", "0"), "folder~7~0"),
        (("", "7", "0"), "_~7~0"),
        (("../x", "7", ""), "_~7~_"),
        (("a~b", "7", "0"), "_~7~0"),
    ],
)
def test_a_job_s_words_make_no_path(words, name):
    """A cluster's name may be forged: it counts as unknown, and is nobody's."""
    assert lease_key(*words).name == name


@pytest.mark.parametrize("job", ["", "x", "../7", "7~8"])
def test_without_a_job_there_is_no_lease(job):
    """Only Slurm's numbers are jobs."""
    assert lease_key("folder", job, "0") is None


def test_a_dropped_lease_leaves_the_time_of_the_last_use(store):
    """Prune goes by it: the entry was in use until about now."""
    entry = store.ensure(DIGEST, CONVERTER, build, lease=JOB)
    os.utime(entry.path, (1000, 1000))
    (lease,) = read_leases(store, ENTRY)
    assert drop_lease(store, lease)
    assert read_leases(store, ENTRY) == ()
    assert last_use(store, ENTRY, ()) >= lease.taken


def test_a_lease_that_was_asked_for_again_is_not_dropped(store):
    """Job numbers come round: what was read before the new job came is not its lease."""
    take_lease(store, JOB, ENTRY)
    (lease,) = read_leases(store, ENTRY)
    os.utime(store.root / "leases/sha256" / ENTRY.name / JOB.name, (1, 1))
    assert not drop_lease(store, lease)
    assert names(store) == [JOB.name]


def test_a_name_that_we_did_not_make_keeps_the_entry(store):
    """Whatever lies among the leases, prune rather keeps."""
    take_lease(store, JOB, ENTRY)
    (store.root / "leases/sha256" / ENTRY.name / "keep-this").touch()
    assert names(store) == ["_~keep-this~_", JOB.name]


def test_leases_that_others_may_write_are_not_believed(store):
    """Who reads them is told, and does not go by them."""
    take_lease(store, JOB, ENTRY)
    (store.root / "leases/sha256").chmod(0o777)
    with pytest.raises(UntrustedError, match=r"may be written by others \(mode 0777\)"):
        read_leases(store, ENTRY)
    with pytest.raises(StoreError, match=r"the leases of the store .* are not safe"):
        take_lease(store, JOB, ENTRY)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, to be filled up or made read-only; yields its path."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=64,mode=755", "tmpfs", str(place)]
    if subprocess.run(command, check=False).returncode != 0:
        pytest.skip("this machine lets nobody mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, *, files: bool) -> None:
    """Use up all blocks, or all files, of the disk."""
    for number in range(10_000):
        try:
            (place / f"fill-{number}").write_bytes(b"" if files else b"x" * 65536)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                return
            raise
    pytest.fail("the disk did not fill up")


@needs_root
def test_a_lease_needs_no_block_of_a_full_disk(small_disk):
    """That is when somebody prunes: the name is the lease."""
    store = Store(small_disk / "store", 0)
    store.ensure(DIGEST, CONVERTER, build, lease=JOB)
    fill(small_disk, files=False)
    store.ensure(DIGEST, CONVERTER, pytest.fail, lease=LeaseKey("folder", "4712", "1000"))
    assert names(store) == [JOB.name, "folder~4712~1000"]


@needs_root
def test_without_a_lease_an_image_that_is_there_runs(small_disk, caplog):
    """One warning, and what needs no space: prune lets it be for some hours."""
    store = Store(small_disk / "store", 0)
    entry = store.ensure(DIGEST, CONVERTER, build)
    os.utime(entry.path, (1000, 1000))
    fill(small_disk, files=True)
    with caplog.at_level(logging.WARNING):
        assert store.ensure(DIGEST, CONVERTER, pytest.fail, lease=JOB) == entry
    (said,) = caplog.messages
    assert "could not take a lease on an image" in said
    assert "no space left" in said
    assert said.endswith("the job's image is not safe from prune")
    assert last_use(store, ENTRY, ()) > 1000


@needs_root
def test_a_read_only_store_is_used_without_leases(small_disk, caplog):
    """Nothing is written, the image runs, one warning says what that costs."""
    store = Store(small_disk / "store", 0)
    entry = store.ensure(DIGEST, CONVERTER, build)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with caplog.at_level(logging.WARNING):
        assert store.ensure(DIGEST, CONVERTER, pytest.fail, lease=JOB) == entry
    (said,) = caplog.messages
    assert "read-only file system" in said
