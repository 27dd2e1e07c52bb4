"""Blobs on their way through the hub, before an upstream that gives a piece when a test says so."""

from __future__ import annotations

import os
import resource
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from registry import digest_of

from hpcimg.errors import (
    DigestMismatchError,
    HpcimgError,
    NotFoundError,
    RegistryError,
    StoreError,
)
from hpcimg.hub.blob_flight import StoppedError
from hpcimg.hub.blobs import BlobCache
from hpcimg.oci.blob import BlobCheck
from hpcimg.oci.reference import Reference

PIECE = 1000
RAW = os.urandom(10 * PIECE)
SECONDS = 60


class Upstream:
    """Has blobs in repositories; gives as many pieces as it may, and ends when it may."""

    def __init__(self, *raws: bytes, repository="a/b") -> None:
        self.blobs = {(repository, digest_of(raw)): raw for raw in raws}
        self.wrong = {}
        self.error = None
        self.begun = []
        self.asked = []
        self.pieces = threading.Semaphore(0)
        self.end = threading.Event()
        self.closed = threading.Event()

    def give(self, count: int = 1000, *, end: bool = True) -> None:
        """Let so many pieces go, and the check of the whole if it comes to that."""
        if end:
            self.end.set()
        self.pieces.release(count)

    def fail(self, error) -> None:
        """Fail at the next piece."""
        self.error = error
        self.pieces.release(1000)

    def blob_size(self, reference):
        """Tell a size."""
        self.asked.append(reference.repository)
        return len(self._find(reference))

    def fetch_blob(self, reference, descriptor, begun=()):
        """Give what is missing."""
        check = BlobCheck(descriptor, reference.name)
        for piece in begun:
            check.take(piece)
        self.begun.append(check.received)
        raw = self._find(reference)
        raw = self.wrong.get(descriptor.digest, raw)
        try:
            for start in range(check.received, len(raw), PIECE):
                assert self.pieces.acquire(timeout=SECONDS)
                if self.error is not None:
                    raise self.error
                check.take(raw[start : start + PIECE])
                yield raw[start : start + PIECE]
            assert self.end.wait(SECONDS)
            check.finish()
        finally:
            self.closed.set()

    def _find(self, reference):
        raw = self.blobs.get((reference.repository, reference.digest))
        if raw is None:
            raise NotFoundError(f"{reference} is not there")
        return raw


def name_of(raw, repository="a/b"):
    """Name a blob in a repository."""
    return Reference("registry.example", repository, None, digest_of(raw))


def open_in(cache, raw=RAW, repository="a/b"):
    """Open a blob in a thread, as it waits for the first piece."""
    found = []
    reference = name_of(raw, repository)
    thread = threading.Thread(target=lambda: found.append(cache.open(reference)), daemon=True)
    thread.start()
    return thread, found


def opened(cache, upstream, pieces, raw=RAW):
    """Open a blob of which so many pieces are there."""
    thread, found = open_in(cache, raw)
    upstream.give(pieces, end=False)
    thread.join(SECONDS)
    (reader,) = found
    assert len(reader.read(0, pieces * PIECE)) == pieces * PIECE
    return reader


def rest_of(reader, start=0):
    """Read to the end."""
    return b"".join(reader.read(at, PIECE) for at in range(start, reader.size, PIECE))


def files(folder):
    """Name what is in a cache, without the notes of whose it is."""
    return sorted(
        one.name[64:] or "whole"
        for one in folder.rglob("*")
        if one.is_file() and one.suffix != ".of"
    )


def landed(cache):
    """Wait until nothing is brought any more."""
    for thread in threading.enumerate():
        if thread.name.startswith("blob "):
            thread.join(SECONDS)
    assert not cache._flights


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


def test_what_has_room_is_brought_for_the_next(folder):
    """A reader who leaves early costs the next one nothing."""
    upstream = Upstream(RAW)
    cache = BlobCache(folder, 10**6, upstream)
    opened(cache, upstream, 5).close()
    upstream.give()
    landed(cache)
    reader = cache.open(name_of(RAW))
    assert reader.path is not None
    assert rest_of(reader) == RAW
    assert upstream.begun == [0]


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
    reader.close()
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
