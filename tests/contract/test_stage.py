"""A node's own copies of the site's images: whole, within their bounds, or the original is used."""

from __future__ import annotations

import getpass
import os

import pytest
from kept import CONVERTER, digest
from sif import sif_bytes

from hpcimg.errors import DigestMismatchError
from hpcimg.settings import Settings, StageSettings, StoreSettings
from hpcimg.store.lease import LeaseKey
from hpcimg.store.workspace import BuiltImage
from hpcimg.workflow import stage

SIZE = len(sif_bytes())


@pytest.fixture
def node(kept, tmp_path, monkeypatch):
    """A store, and a node whose jobs are the directories of `node.jobs`; `copy` has a copy made."""
    kept.jobs = tmp_path / "tickets"
    kept.jobs.mkdir()
    monkeypatch.setattr(stage, "TICKETS", kept.jobs)
    kept.disk = tmp_path / "disk"

    def copy(number, job="", most=0):
        settings = Settings(
            store=StoreSettings(str(kept.store.root), getpass.getuser()),
            stage=StageSettings(str(kept.disk), most),
        )
        if job:
            (kept.jobs / job).mkdir(exist_ok=True)
        lease = LeaseKey("folder", job, "1000") if job else None
        return stage.staged(kept.ensure(number), settings, lease)

    kept.copy = copy
    return kept


def copies(node):
    """List the numbers of the images that the node has copies of."""
    found = node.disk.glob("entries/*/*/image.sif")
    return sorted(int(path.parent.name.partition(".")[0], 16) for path in found)


def test_the_copy_is_used_and_made_once(node):
    """The image comes from the node's disk, and its record is the site's."""
    original, copy = node.ensure(1), node.copy(1)
    assert copy.image.is_relative_to(node.disk)
    assert copy.image.read_bytes() == original.image.read_bytes()
    assert copy.record == original.record
    before = copy.image.stat()
    assert node.copy(1).image.stat() == before


def test_no_copy_without_the_setting(node):
    """A site that says nothing has nothing copied."""
    entry = node.ensure(1)
    settings = Settings(store=StoreSettings(str(node.store.root), getpass.getuser()))
    assert stage.staged(entry, settings) is entry


def test_a_copy_that_is_not_the_image_is_none(node):
    """What was changed in the store since it was built is neither copied nor used."""
    entry = node.ensure(1)
    raw = bytearray(entry.image.read_bytes())
    raw[-1] ^= 1
    entry.image.write_bytes(raw)
    with pytest.raises(DigestMismatchError, match="is not the image that was put there") as raised:
        node.copy(1)
    assert raised.value.hint == f"as root: hpcimg cache verify {digest(1)}"
    assert copies(node) == []


def test_a_disk_that_cannot_be_written(node, caplog):
    """The store's own file is used, and the log says why."""
    node.disk.write_text("")
    assert node.copy(1) == node.ensure(1)
    assert any("not from this node" in text for text in caplog.messages)


def test_within_its_bytes_the_least_recently_used_goes(node):
    """What no job of this node holds makes room for what comes."""
    for number, age in ((1, 300), (2, 200)):
        copied = node.copy(number, most=2 * SIZE)
        used = copied.path.stat().st_mtime - age
        os.utime(copied.path, (used, used))
    node.copy(3, most=2 * SIZE)
    assert copies(node) == [2, 3]


def test_what_a_job_of_the_node_holds_stays(node, caplog):
    """Then the new image is used from the store."""
    node.copy(1, "7", most=SIZE)
    assert node.copy(2, "8", most=SIZE) == node.ensure(2)
    assert copies(node) == [1]
    assert any("more than stage.bytes" in text for text in caplog.messages)
    (node.jobs / "7").rmdir()
    assert node.copy(2, "8", most=SIZE).image.is_relative_to(node.disk)
    assert copies(node) == [2]


def test_an_image_that_was_built_anew(node):
    """An old copy of another build of the same manifest is not passed off for the new one."""
    node.copy(1)
    node.remove(1)

    def build(workspace):
        workspace.image.write_bytes(sif_bytes(b"anew"))
        return BuiltImage(("registry/tool:1",), (), ())

    anew = node.store.ensure(digest(1), CONVERTER, build)
    assert node.copy(1) == anew
