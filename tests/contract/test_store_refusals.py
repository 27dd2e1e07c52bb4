"""What a store cannot do, said so that somebody can act on it: a file system that is read-only."""

from __future__ import annotations

import os
import subprocess

import pytest
from sif import sif_bytes

from hpcimg.errors import StoreError
from hpcimg.store.store import Store
from hpcimg.store.workspace import BuiltImage

DIGEST = "sha256:" + "cd" * 32
OTHER = "sha256:" + "ef" * 32
CONVERTER = "fake-1.0-1"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to chown and to mount")


def build(workspace):
    """Make a small image."""
    workspace.image.write_bytes(sif_bytes())
    return BuiltImage((), (), ())


@pytest.fixture
def read_only(tmp_path):
    """A store with one entry on a file system that became read-only."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", str(place)], check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this machine lets nobody mount a tmpfs")
    store = Store(place / "store", 0)
    store.ensure(DIGEST, CONVERTER, build)
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    yield store
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_what_is_in_a_read_only_store_needs_no_writing(read_only):
    """A hit makes no directory, no lock and no file."""
    assert read_only.ensure(DIGEST, CONVERTER, pytest.fail).record.digest == DIGEST


@pytest.mark.parametrize("below", [".", "missing"], ids=["is there", "is not mounted"])
def test_a_read_only_store_is_not_called_full(read_only, below):
    """Its free bytes are no reason and making room no cure: it is to be mounted for writing."""
    store = Store(read_only.root / below, 0)
    with pytest.raises(StoreError) as caught:
        store.ensure(OTHER, CONVERTER, build)
    assert caught.value.message.lower().endswith("read-only file system")
    assert caught.value.hint.startswith("is the store's file system mounted on this node, and for")
