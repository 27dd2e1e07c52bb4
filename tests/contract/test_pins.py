"""What a tag stands for in one job: asked once, whatever becomes of it while the job is there."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from dataclasses import replace

import pytest
from registry import digest_of
from test_cli import _put_index, call, site  # noqa: F401 - a fixture
from three_nodes import BDW1, KEY, SKX1

from hpcimg.errors import NotFoundError, RegistryError, UsageError
from hpcimg.oci.reference import Reference
from hpcimg.settings import read_settings
from hpcimg.store.agreement import agree
from hpcimg.workflow.access import own_access, site_access
from hpcimg.workflow.match import Together, resolve_in_job
from hpcimg.workflow.pin import PinRequest, name_at_submit, read_pull
from hpcimg.workflow.resolve import read_name

LATER = replace(KEY, since="200")


@pytest.fixture
def asker(nodes):
    """`ask` resolves as one node of a job does, with everything of it as keywords."""
    settings = read_settings(os.environ)

    def ask(
        one=BDW1, name="tool", access=site_access, key=KEY, stale_age=1000.0, pin="", **request
    ):
        used = replace(settings, stale_age=stale_age)
        to = own_access(used, os.environ) if access is own_access else access(used)
        job = Together("per-node", (), PinRequest(key, pin, **request))
        return resolve_in_job(read_name(name, used), one, to, used, job)

    nodes.ask = ask
    return nodes


def index_of(asker, name="tool"):
    """What the tag stands for now, by the registry's own books."""
    return digest_of(asker.registry.documents[name]["latest"].raw)


def asked(asker, name="tool"):
    """How often the registry was asked for the tag."""
    return len([line for line in asker.registry.log() if f"/v2/{name}/manifests/latest" in line])


def test_a_tag_is_asked_for_once(asker):
    """Other nodes and later steps ask no registry at all."""
    asker.ask()
    asker.ask(SKX1)
    asker.registry.seen.clear()
    for one in (BDW1, SKX1):
        assert asker.ask(one).resolved.digest == index_of(asker)
    assert asker.registry.log() == []


def test_a_moved_tag_splits_no_job(asker):
    """Each node goes on choosing for itself, of the index that the first one found."""
    before = asker.ask().resolved.digest
    _put_index(asker.registry, "tool", ("cpu:haswell",))
    found = asker.ask(SKX1).resolved
    assert found.digest == before
    assert found.require().descriptor.digest == asker.digests[2]
    assert asker.ask(key=replace(KEY, job="8")).resolved.digest == index_of(asker) != before


def test_who_looked_just_too_early_asks_nothing(asker, monkeypatch):
    """A node that found no pin waits for the one that asks, and takes what that one has kept."""
    access = site_access(read_settings(os.environ))
    name = read_name("tool", read_settings(os.environ))
    held = ExitStack()
    held.enter_context(access.source.alone_in_job(str(KEY)))

    def sleep(_):
        agree(access.store, KEY, {"tag": str(name)}, {"index": asker.digests[1], "by": "another"})
        held.close()

    monkeypatch.setattr("hpcimg.store.documents.time.sleep", sleep)
    asker.registry.seen.clear()
    asker.ask()
    assert asked(asker) == 0


def test_a_job_that_starts_again_has_the_same(asker):
    """The newest of its earlier starts counts; a new job of an old number has nothing of it."""
    before = asker.ask().resolved.digest
    _put_index(asker.registry, "tool", ("cpu:haswell",))
    assert asker.ask(key=LATER, is_again=True).resolved.digest == before
    other = replace(LATER, user="1002")
    assert asker.ask(key=other, is_again=True).resolved.digest == index_of(asker)
    assert asker.ask(key=replace(KEY, since="150")).resolved.digest == index_of(asker)
    newest = asker.ask(key=replace(KEY, since="300"), is_again=True).resolved.digest
    assert newest == before, "the second start kept it as well"


def test_without_a_name_nothing_is_kept(asker):
    """Each asks for itself, as outside of a job."""
    asker.ask(key=None)
    asker.ask(key=None)
    assert asked(asker) == 2
    assert not (asker.store.root / "jobs").exists()


def test_a_store_that_cannot_be_written(asker, caplog):
    """The job goes on, and the log says why its nodes may differ."""
    asker.store.prepare()
    (asker.store.root / "jobs").write_text("")
    assert asker.ask().resolved.digest == index_of(asker)
    assert any("the tag is not pinned for the job: " in text for text in caplog.messages)


def test_what_was_pinned_at_submit_counts(asker):
    """It names the tag and its digest; a step of another image reads that one's tag."""
    name = name_at_submit("tool", read_settings(os.environ), os.environ)
    before = index_of(asker)
    assert name == f"{asker.registry.name}/tool:latest@{before}"
    _put_index(asker.registry, "tool", ("cpu:haswell",))
    asker.registry.seen.clear()
    assert asker.ask(name=f"{asker.registry.name}/tool:latest", pin=name).resolved.digest == before
    assert asked(asker) == 0
    assert asker.ask(SKX1).resolved.digest == before, "steps without it have the job's"
    wide = asker.ask(SKX1, name="wide", pin=name).resolved
    assert wide.digest == index_of(asker, "wide")


@pytest.mark.parametrize("pin", ["tool", "tool@sha256:1", "@", "../x@sha256:" + "0" * 64])
def test_a_forged_pin_is_none(asker, pin):
    """It comes by the user's environment: what is no name with a digest pins nothing."""
    assert asker.ask(pin=pin).resolved.digest == index_of(asker)


def test_nothing_is_pinned_at_submit(asker):
    """A digest needs none, and `pull: missing` leaves it to the start."""
    settings = read_settings(os.environ)
    assert name_at_submit(f"tool@{asker.digests[0]}", settings, os.environ) == ""
    assert name_at_submit("tool", replace(settings, pull="missing"), os.environ) == ""
    assert asker.registry.log() == []


def test_a_user_follows_the_sites_pin(asker, monkeypatch, tmp_path):
    """And keeps their own in their own store, where the site's account may not read the image."""
    before = asker.ask().resolved.digest
    _put_index(asker.registry, "tool", ("cpu:haswell",))
    own = tmp_path / "own"
    monkeypatch.setattr("hpcimg.workflow.access.home_directory", lambda: own)
    assert asker.ask(access=own_access).resolved.digest == before
    assert not (own / ".local").exists()
    new = asker.ask(access=own_access, key=LATER).resolved.digest
    _put_index(asker.registry, "tool", ("cpu:zen3",))
    assert asker.ask(access=own_access, key=LATER).resolved.digest == new
    assert list(own.glob(".local/share/hpcimg/store/jobs/folder/7-1001-200/*.json"))


def test_a_registry_that_is_down(asker):
    """The last known index runs, and the one who found out tells the user."""
    before = asker.ask().resolved.digest
    asker.registry.fail("/manifests/latest", status=503, times=99)
    other = replace(KEY, job="8")
    first, second = asker.ask(key=other), asker.ask(SKX1, key=other)
    assert (first.resolved.digest, second.resolved.digest) == (before, before)
    as_it_was = f"; running {asker.registry.name}/tool:latest as it was "
    assert re.fullmatch(f".*{re.escape(as_it_was)}[0-9]+ seconds ago", first.notice)
    assert "503" in first.notice
    assert second.notice == ""


@pytest.mark.parametrize("case", [{"pull": "always"}, {"stale_age": 0.0}, {"name": "wide"}])
def test_a_registry_that_is_down_is_an_error(asker, case):
    """Where the user or the site wants nothing stale, it is too old, or nothing is known."""
    asker.ask()
    asker.registry.fail("/manifests/latest", status=503, times=99)
    with pytest.raises(RegistryError, match="503"):
        asker.ask(key=replace(KEY, job="8"), **case)


def test_what_the_registry_refuses_is_an_error(asker):
    """It is up, and says that the request is wrong: the last known index is no answer to that."""
    asker.ask()
    asker.registry.fail("/manifests/latest", status=400, times=99)
    with pytest.raises(RegistryError, match="400"):
        asker.ask(key=replace(KEY, job="8"))


def test_a_tag_that_is_gone_is_an_error(asker):
    """The registry has answered: nothing stale stands in for that."""
    asker.ask()
    del asker.registry.documents["tool"]["latest"]
    with pytest.raises(NotFoundError):
        asker.ask(key=replace(KEY, job="8"))


def test_missing_asks_for_nothing_that_is_there(asker, monkeypatch):
    """A tag whose image is in the store is what it was; where it is not, the registry is asked."""
    before = asker.ask().resolved.digest
    _put_index(asker.registry, "tool", ("cpu:haswell",))
    asker.registry.seen.clear()
    in_store = {asker.digests[1]}
    monkeypatch.setattr("hpcimg.workflow.match.has_image", lambda digest, *_: digest in in_store)
    other = replace(KEY, job="8")
    assert asker.ask(key=other, pull="missing").resolved.digest == before
    assert asked(asker) == 0
    in_store.clear()
    other = replace(KEY, job="9")
    assert asker.ask(key=other, pull="missing").resolved.digest == index_of(asker)


def test_no_way_to_pull():
    """The word comes from a command's option."""
    assert read_pull("") == ""
    with pytest.raises(UsageError, match="'sometimes' is no way to pull"):
        read_pull("sometimes")


def test_a_name_with_tag_and_digest(asker):
    """The digest decides, nothing is kept, and the tag is shown."""
    answer = asker.ask(name=f"tool:1.0@{index_of(asker)}")
    assert isinstance(answer.resolved.reference, Reference)
    assert str(answer.resolved.reference).startswith(f"{asker.registry.name}/tool:1.0@sha256:")
    assert not (asker.store.root / "jobs").exists()


def test_a_user_s_run_warns_once(site, capsys, caplog):  # noqa: F811
    """Outside of the plugin the warning is for the user alone, and not said twice."""
    assert call(capsys, "run", "--dry-run", "tool", "--", "true")[0] == 0
    site.registry.fail("/manifests/latest", status=503, times=99)
    caplog.clear()
    assert call(capsys, "run", "--dry-run", "tool", "--", "true")[0] == 0
    said = [one.getMessage() for one in caplog.records if "as it was" in one.getMessage()]
    assert len(said) == 1
