"""Prune on a real file system: what goes, what stays, and that nothing in use is ever lost."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest
from kept import CONVERTER, DAY, digest
from sif import sif_bytes

from hpcimg.store.lease import LeaseKey, read_leases, take_lease
from hpcimg.store.owner import current_owner
from hpcimg.store.prune import Bounds, choose, drop_ended, leases_of, put_back, survey
from hpcimg.store.sweep import find_left, remove_left
from hpcimg.store.workspace import remove_tree

HOUR = 3600.0
JOB = LeaseKey("folder", "4711", "1000")
SIZE = len(sif_bytes())
HERE = Path(__file__).parent


def test_what_was_not_used_for_long_goes(kept):
    """By the last use, not by the day it was made."""
    for number, days in ((1, 40), (2, 20), (3, 2)):
        kept.put(number, days)
    assert kept.chosen(age=30 * DAY) == {1: "not used for long"}


def test_above_the_high_mark_the_least_recently_used_go(kept):
    """Down to the low mark, and nothing below the high one."""
    for number, days in ((1, 3), (2, 5), (3, 4), (4, 2)):
        kept.put(number, days)
    assert kept.chosen(high=4 * SIZE, low=2 * SIZE) == {}
    why = "used least recently"
    assert kept.chosen(high=4 * SIZE - 1, low=2 * SIZE) == {2: why, 3: why}


def test_an_image_made_anew_by_another_converter_goes_first(kept):
    """A site that upgraded has each image twice: the old half is of no use."""
    old = kept.put(1, 2)
    record = old.path / "record.json"
    record.write_text(record.read_text().replace('"created": "20', '"created": "19'))
    kept.put(1, 2, "fake-2.0-1")
    kept.put(2, 9)
    found = choose(survey(kept.store), Bounds(high=2 * SIZE, low=2 * SIZE), kept.now)
    assert [one.stored.entry.record.converter for one in found] == [CONVERTER]
    assert [one.why for one in found] == ["made anew by another converter"]


def test_what_was_used_today_stays_whatever_its_size(kept):
    """Users without a job hold no lease."""
    kept.put(1, 0.5)
    kept.put(2, 1.5)
    assert set(kept.chosen(age=HOUR, high=1, low=0, keep=DAY)) == {2}


def test_without_limits_nothing_goes(kept):
    """A site that said nothing loses nothing."""
    kept.put(1, 4000)
    assert kept.chosen() == {}


def test_what_a_job_holds_stays(kept):
    """However old: it is neither chosen nor removed."""
    kept.put(1, 400)
    take_lease(kept.store, JOB, kept.key(1))
    lease = kept.store.root / "leases/sha256" / kept.key(1).name / JOB.name
    os.utime(lease, (1, 1))
    assert kept.chosen(age=DAY, high=1) == {}
    assert not kept.remove(1)
    assert kept.store.lookup(digest(1), CONVERTER) is not None


def test_leases_that_cannot_be_believed_keep_the_entry(kept, caplog):
    """Who could plant leases could also take them away."""
    kept.put(1, 400)
    take_lease(kept.store, JOB, kept.key(1))
    (kept.store.root / "leases/sha256").chmod(0o777)
    with caplog.at_level(logging.WARNING):
        assert kept.chosen(age=DAY) == {}
        assert not kept.remove(1)
    assert "its leases cannot be read" in caplog.text


def test_a_removed_entry_leaves_nothing(kept):
    """Neither a temporary file nor a directory of leases."""
    kept.put(1)
    take_lease(kept.store, JOB, kept.key(1))
    assert kept.remove(1, is_forced=True)
    assert kept.store.entries() == ()
    assert kept.left() == []
    assert not kept.remove(1)


def test_an_image_that_never_came_leaves_no_directory(kept):
    """Its job took a lease and could not build it: users could fill the disk with such."""
    kept.put(1)
    for number in (1, 2):
        take_lease(kept.store, JOB, kept.key(number))
    assert len(drop_ended(kept.store, leases_of(kept.store))) == 2
    found = kept.store.root.glob("leases/*/*")
    assert [path.name for path in found] == [kept.key(1).name]


def test_a_lease_taken_in_the_window_brings_the_entry_back(kept):
    """A job that found the entry before it was moved away has its lease by then, and is seen."""
    entry = kept.put(1)

    def ask(away):
        assert not entry.path.exists()
        assert away.exists()
        take_lease(kept.store, JOB, kept.key(1))

    assert not kept.remove(1, when_away=ask)
    assert kept.store.lookup(digest(1), CONVERTER) == entry
    assert kept.left() == []


def test_what_was_built_in_the_window_stays(kept):
    """A job that missed the entry built it: the one that was moved away is of no more use."""
    kept.put(1)

    def ask(_away):
        kept.put(1)
        take_lease(kept.store, JOB, kept.key(1))

    assert not kept.remove(1, when_away=ask)
    assert kept.store.lookup(digest(1), CONVERTER) is not None
    assert kept.left() == []


def test_an_error_in_the_window_brings_the_entry_back(kept):
    """Whatever stops a prune there, Ctrl-C too."""
    entry = kept.put(1)

    def stop(_away):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept.remove(1, when_away=stop)
    assert kept.store.lookup(digest(1), CONVERTER) == entry


def test_jobs_that_ask_while_prune_removes_always_have_their_image(kept):
    """Asking and pruning race: whoever holds a lease finds an entry in the end."""
    kept.put(1)
    asked = 0

    def ask(_away):
        nonlocal asked
        asked += 1
        key = LeaseKey("folder", str(asked), "1000")
        if asked % 2:
            take_lease(kept.store, key, kept.key(1))

    for _ in range(6):
        is_gone = kept.remove(1, when_away=ask)
        assert is_gone != bool(read_leases(kept.store, kept.key(1)))
        if not is_gone:
            assert kept.store.lookup(digest(1), CONVERTER) is not None
            for lease in read_leases(kept.store, kept.key(1)):
                path = kept.store.root / "leases/sha256" / kept.key(1).name / lease.key.name
                path.unlink()
        else:
            kept.put(1)
    assert asked == 6


def test_two_prunes_at_once_remove_an_entry_once(kept):
    """The slower one finds nothing, and that is no error."""
    kept.put(1)
    second = []

    assert kept.remove(1, when_away=lambda _: second.append(kept.remove(1)))
    assert second == [False]


def test_bringing_back_what_cannot_be_brought_back_is_said(kept, caplog):
    """It stays among the temporary files for the next sweep."""
    kept.put(1)
    away = kept.store.root / "tmp" / "away"
    away.mkdir()
    with caplog.at_level(logging.WARNING):
        put_back(away, kept.store.root / "missing" / "entry")
    assert "could not bring" in caplog.text
    assert away.exists()


def make(kept, folder: str, name: str, days: float = 0.0) -> Path:
    """Make a directory with a file in one of the store's folders."""
    kept.store.prepare()
    path = kept.store.root / folder / name
    path.mkdir()
    (path / "image.sif").write_bytes(b"x")
    return path


def test_what_dead_processes_left_is_swept(kept):
    """At once on their node; what another node's builder left, or damage, when it is old."""
    here = current_owner()
    gone = here.token("00").replace(f".{here.start_time}.", ".1.")
    dead = make(kept, "tmp", gone)
    living = make(kept, "tmp", here.token("01"))
    foreign = make(kept, "tmp", here.token("02").replace(here.host, "elsewhere"))
    damaged = make(kept, "quarantine", "x.y")
    lock = kept.store.root / "locks" / f".{gone}"
    lock.write_bytes(b"")
    held, asked = (kept.store.root / "locks" / name for name in ("x.lock", "ask-3f.link"))
    held.write_bytes(b"")
    asked.write_bytes(b"")

    def left(days: float) -> set[Path]:
        return {one.path for one in find_left(kept.store, here, time.time() + days * DAY)}

    assert left(0) == {dead, lock}
    assert left(3) == {dead, lock, foreign}
    assert left(31) == {dead, lock, foreign, damaged}
    removed = remove_left(kept.store, find_left(kept.store, here, time.time()))
    assert [one.path for one in removed] == [dead, lock]
    assert not dead.exists()
    assert not lock.exists()
    assert held.exists()
    assert asked.exists()
    for path in (living, foreign):
        remove_tree(path)


def test_what_nobody_can_use_does_not_stay_for_ever(kept):
    """A damaged entry that nobody asks for again goes into quarantine, and is kept while leased."""
    entry = kept.put(1)
    os.truncate(entry.image, 10)
    here = current_owner()
    assert find_left(kept.store, here, time.time()) == ()
    late = time.time() + 3 * DAY
    (left,) = find_left(kept.store, here, late)
    assert left.why.startswith("damaged: its image has 10 bytes")
    take_lease(kept.store, JOB, kept.key(1))
    assert find_left(kept.store, here, late) == ()
    remove_left(kept.store, (left,))
    assert not entry.path.exists()
    assert len(list((kept.store.root / "quarantine").iterdir())) == 1


def test_an_entry_that_was_built_anew_is_not_set_aside(kept):
    """Between prune's look and its deed a job came, and had the damaged entry replaced."""
    entry = kept.put(1)
    os.truncate(entry.image, 10)
    left = find_left(kept.store, current_owner(), time.time() + 3 * DAY)
    kept.ensure(1, JOB)
    assert remove_left(kept.store, left) == ()
    assert kept.store.lookup(digest(1), CONVERTER) is not None


def test_the_second_look_is_no_cached_one(kept):
    """Prune changes the directory of leases itself, so that an NFS client lists it anew."""
    kept.put(1)
    take_lease(kept.store, JOB, kept.key(1))
    folder = kept.store.root / "leases/sha256" / kept.key(1).name
    (folder / JOB.name).unlink()

    def ask(_away):
        take_lease(kept.store, JOB, kept.key(1))
        os.utime(folder, (1, 1))

    assert not kept.remove(1, when_away=ask)
    assert folder.stat().st_mtime > 1
