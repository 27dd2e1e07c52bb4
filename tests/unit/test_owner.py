"""Who builds: telling a live builder from a dead one, by facts of a recorded /proc."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpcimg.progress import Progress
from hpcimg.store.lock import BuildState, Patience, _format, _parse, pause_after
from hpcimg.store.owner import Owner, current_owner, owner_of_fields, owner_of_token

HERE = Owner("bdw1", "6f5c2f0e-3f2c-4f8a-9d5c-0123456789ab", 4026531836, 100, 5000, "4711", 1.5)
STAT = "{pid} (a ) (b) {state} 1 1 1 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 {start} 1000 1"


@pytest.fixture
def proc(tmp_path):
    """Give a /proc with a process of a nasty name, pid 7, started at tick 5000, and a zombie."""
    for pid, state in ((7, "S"), (8, "Z")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(STAT.format(pid=pid, state=state, start=5000))
    return tmp_path


@pytest.mark.parametrize(
    ("fields", "is_gone"),
    [
        ({"pid": 7}, False),
        ({"pid": 7, "start_time": 4999}, True),
        ({"pid": 8}, True),
        ({"pid": 9}, True),
        ({"pid": 7, "boot_id": "0" * 8}, True),
        ({"pid": 9, "host": "skx1"}, False),
        ({"pid": 9, "pid_namespace": 1}, False),
    ],
    ids=["alive", "pid reused", "zombie", "ended", "rebooted", "other host", "other namespace"],
)
def test_a_builder_is_gone_only_when_that_is_sure(proc, fields, is_gone):
    """What another host or namespace runs cannot be seen, so it counts as alive."""
    assert replace(HERE, **fields).is_gone(HERE, proc) is is_gone


def test_what_proc_does_not_tell_is_alive(proc):
    """A failure to read is no proof of death: the sweep would take a live builder's files."""
    (proc / "9" / "stat").mkdir(parents=True)
    assert not replace(HERE, pid=9).is_gone(HERE, proc)


@pytest.mark.parametrize("host", ["bdw1", "node.cluster.example", "a/../b", "x" * 60])
def test_a_token_names_its_owner(host):
    """A workspace's name is enough to know its builder, and is one path component."""
    owner = replace(HERE, host=host)
    token = owner.token("0badcafe")
    assert "/" not in token
    found = owner_of_token(token)
    assert found is not None
    assert (found.boot_id, found.pid_namespace, found.pid, found.start_time) == (
        owner.boot_id,
        owner.pid_namespace,
        owner.pid,
        owner.start_time,
    )
    assert replace(found, boot_id="x").is_gone(owner)


@pytest.mark.parametrize("name", ["", "README", "a.b.c.d.e.f", ".nfs0000", "bdw1.x.1.2.3.zz"])
def test_other_names_have_no_owner(name):
    """The sweep must not touch what hpcimg did not make."""
    assert owner_of_token(name) is None


def test_this_process_is_alive():
    """What a process says of itself holds when it is read back from /proc."""
    here = current_owner("1")
    assert not here.is_gone(here)
    assert owner_of_fields(here.to_fields()) == here


def test_a_record_is_read_back():
    """A lock file's record has a fixed length and gives owner, heartbeat and progress."""
    state = BuildState(HERE, 12, Progress("convert", 5, 10))
    raw = _format(state)
    assert len(raw) == 2048
    assert _parse(raw) == state


@pytest.mark.parametrize("raw", [b"", b"{}", b"[1]", b'{"host": "x"}', b"\0" * 2048, b"\xff{"])
def test_a_record_that_is_none_is_passed_over(raw):
    """An empty, torn or foreign lock file names no builder and breaks no waiter."""
    assert _parse(raw) is None


def test_a_waiter_is_told_who_builds(tmp_path):
    """The report while waiting names host, process, job, start and phase."""
    lock = tmp_path / "x.lock"
    lock.write_bytes(_format(BuildState(HERE, 1, Progress("convert", 5, 10))))
    patience = Patience(timeout=60, stale=60)
    assert not patience.is_over(lock)
    told = patience.progress()
    assert (told.phase, told.done, told.total) == ("wait", 5, 10)
    assert told.note.startswith("bdw1 (pid 100, job 4711) builds it since ")
    assert told.note.endswith(": convert")


@pytest.mark.parametrize(
    ("waited", "pause"), [(0.0, 0.2), (1.0, 0.2), (8.0, 0.8), (20.0, 2.0), (3600.0, 2.0)]
)
def test_who_waits_looks_less_often(waited, pause):
    """From five times a second to once in two, a quarter less or more by chance."""
    assert pause_after(waited, 0.5) == pytest.approx(pause)
    assert pause_after(waited, 0.0) == pytest.approx(0.75 * pause)
    assert pause_after(waited, 1.0) == pytest.approx(1.25 * pause)
