"""Which repositories are known to have a blob: what is cached is given to no other one.

It must not know how blobs are read. Threads may share it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from hpcimg.hub.blob_file import OWNERS
from hpcimg.hub.flight import Flights
from hpcimg.hub.memory import Memory
from hpcimg.oci.reference import Reference

OWNER_COUNT = 200_000
OWNERS_LIMIT = 64 << 10
"""Bytes of names that are noted beside one blob."""

_Owned = tuple[str, str]


class BlobOwners:
    """Remembers each repository with the sizes of its blobs, beside cached ones for good.

    So a hub that was started anew gives a cached blob while its registry is away.
    """

    def __init__(self, ask: Callable[[Reference], int]) -> None:
        self._ask = ask
        self._sizes: Memory[_Owned, int] = Memory(OWNER_COUNT)
        self._flights: Flights[_Owned, int] = Flights()

    def size(self, reference: Reference) -> int | None:
        """Give the size of the repository's blob; None where it is not known to have it."""
        return self._sizes.get(_owned(reference))

    def known(self, reference: Reference, path: Path) -> int | None:
        """Give the size as memory or the note beside the blob has it; nobody is asked."""
        size = self.size(reference)
        return _noted(path, reference.name) if size is None else size

    def note(self, reference: Reference, size: int, path: Path) -> None:
        """Remember that the repository has the blob, beside the blob's file if there is one."""
        self._sizes.put(_owned(reference), size)
        if path.exists():
            _write(path, reference.name)

    def prove(self, reference: Reference, path: Path) -> int:
        """Give the size of the repository's blob, asked for once; raises the client's errors."""
        size = self.size(reference)
        if size is None:
            find = partial(self._find, reference, path)
            size = self._flights.run(_owned(reference), find)
        return size

    def _find(self, reference: Reference, path: Path) -> int:
        size = self.size(reference)
        if size is None:
            size = _noted(path, reference.name)
        if size is None:
            size = self._ask(reference)
            self.note(reference, size, path)
        self._sizes.put(_owned(reference), size)
        return size


def _owned(reference: Reference) -> _Owned:
    return reference.name, reference.digest or ""


def _noted(path: Path, name: str) -> int | None:
    """Look beside a blob for a repository's name; give the blob's size."""
    with suppress(OSError):
        text = path.with_name(path.name + OWNERS).read_text("ascii", "replace")
        # What a hub that died left half has no end of line.
        if name in text.split("\n")[:-1]:
            return path.stat().st_size
    return None


def _write(path: Path, name: str) -> None:
    # Without the note a question is asked again, no more.
    with suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        descriptor = os.open(path.with_name(path.name + OWNERS), flags, 0o600)
        try:
            if os.fstat(descriptor).st_size < OWNERS_LIMIT:
                os.write(descriptor, f"{name}\n".encode())
        finally:
            os.close(descriptor)
