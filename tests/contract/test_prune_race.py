"""Prune against jobs and builders in other processes, and against full disks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from kept import CONVERTER, Kept, digest

from hpcimg.errors import StoreError
from hpcimg.store.lease import LeaseKey, take_lease

HERE = Path(__file__).parent
JOB = LeaseKey("folder", "4711", "1000")


KILLED_IN_THE_WINDOW = """
import os, signal, sys
from pathlib import Path
from hpcimg.store.entry import entry_key
from hpcimg.store.owner import current_owner
from hpcimg.store.prune import remove
from hpcimg.store.store import Store
key = entry_key(sys.argv[2], sys.argv[3])
store = Store(Path(sys.argv[1]), os.geteuid())
remove(store, key, current_owner(), when_away=lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.mark.parametrize("is_held", [True, False], ids=["held", "free"])
def test_a_prune_killed_in_the_window_loses_nothing_in_use(kept, is_held):
    """The next sweep brings back what a job holds by then, and removes what none does."""
    entry = kept.put(1)
    words = [sys.executable, "-c", KILLED_IN_THE_WINDOW, str(kept.store.root), digest(1), CONVERTER]
    env = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}
    subprocess.run(words, env=env, check=False)
    assert not entry.path.exists()
    assert len(kept.left()) == 1
    if is_held:
        take_lease(kept.store, JOB, kept.key(1))
    kept.put(2)  # a builder sweeps first
    assert entry.path.exists() == is_held
    assert kept.left() == []


REMOVES_ON_AND_ON = """
import os, sys
from pathlib import Path
from hpcimg.store.entry import entry_key
from hpcimg.store.owner import current_owner
from hpcimg.store.prune import remove
from hpcimg.store.store import Store
key = entry_key(sys.argv[2], sys.argv[3])
store = Store(Path(sys.argv[1]), os.geteuid())
while not Path(sys.argv[4]).exists():
    remove(store, key, current_owner())
"""
PATIENCE = 60.0


def wait_until(is_so, otherwise: str) -> None:
    """Wait for an event in the other process."""
    until = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < until, otherwise


def test_a_prune_that_never_rests_takes_no_job_s_image(kept, tmp_path):
    """Two processes: one removes on and on, the other asks for a hundred jobs, one by one."""
    kept.store.prepare()
    end = tmp_path / "end"
    words = [str(kept.store.root), digest(1), CONVERTER, str(end)]
    child = subprocess.Popen(
        [sys.executable, "-c", REMOVES_ON_AND_ON, *words],
        env={**os.environ, "PYTHONPATH": str(HERE.parent.parent)},
    )
    try:
        for number in range(100):
            key = LeaseKey("folder", str(number), "1000")
            entry = kept.ensure(1, key)
            # It may be away for the moment between prune's rename and its second look.
            wait_until(entry.image.exists, "a leased entry was removed")
            (kept.store.root / "leases/sha256" / kept.key(1).name / key.name).unlink()
            if number % 5 == 0:
                wait_until(lambda at=entry.path: not at.exists(), "nothing was removed")
    finally:
        end.touch()
        assert child.wait(timeout=PATIENCE) == 0


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own; yields its path."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=64,mode=755", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, check=False).returncode != 0:
        pytest.skip("this machine lets nobody mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_prune_makes_room_on_a_disk_without_any(small_disk):
    """It needs neither a block nor a file, since that is when it is called."""
    kept = Kept(small_disk / "store")
    kept.put(1)
    number = 0
    with suppress(OSError):
        while True:
            (small_disk / f"fill-{number}").write_bytes(b"x" * 16384)
            number += 1
    with suppress(OSError):
        while True:
            (small_disk / f"file-{number}").touch()
            number += 1
    assert kept.remove(1)
    assert kept.store.entries() == ()
    assert kept.left() == []


def test_prune_of_a_read_only_store_is_refused(small_disk):
    """One error that names the store; nothing is half removed."""
    kept = Kept(small_disk / "store")
    kept.put(1)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match=r'could not remove an entry in ".*read-only file system'):
        kept.remove(1)
    assert kept.store.lookup(digest(1), CONVERTER) is not None
