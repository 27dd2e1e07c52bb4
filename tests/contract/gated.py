"""An upstream of blobs that gives a piece when a test says so, and what its readers do."""

from __future__ import annotations

import os
import threading

from registry import digest_of

from hpcimg.errors import NotFoundError
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
