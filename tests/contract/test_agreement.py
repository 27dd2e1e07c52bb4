"""What a job's nodes agree on: the first proposal holds for all, and for this job alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcimg.errors import StoreError, UsageError
from hpcimg.store.agreement import KEPT_DAYS, JobKey, agree, read_agreement
from hpcimg.store.store import Store

HERE = Path(__file__).parent
JOB = JobKey("folder", "7", "1001", "100")
SUBJECT = {"image": "tool", "nodes": ["bdw1", "skx1"]}
FOLDER = "jobs/folder/7-1001-100"


@pytest.fixture
def store(tmp_path):
    """Give a store that this process may write."""
    return Store(tmp_path / "store", os.geteuid())


def test_the_first_proposal_holds(store):
    """Whoever comes later gets it, whatever they propose."""
    assert read_agreement(store, JOB, SUBJECT) is None
    assert agree(store, JOB, SUBJECT, {"pick": "a"}) == {"pick": "a"}
    assert agree(store, JOB, SUBJECT, {"pick": "b"}) == {"pick": "a"}
    assert read_agreement(store, JOB, SUBJECT) == {"pick": "a"}
    (path,) = (store.root / FOLDER).iterdir()
    assert path.stat().st_mode & 0o777 == 0o644


def test_racing_processes_get_one_answer(store):
    """Eight nodes at once: each prints the same proposal, and no temporary file stays."""
    children = [
        subprocess.Popen(
            [sys.executable, str(HERE / "proposer.py"), str(store.root), f"p{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{HERE.parent.parent}"},
        )
        for number in range(8)
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    answers = {child.communicate()[0] for child in children}
    assert len(answers) == 1, answers
    assert answers.pop().strip() in {f"p{number}" for number in range(8)}
    assert len(list((store.root / FOLDER).iterdir())) == 1


@pytest.mark.parametrize(
    "other",
    [
        JobKey("folder", "7", "1001", "200"),
        JobKey("folder", "8", "1001", "100"),
        JobKey("folder", "7", "1002", "100"),
        JobKey("other", "7", "1001", "100"),
    ],
    ids=["later", "number", "user", "cluster"],
)
def test_another_job_agrees_anew(store, other):
    """Numbers come round again, and other users have jobs too."""
    agree(store, JOB, SUBJECT, {"pick": "a"})
    assert agree(store, other, SUBJECT, {"pick": "b"}) == {"pick": "b"}


def test_another_subject_is_another_question(store):
    """The same job with other nodes, as after a requeue."""
    agree(store, JOB, SUBJECT, {"pick": "a"})
    moved = {**SUBJECT, "nodes": ["bdw1", "zen1"]}
    assert agree(store, JOB, moved, {"pick": "b"}) == {"pick": "b"}


@pytest.mark.parametrize(
    "words",
    [
        ("../x", "7", "1", "1"),
        ("folder", "7/../8", "1", "1"),
        ("folder", "7", "", "1"),
        ("folder", "7", "1", "1\n2"),
        ("f" * 10000, "7", "1", "1"),
        (".", "7", "1", "1"),
    ],
)
def test_hostile_names_make_no_path(words):
    """A user can say them; the message stays short and on one line."""
    with pytest.raises(UsageError, match="is no part of a job's name") as caught:
        JobKey(*words)
    assert len(caught.value.message) < 200
    assert "\n" not in caught.value.message


GARBAGE = {
    "empty": (b"", "it is not JSON"),
    "cut": (b'{"version": 1, "subj', "it is not JSON"),
    "list": (b"[]", "it is not an object of version 1"),
    "version": (b'{"version": 2}', "it is not an object of version 1"),
    "subject": (b'{"version": 1, "subject": {"image": "x"}, "terms": {}}', "of another subject"),
    "terms": (
        b'{"version":1,"subject":{"image":"tool","nodes":["bdw1","skx1"]},"terms":[]}',
        "it has no terms",
    ),
}


@pytest.mark.parametrize("case", GARBAGE)
def test_garbage_is_refused(store, case):
    """Nobody takes an image from it; the file is named."""
    raw, reason = GARBAGE[case]
    agree(store, JOB, SUBJECT, {"pick": "a"})
    (path,) = (store.root / FOLDER).iterdir()
    path.write_bytes(raw)
    with pytest.raises(StoreError, match=reason) as caught:
        agree(store, JOB, SUBJECT, {"pick": "b"})
    assert str(path) in caught.value.message


def test_a_file_that_others_may_write_is_not_used(store):
    """Whoever may write it decides what the job runs; a link is not followed either."""
    agree(store, JOB, SUBJECT, {"pick": "a"})
    (path,) = (store.root / FOLDER).iterdir()
    path.chmod(0o666)
    with pytest.raises(StoreError, match="may be written by others"):
        read_agreement(store, JOB, SUBJECT)
    path.rename(store.root / "aside")
    path.symlink_to(store.root / "aside")
    with pytest.raises(StoreError, match="is a link"):
        read_agreement(store, JOB, SUBJECT)


def test_only_the_account_writes(store):
    """Another account's proposal is refused before anything is made."""
    other = Store(store.root, os.geteuid() + 1)
    with pytest.raises(StoreError, match="is written only by"):
        agree(other, JOB, SUBJECT, {"pick": "a"})
    assert not store.root.exists()


def test_old_agreements_are_swept_once_a_day(store):
    """Those of a month ago go when another one is made, and not twice a day."""
    agree(store, JOB, SUBJECT, {"pick": "a"})
    long_ago = time.time() - (KEPT_DAYS + 1) * 24 * 3600
    os.utime(store.root / FOLDER, (long_ago, long_ago))
    agree(store, JobKey("folder", "8", "1", "1"), SUBJECT, {"pick": "a"})
    assert (store.root / FOLDER).exists(), "swept twice in a day"
    os.utime(store.root / "jobs/.swept", (long_ago, long_ago))
    agree(store, JobKey("folder", "9", "1", "1"), SUBJECT, {"pick": "a"})
    assert sorted(path.name for path in (store.root / "jobs/folder").iterdir()) == [
        "8-1-1",
        "9-1-1",
    ]


def test_a_sweep_that_fails_fails_nothing(store, monkeypatch):
    """Another node may sweep at the same time: what was listed is gone when it is looked at."""
    agree(store, JOB, SUBJECT, {"pick": "a"})
    long_ago = time.time() - (KEPT_DAYS + 1) * 24 * 3600
    for number in "1", "2":
        (store.root / "jobs/folder" / number).mkdir()
        os.utime(store.root / "jobs/folder" / number, (long_ago, long_ago))
    os.utime(store.root / "jobs/.swept", (long_ago, long_ago))
    lstat = Path.lstat

    def vanishing(path):
        if path.name == "1":
            raise FileNotFoundError(2, "gone")
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", vanishing)
    assert agree(store, JobKey("folder", "8", "1", "1"), SUBJECT, {"pick": "b"}) == {"pick": "b"}
    assert not (store.root / "jobs/folder/2").exists()


def test_a_sweep_is_one_s_alone(store, monkeypatch):
    """The mark that another took meanwhile says that it sweeps."""
    agree(store, JOB, SUBJECT, {"pick": "a"})
    long_ago = time.time() - (KEPT_DAYS + 1) * 24 * 3600
    for path in (store.root / FOLDER, store.root / "jobs/.swept"):
        os.utime(path, (long_ago, long_ago))

    def taken(path, _):
        raise FileNotFoundError(2, "gone", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", taken)
        agree(store, JobKey("folder", "8", "1", "1"), SUBJECT, {"pick": "b"})
    assert (store.root / FOLDER).exists()


def test_a_sweep_ends_in_time(store, monkeypatch):
    """A launch waits for it: what is left goes another day."""
    agree(store, JOB, SUBJECT, {"pick": "a"})
    long_ago = time.time() - (KEPT_DAYS + 1) * 24 * 3600
    for path in (store.root / FOLDER, store.root / "jobs/.swept"):
        os.utime(path, (long_ago, long_ago))
    monkeypatch.setattr("hpcimg.store.agreement._SWEEP_SECONDS", -1.0)
    agree(store, JobKey("folder", "8", "1", "1"), SUBJECT, {"pick": "b"})
    assert (store.root / FOLDER).exists()
