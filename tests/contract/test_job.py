"""What is kept of a job's steps, and shown of it, whatever its user has put into it."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
from test_cli import call, site  # noqa: F401 - a fixture
from three_nodes import BDW1, KEY

from hpcimg.errors import StoreError, UsageError
from hpcimg.settings import read_settings
from hpcimg.store.steps import StepFile, keep_node, keep_start, parse_starts, read_nodes
from hpcimg.store.store import site_store
from hpcimg.workflow.get import Ready
from hpcimg.workflow.job import accounting_line, record_node, runs_of

DIGEST = "sha256:" + "1" * 64
TOLD = "cluster=folder\nstarted=100\nleader=7\nrestarts=0\ncount=2\nnodes=bdw1,skx1\n"


def start(step, scope="site", **facts):
    """The plugin's lines of one start."""
    said = {"image": "/store/image.sif", "reference": "r:5/tool:1", "index": DIGEST, **facts}
    lines = [f"step={step}", "at=100", "name=tool", f"scope={scope}", "by=get", "wait=5"]
    return "\n".join([*lines, *(f"{key}={value}" for key, value in said.items())]) + "\n\n\n"


@pytest.fixture
def store(site):  # noqa: F811
    """The site's store, made."""
    found = site_store(read_settings(os.environ).store)
    found.prepare()
    return found


def record(text, node="bdw1"):
    """Record a node as the epilog does."""
    text = f"{TOLD}\n{text}"
    record_node(text, "7", "1001", node, read_settings(os.environ))


def test_an_ended_node_replaces_what_was_kept_meanwhile(store):
    """Of one node there is one record, and another node's is left alone."""
    for node in ("bdw1", "skx1"):
        keep_start(store, KEY, StepFile("7", node, "0"), {"step": "0"})
    record(start("0") + start("1"))
    ended, running = read_nodes(store, KEY)
    assert [one["step"] for one in ended["starts"]] == ["0", "1"]
    assert (running["node"], "has_ended" in running) == ("skx1", False)


def test_the_names_of_a_users_own_images_stay_theirs(store):
    """The site's record is for all to read: it has the digests alone."""
    record(start("0", "own", digest=DIGEST, label="secret", reason="secret"))
    ((ran,),) = [one.ran for one in runs_of("7", read_settings(os.environ))]
    assert (ran.index, ran.digest, ran.scope) == (DIGEST, DIGEST, "own")
    assert (ran.reference, ran.image, ran.label, ran.reason) == ("", "", "", "")
    for path in store.root.glob("jobs/*/*/steps/*"):
        assert "secret" not in path.read_text()
        assert "tool" not in path.read_text()


def test_the_last_start_is_shown(store):
    """Earlier ones, of a requeued job or an older one of its number, when they are asked for."""
    settings = read_settings(os.environ)
    for since in ("300", "200"):
        keep_start(store, replace(KEY, since=since), StepFile("7", "bdw1", "0"), {"step": "0"})
    (last,) = runs_of("7", settings)
    assert last.started == "1970-01-01T00:05:00Z"
    both = runs_of("7", settings, every=True)
    assert [one.started for one in both] == ["1970-01-01T00:03:20Z", last.started]


def test_words_of_users_are_shown_harmless(store, capsys):
    """A terminal gets no control character, JSON has them escaped."""
    record(start("0", reason="\x1b[2J\x07bad", label="x"))
    capsys.readouterr()
    code, out, _ = call(capsys, "job", "7")
    assert code == 0
    assert "  because   x: ?[2J?bad" in out.splitlines()
    assert "\x1b" not in out
    assert json.loads(call(capsys, "job", "7", "--json")[1])[0]["ran"][0]["reason"].endswith("bad")


def test_a_list_that_is_no_list(store):
    """Whatever stands in it: no key twice, no key that is none, no end."""
    text = "step=0\nscope=own\nscope=site\n\n\n\nnonsense\n=x\nKEY=1\n\nstep=1"
    assert parse_starts(text) == ({"step": "0", "scope": "own"}, {"step": "1"})
    record("\0\ufffd" * 100)
    assert read_nodes(store, KEY)[0]["starts"] == []


@pytest.mark.parametrize("node", ["", "../x", "a/b", "-"])
def test_a_node_that_is_no_name(store, node):
    """It would become a path."""
    with pytest.raises(StoreError, match="no name for the record"):
        record(start("0"), node)


@pytest.mark.parametrize(
    ("accounting", "node", "listed", "line"),
    [
        ("comment", "bdw1", "bdw1,skx1", "Comment={0} on 2 nodes"),
        ("admin-comment", "bdw1", "bdw1", "AdminComment={0} on 1 node"),
        ("comment", "skx1", "bdw1,skx1", ""),
        ("comment", "bdw1", "", ""),
        ("none", "bdw1", "bdw1", ""),
    ],
)
def test_accounting_is_one_line_of_one_node(nodes, accounting, node, listed, line):
    """Of the first, where the site wants it."""
    nodes.resolve(BDW1, "per-node")
    settings = replace(read_settings(os.environ), accounting=accounting)
    resolved = nodes.answer.resolved
    said = f"hpcimg: {resolved.reference}@{resolved.digest[:19]}"
    ready = Ready(resolved, entry=None)
    assert accounting_line(ready, settings, node, listed) == line.format(said)


def test_only_the_account_writes(store, monkeypatch):
    """What another user wrote would not be believed."""
    monkeypatch.setattr("hpcimg.store.steps.os.geteuid", lambda: 4711)
    with pytest.raises(StoreError, match="written by its account alone"):
        keep_node(store, KEY, StepFile("7", "bdw1"), ())


def test_a_record_that_is_damaged(store):
    """It is passed over, and the others are shown."""
    record(start("0"))
    record(start("0"), "skx1")
    (path,) = store.root.glob("jobs/*/*/steps/7.bdw1.json")
    for text in ("{", "[]", '{"starts": [{"step": 1}]}', "[" * 100_000):
        path.write_text(text)
        assert [one["node"] for one in read_nodes(store, KEY)] == ["skx1"]


@pytest.mark.parametrize("job", ["", "x", "1_2", "-1", "../1", "1" * 11])
def test_no_number_of_a_job(site, job):  # noqa: F811
    """It would become a path."""
    with pytest.raises(UsageError, match="is no job's number"):
        runs_of(job, read_settings(os.environ))
