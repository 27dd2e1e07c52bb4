"""Blobs on their way through the hub: their ends, failures and stops, and who reads them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from gated import PIECE, RAW, SECONDS, Upstream, files, landed, name_of, opened, rest_of
from registry import digest_of

from hpcimg.errors import DigestMismatchError, RegistryError
from hpcimg.hub.blob_flight import StoppedError
from hpcimg.hub.blobs import BlobCache


@pytest.fixture
def folder(tmp_path):
    """Give the cache's folder."""
    return tmp_path / "blobs"


@pytest.mark.parametrize("limit", [0, 10**6])
def test_the_end_waits_for_the_check(folder, limit):
    """All bytes are there, and the last ones are given only when all are right."""
    upstream = Upstream(RAW)
    cache = BlobCache(folder, limit, upstream)
    reader = opened(cache, upstream, 9)
    upstream.give(1, end=False)
    with ThreadPoolExecutor(1) as pool:
        last = pool.submit(reader.read, 9 * PIECE, PIECE)
        assert not reader.has(len(RAW))
        assert not last.done()
        upstream.end.set()
        assert last.result(SECONDS) == RAW[-PIECE:]
    assert reader.has(len(RAW))
    assert rest_of(reader) == RAW
    assert (reader.read(len(RAW), 10), reader.read(len(RAW) - 1, 10)) == (b"", RAW[-1:])
    reader.close()
    reader.close()
    landed(cache)


@pytest.mark.parametrize("limit", [0, 10**6])
def test_wrong_bytes_have_no_end(folder, limit):
    """Each of many readers breaks at the end of changed bytes, and no file is left."""
    upstream = Upstream(RAW)
    upstream.wrong[digest_of(RAW)] = RAW[::-1]
    cache = BlobCache(folder, limit, upstream)
    readers = [opened(cache, upstream, 9), *(cache.open(name_of(RAW)) for _ in range(19))]
    upstream.give()
    with ThreadPoolExecutor(20) as pool:
        ends = [pool.submit(rest_of, reader, 9 * PIECE) for reader in readers]
    assert {type(end.exception()) for end in ends} == {DigestMismatchError}
    assert len(upstream.begun) == 1
    for reader in readers:
        reader.close()
    landed(cache)
    assert files(folder) == []


def test_a_small_wrong_blob_is_never_opened(folder):
    """Where the first piece is the last one, nothing is given before it is checked."""
    upstream = Upstream(b"small")
    upstream.wrong[digest_of(b"small")] = b"false"
    upstream.give()
    cache = BlobCache(folder, 10**6, upstream)
    with pytest.raises(DigestMismatchError):
        cache.open(name_of(b"small"))


def test_the_empty_blob(folder):
    """A blob of no bytes is brought, kept and given."""
    upstream = Upstream(b"")
    upstream.give()
    cache = BlobCache(folder, 10**6, upstream)
    for _ in range(2):
        reader = cache.open(name_of(b""))
        assert (reader.size, reader.read(0, 10)) == (0, b"")
        reader.close()
        landed(cache)
    assert upstream.begun == [0]


def test_an_early_failure_is_the_clients(folder):
    """What fails before the first byte is raised where the blob is opened; the next try is new."""
    upstream = Upstream(RAW)
    upstream.fail(RegistryError("too many requests", status=429, temporary=True))
    cache = BlobCache(folder, 10**6, upstream)
    with pytest.raises(RegistryError, match="too many") as caught:
        cache.open(name_of(RAW))
    assert (caught.value.status, caught.value.temporary) == (429, True)
    landed(cache)
    assert files(folder) == []
    upstream.error = None
    upstream.give()
    assert rest_of(cache.open(name_of(RAW))) == RAW


def test_a_broken_transfer_breaks_its_readers(folder):
    """A failure in the midst is no end; the next reader goes on from where it was."""
    upstream = Upstream(RAW)
    cache = BlobCache(folder, 10**6, upstream)
    readers = [opened(cache, upstream, 4), cache.open(name_of(RAW))]
    upstream.fail(RegistryError("the connection broke", temporary=True))
    for reader in readers:
        with pytest.raises(RegistryError, match="broke"):
            rest_of(reader)
        reader.close()
    landed(cache)
    assert files(folder) == [".part"]
    upstream.error = None
    upstream.give()
    reader = cache.open(name_of(RAW))
    assert rest_of(reader) == RAW
    assert upstream.begun == [0, 4 * PIECE]
    reader.close()
    landed(cache)
    assert files(folder) == ["whole"]


def test_a_stop_breaks_the_readers(folder):
    """A hub that stops leaves nobody waiting, and the next one goes on."""
    upstream = Upstream(RAW)
    cache = BlobCache(folder, 10**6, upstream)
    reader = opened(cache, upstream, 4)
    cache.close()
    with pytest.raises(StoppedError, match="stopping"):
        rest_of(reader)
    reader.close()
    upstream.give()
    landed(cache)
    again = BlobCache(folder, 10**6, upstream)
    assert rest_of(again.open(name_of(RAW))) == RAW
    assert upstream.begun[1] >= 4 * PIECE


def test_without_room_all_read_the_same(folder):
    """Who comes late reads with those who are there, and nobody's bytes are asked for twice."""
    upstream = Upstream(RAW)
    cache = BlobCache(folder, 0, upstream)
    early = opened(cache, upstream, 5)
    upstream.give()
    assert rest_of(early) == RAW
    late = cache.open(name_of(RAW))
    early.close()
    assert rest_of(late) == RAW
    assert upstream.begun == [0]
    late.close()
    landed(cache)
    assert rest_of(cache.open(name_of(RAW))) == RAW
    assert upstream.begun == [0, 0]
    assert files(folder) == []


def test_what_nobody_reads_is_not_brought(folder):
    """Without room the last reader who leaves ends it."""
    upstream = Upstream(RAW)
    cache = BlobCache(folder, 0, upstream)
    opened(cache, upstream, 5).close()
    upstream.give(1, end=False)
    assert upstream.closed.wait(SECONDS)
    landed(cache)
    assert upstream.pieces.acquire(blocking=False) is False


def test_what_nobody_reads_is_gone_on_with_by_the_next(folder):
    """A client that leaves at once makes the hub bring no more; what came is not lost."""
    upstream = Upstream(RAW)
    cache = BlobCache(folder, 10**6, upstream)
    opened(cache, upstream, 5).close()
    upstream.give()
    landed(cache)
    assert files(folder) == [".part"]
    assert rest_of(cache.open(name_of(RAW))) == RAW
    assert upstream.begun[0] == 0
    assert upstream.begun[1] > 0
