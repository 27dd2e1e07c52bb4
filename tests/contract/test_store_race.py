"""Many processes, one entry: real processes race, wait, die and take over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from builder import CONVERTER
from sif import sif_bytes

from hpcimg.errors import LockTimeoutError
from hpcimg.store.store import Store
from hpcimg.store.workspace import BuiltImage

DIGEST = "sha256:" + "ab" * 32
HERE = Path(__file__).parent


class Race:
    """The processes of one test and the store they share."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "store"
        self.built_file = folder / "built"
        self.children: list[subprocess.Popen[str]] = []

    def start(self, mode: str, *options: str) -> subprocess.Popen[str]:
        """Start one more process that asks; see builder.py for the modes."""
        child = subprocess.Popen(
            [sys.executable, str(HERE / "builder.py"), str(self.root), DIGEST, mode, *options],
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
        return Store(self.root, os.geteuid(), **options)

    def here(self, **options):
        """Ask for the entry in this process, too."""

        def build(workspace):
            workspace.image.write_bytes(sif_bytes())
            return BuiltImage(("test",), (), ())

        return self.store(**options).ensure(DIGEST, CONVERTER, build)


@pytest.fixture
def race(tmp_path):
    """Give a race, and end its processes afterwards."""
    race = Race(tmp_path)
    yield race
    for child in race.children:
        child.kill()
        child.communicate()


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


def test_a_lock_file_stays(race):
    """A lock file is never unlinked: two inodes under one name would be two locks."""
    race.here()
    lock = next((race.root / "locks").iterdir())
    before = lock.stat().st_ino
    race.store().lookup(DIGEST, CONVERTER).image.unlink()
    race.here()
    assert lock.stat().st_ino == before
