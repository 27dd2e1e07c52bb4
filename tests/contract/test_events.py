"""The counting of requests: appended by many, bounded in size, never a launch's fault."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpcimg.store.events import FILE_BYTES, STATS, note_event, read_events
from hpcimg.store.store import Store
from hpcimg.tally import Count, Event

EVENT = Event("hit", "r/a:1", "sha256:x", job="1", time=7)
HOST = os.uname().nodename
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path):
    """Give an empty store of this user's."""
    return Store(tmp_path / "store", os.geteuid())


def test_an_event_is_counted(store):
    """Readers may read it, whatever the umask."""
    old = os.umask(0o077)
    try:
        note_event(store, EVENT)
    finally:
        os.umask(old)
    assert read_events(store).by_name() == {"r/a:1": Count(hit=1, last=7)}
    assert (store.root / STATS / f"{HOST}.jsonl").stat().st_mode & 0o777 == 0o644


def test_a_store_without_events_has_none(store):
    """Nothing has to be made before."""
    assert read_events(store).images == {}


def test_lines_of_launches_at_once_do_not_mix(store):
    """Eight processes write 200 lines each through several sums; not one is lost or broken."""
    program = (
        "import os, sys; from pathlib import Path; from hpcimg.store.store import Store; "
        "from hpcimg.store.events import note_event; from hpcimg.tally import Event\n"
        "for at in range(200): note_event(Store(Path(sys.argv[1]), os.geteuid()), "
        "Event('hit', 'r/' + 'a' * 200, 'sha256:x', job=str(at)))"
    )
    store.prepare()
    argv = [sys.executable, "-c", program, str(store.root)]
    children = [subprocess.Popen(argv, cwd=REPOSITORY) for _ in range(8)]
    assert [child.wait(timeout=60) for child in children] == [0] * 8
    counted = read_events(store).of_digest("sha256:x").hit
    folder = store.root / STATS
    assert (folder / f"{HOST}.json").exists()
    # A line written to a file that is being summed up may come too late, never twice.
    assert 1600 - 8 <= counted <= 1600


def test_a_host_s_files_stay_small(store):
    """What is summed up takes the room of its sums, and the count goes on."""
    for _ in range(3 * FILE_BYTES // 100):
        note_event(store, EVENT)
    assert read_events(store).by_name()["r/a:1"].hit == 3 * FILE_BYTES // 100
    assert sum(path.stat().st_size for path in (store.root / STATS).iterdir()) < 2 * FILE_BYTES
    names = {path.name for path in (store.root / STATS).iterdir()}
    assert names == {f"{HOST}.jsonl", f"{HOST}.json", f"{HOST}.lock"}


def test_who_dies_while_summing_up_loses_and_doubles_nothing(store):
    """A full file counts until the sums say that it is in them; the next one goes on from there."""
    folder = store.root / STATS
    note_event(store, EVENT)
    full = folder / f"{HOST}.full-1"
    (folder / f"{HOST}.jsonl").rename(full)
    line = full.read_bytes()
    note_event(store, EVENT)
    assert read_events(store).by_name()["r/a:1"].hit == 2
    # One more died after it wrote the sums and before it removed what is in them.
    (folder / f"{HOST}.jsonl").write_bytes(line * (FILE_BYTES // len(line) + 1))
    note_event(store, EVENT)
    count = read_events(store).by_name()["r/a:1"].hit
    full.write_bytes(line)
    assert read_events(store).by_name()["r/a:1"].hit == count


def test_the_files_are_listed_once(store, monkeypatch):
    """A cluster has thousands of hosts: a listing for each would take minutes."""
    note_event(store, EVENT)
    lines = (store.root / STATS / f"{HOST}.jsonl").read_bytes()
    for at in range(20):
        (store.root / STATS / f"n{at}.jsonl").write_bytes(lines)
    listed, list_it = [], Path.iterdir

    def noted(path):
        listed.append(path)
        return list_it(path)

    monkeypatch.setattr(Path, "iterdir", noted)
    assert read_events(store).by_name()["r/a:1"].hit == 21
    assert listed == [store.root / STATS]


def test_a_broken_line_costs_only_itself(store, caplog):
    """A node that died while it wrote."""
    note_event(store, EVENT)
    path = store.root / STATS / f"{HOST}.jsonl"
    path.write_bytes(b'{"what": "hi\n\xff\n[]\n' + path.read_bytes())
    (store.root / STATS / f"{HOST}.json").write_text("{}}")
    assert read_events(store).by_name()["r/a:1"].hit == 1
    assert f'not using "{store.root / STATS / HOST}.json"' in caplog.text


def test_files_that_others_could_write_do_not_count(store, caplog):
    """Nobody makes up figures."""
    note_event(store, EVENT)
    (store.root / STATS / f"{HOST}.jsonl").chmod(0o666)
    assert read_events(store).images == {}
    assert "may be written by others" in caplog.text


def test_a_link_is_not_followed(store, tmp_path):
    """Nothing outside of the store is appended to."""
    note_event(store, EVENT)
    path, elsewhere = store.root / STATS / f"{HOST}.jsonl", tmp_path / "elsewhere"
    path.unlink()
    elsewhere.touch()
    path.symlink_to(elsewhere)
    note_event(store, EVENT)
    assert elsewhere.read_bytes() == b""


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_count_that_cannot_be_kept_is_no_error(store, what):
    """A launch does not fail for it."""
    store.prepare()
    if what == "file":
        (store.root / STATS).write_text("in the way")
    else:
        (store.root / STATS).mkdir()
        (store.root / STATS / f"{HOST}.jsonl").mkdir()
    note_event(store, EVENT)


def test_another_account_counts_nothing(tmp_path):
    """A user's own command leaves no trace in the site's store."""
    store = Store(tmp_path / "store", os.geteuid() + 1)
    note_event(store, EVENT)
    assert not store.root.exists()
