"""Blobs for many readers: from the cache, or brought once for all who want one at the same time.

It must not know HTTP. Threads may share it, and several copies of the hub one folder.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from hpcimg.errors import HpcimgError, NotFoundError, StoreError
from hpcimg.hub.blob_bringer import BlobBringer, Source
from hpcimg.hub.blob_file import blob_path, cache_faults, open_whole, read_from
from hpcimg.hub.blob_flight import BlobFlight, Wanted
from hpcimg.hub.blob_owners import BlobOwners
from hpcimg.hub.blob_room import BlobRoom
from hpcimg.oci.model import Descriptor
from hpcimg.oci.reference import Reference

log = logging.getLogger(__name__)

_MEDIA_TYPE = "application/octet-stream"


class Upstream(Protocol):
    """What is asked of the registries' client."""

    def fetch_blob(
        self, reference: Reference, descriptor: Descriptor, begun: Iterable[bytes] = ()
    ) -> Iterator[bytes]:
        """Stream a blob after the first bytes that are there."""

    def blob_size(self, reference: Reference) -> int:
        """Ask how long a blob is."""


class BlobReader:
    """One reader of one blob, whose file is held until `close`.

    `path` is the file where all of it is there already; then `fileno` may be sent as it is.
    """

    def __init__(
        self, flight: BlobFlight, path: Path | None, on_close: Callable[[BlobFlight], None]
    ) -> None:
        self._flight = flight
        self._on_close = on_close
        self._is_open = True
        self.size = flight.wanted.size
        self.path = path

    def fileno(self) -> int:
        """Give the open file, of which no other reader moves the place."""
        return self._flight.descriptor

    def has(self, end: int) -> bool:
        """Tell whether `read` of the bytes before `end` returns or raises at once."""
        return self._flight.has(end)

    def read(self, offset: int, length: int) -> bytes:
        """Give these bytes, fewer at the end; waits until they are there. Raises HpcimgError."""
        end = min(offset + length, self.size)
        if end <= offset:
            return b""
        self._flight.wait(end)
        try:
            return read_from(self._flight.descriptor, offset, end - offset)
        except OSError as error:
            raise StoreError(f"the blob cache cannot be read: {error.strerror}") from error

    def close(self) -> None:
        """Read no more."""
        if self._is_open:
            self._is_open = False
            self._on_close(self._flight)


class BlobCache:
    """Keeps blobs in a folder of at most `limit` bytes; what has no room there only streams by.

    Errors of its methods: those of the registry client, StoreError.
    """

    def __init__(
        self, folder: Path, limit: int, client: Upstream, now: Callable[[], float] = time.time
    ) -> None:
        self._folder = folder
        self._client = client
        self._now = now
        self._room = BlobRoom(folder, limit)
        self._owners = BlobOwners(client.blob_size)
        self._lock = threading.Lock()
        self._flights: dict[str, BlobFlight] = {}

    def size(self, reference: Reference) -> int:
        """Give the length of a repository's blob, which is not brought for that."""
        return self._owners.prove(reference, self._path(reference))

    def open(self, reference: Reference) -> BlobReader:
        """Open the blob of a digest for reading; somebody else's repository proves nothing."""
        path = self._path(reference)
        size = self._owners.prove(reference, path)
        wanted = Wanted(reference.name, reference.digest or "", size)
        with cache_faults(path):
            descriptor = open_whole(path, self._now())
        if descriptor is not None:
            flight = BlobFlight(wanted)
            flight.open_with(descriptor)
            flight.succeed()
            return BlobReader(flight, path, self._leave)
        flight = self._joined(reference, wanted, path)
        try:
            flight.wait_begun()
        except BaseException:
            self._leave(flight)
            raise
        return BlobReader(flight, None, self._leave)

    def close(self) -> None:
        """Stop all that is under way."""
        with self._lock:
            flights = list(self._flights.values())
        for one in flights:
            one.stop()

    def _path(self, reference: Reference) -> Path:
        return blob_path(self._folder, reference.digest or "")

    def _joined(self, reference: Reference, wanted: Wanted, path: Path) -> BlobFlight:
        """Join whoever brings it, or have it brought."""
        with self._lock:
            flight = self._flights.get(wanted.digest)
            if flight is not None and flight.wanted.size == wanted.size and flight.join():
                return flight
            flight = BlobFlight(wanted)
            flight.join()
            self._flights[wanted.digest] = flight
        name = f"blob {wanted.digest[:19]}"
        work = partial(self._bring, flight, reference, path)
        threading.Thread(target=work, name=name, daemon=True).start()
        return flight

    def _bring(self, flight: BlobFlight, reference: Reference, path: Path) -> None:
        wanted = flight.wanted
        descriptor = Descriptor(_MEDIA_TYPE, wanted.digest, wanted.size)
        image = replace(reference, tag=None)
        source = Source(
            lambda begun: self._client.fetch_blob(image, descriptor, begun),
            partial(self._owners.prove, reference, path),
        )
        bringer = BlobBringer(flight, source, path, self._now())
        try:
            if self._room.reserve(path, wanted.size):
                self._keep(flight, bringer, path)
                self._owners.note(reference, wanted.size, path)
            else:
                bringer.bring_through(self._folder)
        except HpcimgError as error:
            if not isinstance(error, NotFoundError):
                log.warning("%s@%s: %s", reference.name, wanted.digest, error.message)
            flight.fail(error)
        except BaseException as error:
            log.exception("%s@%s", reference.name, wanted.digest)
            flight.fail(StoreError(f"the blob could not be brought: {type(error).__name__}"))
            raise
        finally:
            # What is not kept has no other place: whoever comes reads with those who do.
            if flight.is_kept or not flight.is_whole:
                self._forget(flight)
            self._leave(flight)

    def _leave(self, flight: BlobFlight) -> None:
        if flight.leave():
            self._forget(flight)

    def _forget(self, flight: BlobFlight) -> None:
        with self._lock:
            if self._flights.get(flight.wanted.digest) is flight:
                del self._flights[flight.wanted.digest]

    def _keep(self, flight: BlobFlight, bringer: BlobBringer, path: Path) -> None:
        flight.is_kept = True
        is_kept = False
        try:
            bringer.bring()
            is_kept = True
        finally:
            self._room.settle(path, is_kept=is_kept)
