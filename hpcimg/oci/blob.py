"""The check of a blob's bytes against its descriptor while they stream by."""

from __future__ import annotations

import hashlib
import re

from hpcimg.errors import DigestMismatchError, RegistryError
from hpcimg.oci.digest import is_digest
from hpcimg.oci.model import Descriptor
from hpcimg.quoting import quoted

CHANGED_HINT = "the registry or something before it changed the content: tell its administrator"

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-[0-9]+/([0-9]+|\*)")


class BlobCheck:
    """Counts and hashes one blob; `name` is what errors call it."""

    def __init__(self, descriptor: Descriptor, name: str) -> None:
        if not is_digest(descriptor.digest):
            raise RegistryError(f"{quoted(descriptor.digest)} is not a sha256 or sha512 digest")
        self.digest = descriptor.digest
        self._size = descriptor.size
        self.name = name
        self._hash = hashlib.new(descriptor.digest.partition(":")[0])
        self.received = 0

    def expect_length(self, length: int | None) -> None:
        """Refuse at once an answer that announces another size than the descriptor's."""
        if length is not None and length != self._size:
            raise self._wrong(f"has {length} bytes")

    def expect_range(self, content_range: str) -> None:
        """Refuse a 206 that does not go on where the bytes so far end."""
        if not is_range_from(content_range, self.received, self._size):
            raise RegistryError(f'"{self.name}": the registry sent another range than asked for')

    def take(self, chunk: bytes) -> None:
        """Account for the next bytes; more than the descriptor promises is an error at once."""
        self.received += len(chunk)
        if self.received > self._size:
            raise self._wrong(f"has {self.received} bytes or more")
        self._hash.update(chunk)

    def finish(self) -> None:
        """Raise DigestMismatchError unless the bytes so far are the whole blob."""
        if self.received != self._size:
            raise self._wrong(f"has {self.received} bytes")
        found = f"{self.digest.partition(':')[0]}:{self._hash.hexdigest()}"
        if found != self.digest:
            raise DigestMismatchError(f'"{self.name}" has the digest {found}', CHANGED_HINT)

    def _wrong(self, found: str) -> DigestMismatchError:
        message = f'"{self.name}" {found}, its descriptor says {self._size}'
        return DigestMismatchError(message, CHANGED_HINT)


def is_range_from(header: str, start: int, size: int) -> bool:
    """Tell whether a Content-Range continues at `start` within content of `size` bytes."""
    match = _CONTENT_RANGE.fullmatch(header.strip())
    return match is not None and int(match[1]) == start and match[2] in {"*", str(size)}
