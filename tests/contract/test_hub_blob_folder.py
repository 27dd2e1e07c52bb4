"""The folder of the hub's blobs: shared by copies, bounded, with what dead ones left in it."""

from __future__ import annotations

import os
import resource

import pytest
from gated import PIECE, RAW, Upstream, files, landed, name_of, opened, rest_of
from registry import digest_of

from hpcimg.errors import DigestMismatchError, HpcimgError, NotFoundError, RegistryError, StoreError
from hpcimg.hub.blobs import BlobCache


@pytest.fixture
def folder(tmp_path):
    """Give the cache's folder."""
    return tmp_path / "blobs"


def test_wrong_leftovers_are_found(folder):
    """What a copy left is checked with the rest; when it is wrong, the next try begins anew."""
    upstream = Upstream(RAW)
    cache = BlobCache(folder, 10**6, upstream)
    opened(cache, upstream, 4).close()
    cache.close()
    upstream.give()
    landed(cache)
    (part,) = folder.rglob("*.part")
    part.write_bytes(bytes(4 * PIECE))
    again = BlobCache(folder, 10**6, upstream)
    with pytest.raises(DigestMismatchError):
        rest_of(again.open(name_of(RAW)))
    landed(again)
    assert files(folder) == []
    assert rest_of(again.open(name_of(RAW))) == RAW


@pytest.mark.parametrize("extra", [b"", b"more than there is"])
def test_leftovers_of_any_length(folder, extra):
    """A leftover that has everything needs no bytes; one that has too much is of no use."""
    upstream = Upstream(RAW)
    upstream.give()
    part = folder / "sha256" / digest_of(RAW)[7:9] / f"{digest_of(RAW)[7:]}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(RAW + extra)
    cache = BlobCache(folder, 10**6, upstream)
    assert rest_of(cache.open(name_of(RAW))) == RAW
    assert upstream.begun == [0 if extra else len(RAW)]
    landed(cache)
    assert files(folder) == ["whole"]


def test_copies_of_the_hub_bring_once(folder):
    """On a shared folder one copy brings, and the other one's readers read while it does."""
    first, second = Upstream(RAW), Upstream(RAW)
    caches = [BlobCache(folder, 10**6, one) for one in (first, second)]
    mine = opened(caches[0], first, 5)
    theirs = caches[1].open(name_of(RAW))
    assert theirs.read(0, 5 * PIECE) == RAW[: 5 * PIECE]
    assert not theirs.has(6 * PIECE)
    first.give(end=False)
    assert not theirs.has(len(RAW))
    first.end.set()
    assert rest_of(mine) == rest_of(theirs) == RAW
    assert (len(first.begun), second.begun, second.asked) == (1, [], ["a/b"])
    mine.close()
    theirs.close()
    for cache in caches:
        landed(cache)
    assert files(folder) == ["whole"]


def test_a_copy_takes_over(folder):
    """Where the copy that brings stops, another one goes on, and its readers notice nothing."""
    first, second = Upstream(RAW), Upstream(RAW)
    caches = [BlobCache(folder, 10**6, one) for one in (first, second)]
    mine = opened(caches[0], first, 5)
    theirs = caches[1].open(name_of(RAW))
    first.fail(RegistryError("the connection broke", temporary=True))
    with pytest.raises(RegistryError, match="broke"):
        rest_of(mine)
    mine.close()
    second.give()
    assert rest_of(theirs) == RAW
    assert second.begun == [5 * PIECE]
    theirs.close()
    landed(caches[1])
    assert files(folder) == ["whole"]


def test_a_copy_that_fails_breaks_all(folder):
    """Where the copy that brings finds the bytes wrong, the other one's readers break too."""
    first, second = Upstream(RAW), Upstream(RAW)
    first.wrong[digest_of(RAW)] = RAW[::-1]
    caches = [BlobCache(folder, 10**6, one) for one in (first, second)]
    mine = opened(caches[0], first, 5)
    theirs = caches[1].open(name_of(RAW))
    first.give()
    with pytest.raises(DigestMismatchError):
        rest_of(mine)
    mine.close()
    with pytest.raises(RegistryError, match="another copy of the hub gave it up"):
        rest_of(theirs)
    theirs.close()
    second.give()
    landed(caches[1])
    assert rest_of(caches[1].open(name_of(RAW))) == RAW


def test_what_a_copy_brings_is_not_for_all(folder):
    """Who has no such blob gets nothing of it while others bring it, and nothing afterwards."""
    upstream = Upstream(RAW)
    caches = [BlobCache(folder, 10**6, upstream) for _ in range(2)]
    reader = opened(caches[0], upstream, 5)
    for cache in caches:
        with pytest.raises(NotFoundError):
            cache.open(name_of(RAW, "c/d"))
    upstream.give()
    rest_of(reader)
    landed(caches[0])
    with pytest.raises(NotFoundError):
        caches[1].open(name_of(RAW, "c/d"))


def test_a_torn_note_is_no_proof(folder):
    """The start of a longer name, as a hub that died leaves it, opens nothing."""
    upstream = Upstream(RAW)
    upstream.give()
    cache = BlobCache(folder, 10**6, upstream)
    rest_of(cache.open(name_of(RAW)))
    landed(cache)
    (note,) = folder.rglob("*.of")
    note.write_text(note.read_text() + "registry.example/c")
    with pytest.raises(NotFoundError):
        BlobCache(folder, 10**6, upstream).open(name_of(RAW, "c"))
    upstream.blobs.clear()
    assert BlobCache(folder, 10**6, upstream).open(name_of(RAW)).size == len(RAW)


def test_the_limit_holds(folder):
    """However many blobs come, there are never more bytes than the limit; the newest stay."""
    raws = [os.urandom(PIECE) for _ in range(40)]
    upstream = Upstream(*raws)
    upstream.give()
    times = iter(range(1, 1000))
    cache = BlobCache(folder, 10 * PIECE, upstream, lambda: next(times))
    for raw in raws:
        reader = cache.open(name_of(raw))
        assert rest_of(reader) == raw
        reader.close()
        landed(cache)
        whole = [one.stat().st_size for one in folder.rglob("*") if len(one.name) == 64]
        assert sum(whole) <= 10 * PIECE
    kept = {one.name for one in folder.rglob("*") if len(one.name) == 64}
    assert kept >= {digest_of(raw)[7:] for raw in raws[-8:]}
    assert len(list(folder.rglob("*.of"))) == len(kept)


def test_another_copy_removes_nothing_that_is_read(folder):
    """What one copy of the hub reads or brings, another one does not remove for room."""
    raws = [os.urandom(5 * PIECE) for _ in range(3)]
    upstream, other = Upstream(*raws), Upstream(*raws)
    cache = BlobCache(folder, 10 * PIECE, upstream, lambda: 1.0)
    upstream.give(5)
    read = cache.open(name_of(raws[0]))
    assert rest_of(read) == raws[0]
    landed(cache)
    coming = opened(cache, upstream, 3, raws[1])
    other.give()
    second = BlobCache(folder, 10 * PIECE, other, lambda: 2.0)
    assert rest_of(second.open(name_of(raws[2]))) == raws[2]
    assert files(folder) == [".part", "whole"]
    upstream.give()
    assert rest_of(coming) == raws[1]
    coming.close()
    read.close()
    landed(cache)
    third = BlobCache(folder, 10 * PIECE, other, lambda: 3.0)
    reader = third.open(name_of(raws[2]))
    assert rest_of(reader) == raws[2]
    landed(third)
    assert third.open(name_of(raws[2])).path is not None


def test_leftovers_make_room(folder):
    """What nobody brings any more counts, and goes as anything else that is not used."""
    upstream = Upstream(RAW)
    cache = BlobCache(folder, len(RAW) + PIECE, upstream)
    opened(cache, upstream, 4).close()
    cache.close()
    upstream.give()
    landed(cache)
    assert files(folder) == [".part"]
    other = os.urandom(len(RAW))
    upstream.blobs["a/b", digest_of(other)] = other
    again = BlobCache(folder, len(RAW) + PIECE, upstream)
    assert rest_of(again.open(name_of(other))) == other
    landed(again)
    assert files(folder) == ["whole"]


def test_a_file_that_someone_cut(folder):
    """A cached file that has become too short breaks its reader: no short success."""
    upstream = Upstream(RAW)
    upstream.give()
    cache = BlobCache(folder, 10**6, upstream)
    rest_of(cache.open(name_of(RAW)))
    landed(cache)
    reader = cache.open(name_of(RAW))
    os.truncate(reader.path, 5 * PIECE)
    with pytest.raises(StoreError, match="shorter"):
        rest_of(reader)


@pytest.mark.parametrize("limit", [0, 10**6])
def test_no_more_can_be_written(folder, limit):
    """When the system takes no more bytes the readers' streams break, and nothing half stays."""
    upstream = Upstream(RAW)
    cache = BlobCache(folder, limit, upstream)
    reader = opened(cache, upstream, 4)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6 * PIECE, hard))
    try:
        upstream.give()
        with pytest.raises(
            StoreError, match=r"the blob cache failed at .*: File too large"
        ) as error:
            rest_of(reader)
        reader.close()
        landed(cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "make room on its disk" in error.value.hint
    assert files(folder) == []


def test_a_folder_that_is_none(tmp_path):
    """A cache that cannot be written is said where the blob is opened."""
    (tmp_path / "file").write_text("here")
    upstream = Upstream(RAW)
    upstream.give()
    for limit in (0, 10**6):
        with pytest.raises(HpcimgError, match="the blob cache failed"):
            BlobCache(tmp_path / "file", limit, upstream).open(name_of(RAW))
