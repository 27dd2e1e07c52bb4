"""Where documents and blobs come from: the cache by digest, else the registry.

Makes the registry client when the first request needs it, since its HTTP library is slow to load.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from math import inf
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from hpcimg.errors import ContentError, RegistryError
from hpcimg.oci.digest import is_digest
from hpcimg.oci.model import DOCUMENT_LIMIT, Descriptor, Index, Manifest, parse_document

if TYPE_CHECKING:
    from hpcimg.oci.client import RegistryClient
    from hpcimg.oci.reference import Reference
    from hpcimg.store.documents import DocumentCache

log = logging.getLogger(__name__)

_TEXTS = ("json", "yaml")
"""How the media types of configs and specifications end, and those of layers never do."""


class BlobSource(Protocol):
    """What is needed of a registry client; all bytes it hands out are checked."""

    def fetch_document(self, reference: Reference) -> Manifest | Index:
        """Fetch the manifest that the reference's digest names."""

    def fetch_blob(self, reference: Reference, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream a blob, which is good when the stream ends without an error."""


class ImageSource(BlobSource, Protocol):
    """What is needed to read what images say of themselves."""

    def referrers(self, reference: Reference, artifact_type: str) -> tuple[str, ...]:
        """List the digests of what is attached to the image of a digest, newest first."""


@dataclass(frozen=True)
class Known:
    """What a tag stood for, so many seconds ago."""

    digest: str
    age: float


class CachedSource:
    """Asks the cache for all that has a digest; `check` raises for a name that may not be asked."""

    def __init__(
        self,
        documents: DocumentCache,
        connect: Callable[[], RegistryClient],
        check: Callable[[Reference], None] = lambda _: None,
    ) -> None:
        self._documents = documents
        self._connect = connect
        self._check = check
        self._lock = Lock()

    @property
    def client(self) -> RegistryClient:
        """The registry client, made at the first use and shared by threads."""
        with self._lock:
            return self._connected

    @cached_property
    def _connected(self) -> RegistryClient:
        return self._connect()

    def fetch_document(self, reference: Reference) -> Manifest | Index:
        """Fetch what the reference names; a tag is always asked for, since it may move.

        Of all that ask the same at once one asks the registry: what it was told while another
        waited is as new as the other's own answer would be.
        """
        found = self._kept_document(reference)
        if found is not None:
            return found
        before = self._told(reference)
        with self._documents.alone(reference.name):
            found = self._kept_document(reference)
            told = self._told(reference)
            if found is None and told != before and told is not None:
                found = self._kept_document(reference.with_digest(told.partition(" ")[0]))
            return found or self._fetch(reference)

    def alone_in_job(self, subject: str) -> AbstractContextManager[None]:
        """Let one at a time settle something for its job; the others look what it settled."""
        return self._documents.alone(subject, "job")

    def last_digest(self, reference: Reference, seconds: float) -> Known | None:
        """Give what a tag stood for when it was last asked for, if that is not too long ago."""
        self._check(reference)
        found = self._documents.newest_answer(_tag_question(reference))
        digest = found.text.partition(" ")[0] if found else ""
        return (
            Known(digest, found.age)
            if found and found.age < seconds and is_digest(digest)
            else None
        )

    def _fetch(self, reference: Reference) -> Manifest | Index:
        found = self.client.fetch_document(reference)
        # Where the answer's header alone said what this is, the bytes do not say it again.
        if parse_document(found.raw).media_type == found.media_type:
            self._documents.keep_document(reference.digest or found.digest, found.raw)
            if reference.digest is None:
                # No two answers are the same text: who waits sees that there is a new one.
                answer = f"{found.digest} {os.urandom(8).hex()}"
                self._documents.keep_answer(_tag_question(reference), answer)
        return found

    def _kept_document(self, reference: Reference) -> Manifest | Index | None:
        raw = self._kept(reference, reference.digest) if reference.digest is not None else None
        return None if raw is None else parse_document(raw)

    def _told(self, reference: Reference) -> str | None:
        if reference.digest is not None:
            return None
        found = self._documents.newest_answer(_tag_question(reference))
        return found.text if found and is_digest(found.text.partition(" ")[0]) else None

    def fetch_blob(self, reference: Reference, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream a blob; small texts are kept, layers are not."""
        if not (descriptor.media_type.endswith(_TEXTS) and descriptor.size <= DOCUMENT_LIMIT):
            yield from self.client.fetch_blob(reference, descriptor)
            return
        raw = self._kept_text(reference, descriptor)
        if raw is None:
            with self._documents.alone(reference.name):
                raw = self._kept_text(reference, descriptor)
                if raw is None:
                    raw = b"".join(self.client.fetch_blob(reference, descriptor))
                    self._documents.keep_document(descriptor.digest, raw)
        yield raw

    def _kept_text(self, reference: Reference, descriptor: Descriptor) -> bytes | None:
        raw = self._kept(reference, descriptor.digest)
        return raw if raw is not None and len(raw) == descriptor.size else None

    def referrers(self, reference: Reference, artifact_type: str) -> tuple[str, ...]:
        """List the digests of what is attached to an image, as it was within the last hour.

        While the registry fails, what was attached before counts: the image may be in the store.
        """
        self._check(reference)
        question = f"referrers {artifact_type} {reference}"
        kept = _digests(self._documents.answer(question))
        if kept is not None:
            return kept
        with self._documents.alone(reference.name):
            kept = _digests(self._documents.answer(question))
            return self._ask_referrers(reference, artifact_type, question) if kept is None else kept

    def _ask_referrers(
        self, reference: Reference, artifact_type: str, question: str
    ) -> tuple[str, ...]:
        try:
            found = self.client.referrers(reference, artifact_type)
        except RegistryError as error:
            kept = _digests(self._documents.answer(question, inf))
            if kept is None or not error.temporary:
                raise
            log.warning("%s; counting on what was attached before", error.message)
            return kept
        self._documents.keep_answer(question, "\n".join(found))
        return found

    def _kept(self, reference: Reference, digest: str) -> bytes | None:
        self._check(reference)
        return self._documents.document(digest)


def _tag_question(reference: Reference) -> str:
    return f"tag {reference}"


def _digests(answer: str | None) -> tuple[str, ...] | None:
    if answer is None or not all(map(is_digest, answer.split())):
        return None
    return tuple(answer.split())


def read_text(source: BlobSource, reference: Reference, descriptor: Descriptor) -> bytes:
    """Read a small blob whole; raises RegistryError for one that is not small."""
    if descriptor.size > DOCUMENT_LIMIT:
        blob = f"{reference.name}@{descriptor.digest}"
        raise ContentError(f'"{blob}" has {descriptor.size} bytes, more than {DOCUMENT_LIMIT}')
    return b"".join(source.fetch_blob(reference, descriptor))
