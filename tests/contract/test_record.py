"""The record of an entry: an older one is read, and fs-verity's measure is held to the file."""

from __future__ import annotations

import errno
import json
import os
import struct

import pytest
from sif import sif_bytes

from hpcimg.store.entry import RECORD, Signature, parse_record
from hpcimg.store.store import Store
from hpcimg.store.workspace import BuiltImage

DIGEST = "sha256:" + "ab" * 32
CONVERTER = "fake-1.0-1"
ENABLE, MEASURE = 0x40806685, 0xC0046686


@pytest.fixture
def store(tmp_path):
    """Give an empty store of this user's."""
    return Store(tmp_path / "store", os.geteuid())


def put(store: Store):
    """Have one entry in the store."""

    def build(workspace):
        workspace.image.write_bytes(sif_bytes())
        return BuiltImage(("a/b:1",), (), (), (Signature("sha256:k", DIGEST),))

    return store.ensure(DIGEST, CONVERTER, build)


class Kernel:
    """Answers the two ioctls of fs-verity, which few machines of tests have."""

    def __init__(self) -> None:
        self.sealed: set[int] = set()
        self.value = b"\x11" * 32

    def ioctl(self, descriptor: int, request: int, argument: bytes) -> bytes:
        """Seal or measure the inode behind a descriptor."""
        inode = os.fstat(descriptor).st_ino
        if request == ENABLE:
            assert struct.unpack_from("<4I", argument) == (1, 1, 4096, 0)
            assert len(argument) == 128
            self.sealed.add(inode)
            return argument
        assert request == MEASURE
        if inode not in self.sealed:
            raise OSError(errno.ENODATA, "No data available")
        return struct.pack("<HH", 1, 32) + self.value + bytes(32)


@pytest.fixture
def kernel(monkeypatch):
    """Give a kernel and a file system with fs-verity."""
    found = Kernel()
    monkeypatch.setattr("fcntl.ioctl", found.ioctl)
    return found


def test_a_record_of_the_first_version_is_read(store):
    """What an older hpcimg built is used; nobody had signed it, as far as is known."""
    entry = put(store)
    path = entry.path / RECORD
    fields = json.loads(path.read_text())
    assert fields["version"] == 2
    for key in ("signatures", "verity"):
        del fields[key]
    path.write_text(json.dumps({**fields, "version": 1}))
    found = store.lookup(DIGEST, CONVERTER)
    assert found is not None
    assert (found.record.signatures, found.record.verity) == ((), "")
    assert found.record.sha256 == entry.record.sha256


def test_a_record_is_read_as_it_was_written(store):
    """Every field comes back."""
    record = put(store).record
    assert record.signatures == (Signature("sha256:k", DIGEST),)
    assert parse_record(json.dumps(record.to_fields()).encode()) == record


@pytest.mark.parametrize(
    ("raw", "why"),
    [(b'{"version": 9}', "it lacks 'digest'"), (b'{"version": "2"}', "another version")],
)
def test_a_record_that_says_too_little(raw, why):
    """A later release may say more, but what this one needs must be there."""
    with pytest.raises(ValueError, match=why):
        parse_record(raw)


def test_the_image_is_sealed_where_the_file_system_can(store, kernel):
    """The record keeps what the kernel measured."""
    assert put(store).record.verity == "sha256:" + "11" * 32


def test_a_file_system_without_verity_is_no_fault(store):
    """The record says nothing then."""
    assert put(store).record.verity == ""


def test_sealed_content_that_is_another_is_not_used(store, kernel, caplog):
    """The same size and another seal: seen at the next launch, without reading the image."""
    put(store)
    kernel.value = b"\x22" * 32
    assert store.lookup(DIGEST, CONVERTER) is None
    assert "is not the one that was sealed with fs-verity" in caplog.text


def test_a_copied_store_has_no_seals(store, kernel):
    """An image that was moved to a file system without them is used as before."""
    put(store)
    kernel.sealed.clear()
    assert store.lookup(DIGEST, CONVERTER) is not None
