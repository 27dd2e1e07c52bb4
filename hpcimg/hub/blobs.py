"""Blobs for many readers: from the cache, or brought once for all who want one at the same time.

It must not know HTTP. Threads may share it, and several copies of the hub one folder.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from hpcimg.errors import HpcimgError, NotFoundError, RegistryError, StoreError
from hpcimg.hub.blob_bringer import BlobBringer, Source
from hpcimg.hub.blob_file import blob_path, cache_faults, open_whole, read_from, remove_unused
from hpcimg.hub.blob_flight import BlobFlight, StoppedError, Wanted
from hpcimg.hub.blob_owners import BlobOwners
from hpcimg.hub.blob_room import BlobRoom
from hpcimg.oci.model import Descriptor
from hpcimg.oci.reference import Reference

log = logging.getLogger(__name__)

FLIGHTS = 128
"""How many blobs may be on their way at a time; each is a thread and a connection."""
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
        self,
        flight: BlobFlight,
        path: Path | None,
        on_close: Callable[[BlobFlight], None],
        name: str,
    ) -> None:
        self._name = name
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
        try:
            self._flight.wait(end)
        except HpcimgError as error:
            raise _told(error, self._flight, self._name) from error
        try:
            return read_from(self._flight.descriptor, offset, end - offset)
        except OSError as error:
            raise StoreError(f"the blob cache cannot be read: {error.strerror}") from error

    def close(self) -> None:
        """Read no more."""
        if self._is_open:
            self._is_open = False
            self._on_close(self._flight)


def _told(error: HpcimgError, flight: BlobFlight, name: str) -> HpcimgError:
    """Say what happened; of somebody else's repository not even its name."""
    if flight.wanted.repository == name:
        return error
    what = "the blob broke off on its way"
    return RegistryError(what, "try again", temporary=True)


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

    def open_cached(self, reference: Reference) -> BlobReader | None:
        """Open what is in the cache and known to be the repository's; no registry is asked."""
        path = self._path(reference)
        size = self._owners.known(reference, path)
        return None if size is None else self._opened(reference, size, path)

    def open(self, reference: Reference) -> BlobReader:
        """Open the blob of a digest for reading; somebody else's repository proves nothing."""
        path = self._path(reference)
        size = self._owners.prove(reference, path)
        found = self._opened(reference, size, path)
        if found is not None:
            return found
        flight = self._joined(reference, Wanted(reference.name, reference.digest or "", size), path)
        try:
            flight.wait_begun()
        except HpcimgError as error:
            self._leave(flight)
            raise _told(error, flight, reference.name) from error
        except BaseException:
            self._leave(flight)
            raise
        return BlobReader(flight, None, self._leave, reference.name)

    def _opened(self, reference: Reference, size: int, path: Path) -> BlobReader | None:
        with cache_faults(path):
            descriptor = open_whole(path, self._now())
            if descriptor is None:
                return None
            found = os.fstat(descriptor).st_size
        if found != size:
            os.close(descriptor)
            with cache_faults(path):
                remove_unused(path)
            log.warning("%s has %d bytes in the cache, not %d: it is removed", path, found, size)
            return None
        flight = BlobFlight(Wanted(reference.name, reference.digest or "", size))
        flight.open_with(descriptor)
        flight.succeed()
        return BlobReader(flight, path, self._leave, reference.name)

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
            if len(self._flights) >= FLIGHTS:
                what = f"{FLIGHTS} blobs are on their way already"
                raise RegistryError(what, "try again later", temporary=True)
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
            if not isinstance(error, NotFoundError | StoppedError):
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
