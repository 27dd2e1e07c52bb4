"""What a store cannot do, said so that somebody can act on it: read-only, another's entry."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sif import sif_bytes

from hpcimg.errors import StoreError
from hpcimg.store.faults import store_faults
from hpcimg.store.store import Store
from hpcimg.store.workspace import BuiltImage

DIGEST = "sha256:" + "cd" * 32
OTHER = "sha256:" + "ef" * 32
CONVERTER = "fake-1.0-1"
ACCOUNT, STRANGER = 12345, 54321

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


def become(uid):
    """Be this user, by all that os.access asks for, until root comes back."""
    os.setresuid(uid, uid, 0)


@pytest.fixture
def account_store():
    """Be the account of a site's store; unlike a test's own folder, all the way there is open."""
    with TemporaryDirectory() as folder:
        os.chown(folder, ACCOUNT, ACCOUNT)
        become(ACCOUNT)
        try:
            yield Store(Path(folder) / "store", ACCOUNT)
        finally:
            become(0)


def test_an_entry_of_somebody_else_is_for_root_to_remove(account_store, caplog):
    """Another's directory cannot be renamed: the error says which, whose, and what root does."""
    entry = account_store.ensure(DIGEST, CONVERTER, build)
    become(0)
    os.chown(entry.path, STRANGER, STRANGER)
    become(ACCOUNT)
    with caplog.at_level(logging.WARNING), pytest.raises(StoreError) as caught:
        account_store.ensure(DIGEST, CONVERTER, build)
    assert caught.value.message == (
        f'could not move the bad store entry "{entry.path}" aside: "{entry.path.name}" belongs to '
        f"uid {STRANGER}, not to {ACCOUNT} or root; the entry belongs to uid {STRANGER}"
    )
    assert caught.value.hint == f"remove it as root: rm -r {entry.path}"
    assert "moved" not in caplog.text
    assert "moving" not in caplog.text


def test_a_directory_of_somebody_else_in_the_way_is_not_the_entry_s_fault(account_store, caplog):
    """Where the entry is the account's own, the store as a whole is to be put right."""
    entry = account_store.ensure(DIGEST, CONVERTER, build)
    become(0)
    os.chown(entry.path.parent, STRANGER, STRANGER)
    become(ACCOUNT)
    with caplog.at_level(logging.WARNING), pytest.raises(StoreError) as caught:
        account_store.ensure(DIGEST, CONVERTER, build)
    assert f'"sha256" belongs to uid {STRANGER}' in caught.value.message
    assert caught.value.hint == "give it to its account alone (chown, chmod go-w)"
    assert "moved" not in caplog.text


def test_a_stale_handle_is_another_node_s_doing():
    """The error says what to do, which is not what helps a full disk."""
    with pytest.raises(StoreError) as caught, store_faults("read it", Path("/srv/store")):
        raise OSError(errno.ESTALE, "Stale file handle")
    assert caught.value.message == 'could not read it in "/srv/store": stale file handle'
    assert caught.value.hint == "another node removed it meanwhile: try again"


def test_an_exceeded_quota_says_what_is_needed(tmp_path):
    """Figures of what is free and of what the image takes."""
    with pytest.raises(StoreError) as caught, store_faults("build", tmp_path, 2 * 10**9):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    assert "disk quota exceeded; " in caught.value.message
    assert caught.value.message.endswith("free, about 2.0 GB needed")
