"""Many processes, one entry: real processes race, wait, die and take over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from builder import CONVERTER
from sif import sif_bytes

from hpcimg.errors import LockTimeoutError
from hpcimg.store.lock import read_state
from hpcimg.store.lock_kinds import entry_lock
from hpcimg.store.owner import current_owner
from hpcimg.store.store import Store
from hpcimg.store.workspace import BuiltImage

DIGEST = "sha256:" + "ab" * 32
HERE = Path(__file__).parent


class Race:
    """The processes of one test and the store they share."""

    def __init__(self, folder: Path, lock: str) -> None:
        self.lock = lock
        self.root = folder / "store"
        self.built_file = folder / "built"
        self.children: list[subprocess.Popen[str]] = []

    def start(self, mode: str, *options: str, before: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Start one more process that asks; see builder.py for the modes."""
        words = (str(self.root), DIGEST, mode, self.lock, *options)
        child = subprocess.Popen(
            [*before, sys.executable, str(HERE / "builder.py"), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{HERE}:{HERE.parent.parent}"},
        )
        self.children.append(child)
        return child

    def built(self) -> list[str]:
        """List the processes that built, in their order."""
        return self.built_file.read_text().split() if self.built_file.exists() else []

    def temporaries(self) -> list[str]:
        """List the workspaces in the store."""
        return [path.name for path in (self.root / "tmp").iterdir()]

    def store(self, **options) -> Store:
        """Open the store in this process."""
        return Store(self.root, os.geteuid(), lock=self.lock, **options)

    def here(self, **options):
        """Ask for the entry in this process, too."""

        def build(workspace):
            workspace.image.write_bytes(sif_bytes())
            return BuiltImage(("test",), (), ())

        return self.store(**options).ensure(DIGEST, CONVERTER, build)


@contextmanager
def racing(folder: Path, lock: str) -> Iterator[Race]:
    """Give a race, and end its processes afterwards."""
    race = Race(folder, lock)
    yield race
    for child in race.children:
        child.kill()
        child.communicate()


@pytest.fixture(params=["flock", "fcntl", "link"])
def race(tmp_path, request):
    """Give a race with each kind of lock."""
    with racing(tmp_path, request.param) as race:
        yield race


@pytest.fixture
def unlocked(tmp_path):
    """Give a race without locks."""
    with racing(tmp_path, "none") as race:
        yield race


def hear(child: subprocess.Popen[str], word: str) -> None:
    """Read what the child says until this word: the tests wait for events, never for time."""
    assert any(line.strip() == word for line in iter(child.stdout.readline, ""))


def test_of_many_that_ask_at_once_one_builds(race):
    """One process builds, all that came meanwhile wait, and all get the same entry."""
    first = race.start("hold")
    hear(first, "building")
    others = [race.start("now") for _ in range(5)]
    for other in others:
        hear(other, "waiting")
    first.stdin.write("\n")
    first.stdin.flush()
    paths = {child.communicate(timeout=60)[0].split()[-1] for child in race.children}
    assert race.built() == [str(first.pid)]
    assert paths == {str(race.store().lookup(DIGEST, CONVERTER).path)}
    assert race.temporaries() == []


def test_a_killed_builder_leaves_no_entry_and_the_next_builds(race):
    """After kill -9 in the middle there is no entry; the next request sweeps and builds."""
    victim = race.start("hold")
    hear(victim, "building")
    victim.kill()
    victim.wait()
    assert race.store().lookup(DIGEST, CONVERTER) is None
    assert len(race.temporaries()) == 1
    assert race.here().record.references == ("test",)
    assert race.temporaries() == []


def test_a_builder_killed_before_the_rename_leaves_no_entry(race):
    """The image was whole, the rename had not come: there is no entry, and the next one builds."""
    victim = race.start("die")
    assert victim.wait(timeout=60) == -signal.SIGKILL
    assert race.built() == [str(victim.pid)]
    assert race.store().lookup(DIGEST, CONVERTER) is None
    assert race.here().record.references == ("test",)
    assert race.temporaries() == []


def test_a_waiter_takes_over_from_a_killed_builder(race):
    """The lock of a dead process is free at once on its node: a waiter builds."""
    victim = race.start("hold")
    hear(victim, "building")
    waiter = race.start("now")
    hear(waiter, "waiting")
    victim.kill()
    waiter.communicate(timeout=60)
    assert race.built() == [str(waiter.pid)]


def test_a_builder_that_stands_still_is_built_past(race):
    """A stopped builder holds its lock; a waiter builds without it, and both end well."""
    stopped = race.start("hold")
    hear(stopped, "building")
    stopped.send_signal(signal.SIGSTOP)
    waiter = race.start("now", "0")
    said, _ = waiter.communicate(timeout=60)
    assert race.built() == [str(waiter.pid)]
    stopped.send_signal(signal.SIGCONT)
    late, _ = stopped.communicate("\n", timeout=60)
    assert late.split()[-1] == said.split()[-1]
    assert race.store().lookup(DIGEST, CONVERTER).record.references == (f"pid {waiter.pid}",)
    assert race.temporaries() == []


def test_waiting_ends_with_the_owner_s_name(race):
    """Who waited too long learns which lock, and which host, process and job holds it."""
    holder = race.start("hold")
    hear(holder, "building")
    with pytest.raises(LockTimeoutError) as caught:
        race.here(lock_timeout=0.0)
    error = caught.value
    assert f"(pid {holder.pid}, job 4711)" in error.message
    assert error.path in error.message
    assert Path(error.path).is_file()


def test_all_that_wait_for_a_stopped_builder_build_once(race):
    """Who goes past the one that stopped meets the others, and again one builds for all."""
    stopped = race.start("hold")
    hear(stopped, "building")
    stopped.send_signal(signal.SIGSTOP)
    waiters = [race.start("now", "1.5") for _ in range(4)]
    paths = {child.communicate(timeout=60)[0].split()[-1] for child in waiters}
    assert len(race.built()) == 1
    assert paths == {str(race.store().lookup(DIGEST, CONVERTER).path)}


def test_many_processes_race_for_one_lock(race):
    """Of a crowd that starts at once one builds; no temporary file is left, also of the lock."""
    crowd = [race.start("now") for _ in range(8)]
    for child in crowd:
        assert child.wait(timeout=60) == 0
    assert len(race.built()) == 1
    assert race.temporaries() == []
    assert [path.name for path in (race.root / "locks").iterdir() if path.name[0] == "."] == []


def test_a_lock_file_stays(race):
    """A lock file is never unlinked while it is locked: two inodes would be two locks."""
    race.here()
    locks = list((race.root / "locks").iterdir())
    if race.lock == "link":
        assert locks == []
        return
    before = locks[0].stat().st_ino
    race.store().lookup(DIGEST, CONVERTER).image.unlink()
    race.here()
    assert locks[0].stat().st_ino == before


def test_a_lock_that_another_took_meanwhile_is_put_back(tmp_path):
    """Two judge one holder dead; the slower one does not take the faster one's lock away."""
    here = current_owner("4711")
    first = entry_lock("link", tmp_path / "x", here)
    assert first.try_acquire()
    judged = read_state(first.path)
    first.release()
    faster = entry_lock("link", tmp_path / "x", replace(here, job="4712"))
    assert faster.try_acquire()
    slower = entry_lock("link", tmp_path / "x", replace(here, job="4713"))
    slower.pass_over(judged)
    assert not slower.try_acquire()
    assert read_state(first.path).owner.job == "4712"
    assert [path.name for path in tmp_path.iterdir()] == ["x.link"]


def test_a_lock_without_a_record_is_given_back(tmp_path):
    """On a full disk the file is there, and nothing can be written into it."""
    lock = entry_lock("link", tmp_path / "x", current_owner())
    assert lock.try_acquire()
    os.truncate(lock.path, 0)
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_taken_for_dead_is_not_given_back_twice(tmp_path):
    """A holder that comes back after another one took over leaves that one's lock alone."""
    slow = entry_lock("link", tmp_path / "x", current_owner("1"))
    assert slow.try_acquire()
    other = entry_lock("link", tmp_path / "x", current_owner("2"))
    other.pass_over(read_state(slow.path))
    assert other.try_acquire()
    slow.release()
    assert read_state(other.path).owner.job == "2"


def test_without_locks_the_first_rename_decides(unlocked):
    """All build at once, all get the one entry that is there, and nothing is left behind."""
    first, second = unlocked.start("hold"), unlocked.start("hold")
    for child in (first, second):
        hear(child, "building")
    paths = {child.communicate("\n", timeout=60)[0].split()[-1] for child in (first, second)}
    assert sorted(unlocked.built()) == sorted([str(first.pid), str(second.pid)])
    assert paths == {str(unlocked.store().lookup(DIGEST, CONVERTER).path)}
    assert unlocked.temporaries() == []
    assert list((unlocked.root / "locks").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a pid namespace")
def test_a_builder_killed_in_another_pid_namespace_is_taken_over(race):
    """Its end cannot be seen: the kernel gives its lock back, or its record stands still."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    victim = race.start("hold", before=command)
    hear(victim, "building")
    waiter = race.start("now", "1.5")
    hear(waiter, "waiting")
    victim.kill()
    assert waiter.communicate(timeout=60)[0].split()[-1].endswith(f".{CONVERTER}")
    assert race.built() == [str(waiter.pid)]
