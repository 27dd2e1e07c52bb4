"""The documents that need no upstream: those in memory, and those that are kept.

It must not know upstreams, nor when a tag has to be asked for again. Threads may share it.
A keep that fails costs questions to the upstream and no answers.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

from hpcimg.errors import HpcimgError
from hpcimg.hub.database import KeptDocument, KeptTag
from hpcimg.hub.memory import Memory
from hpcimg.oci.digest import verify_digest
from hpcimg.oci.model import Index, Manifest, parse_document
from hpcimg.oci.reference import Reference

log = logging.getLogger(__name__)

DOCUMENT_COUNT = 20_000
DOCUMENT_BYTES = 64 << 20
"""Raw bytes of the documents in memory; parsed they take several times as much."""

Name = tuple[str, str]
"""A repository with its registry, and a tag or a digest in it."""


@dataclass(frozen=True)
class Found:
    """A document; `is_stale` says that its registry could not be asked whether it still holds."""

    document: Manifest | Index
    digest: str
    is_stale: bool = False


class Keep(Protocol):
    """Where documents and tags outlive this process, and other copies of the hub find them."""

    def document(self, repository: str, digest: str) -> KeptDocument | None:
        """Give a repository's document."""

    def put_document(self, repository: str, document: KeptDocument) -> None:
        """Keep a repository's document."""

    def tag(self, repository: str, tag: str) -> KeptTag | None:
        """Give what a tag stood for."""

    def put_tag(self, repository: str, tag: str, kept: KeptTag) -> None:
        """Keep what a tag stands for."""


class AtHand:
    """Finds documents by their digest, which never change, and what tags were known to be."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._documents: Memory[Name, Found] = Memory(DOCUMENT_COUNT, DOCUMENT_BYTES)

    def peek(self, repository: str, digest: str) -> Found | None:
        """Give what is in memory."""
        return self._documents.get((repository, digest))

    def find(self, repository: str, digest: str) -> Found | None:
        """Give what is in memory or kept; what is kept wrong counts as not there."""
        found = self.peek(repository, digest)
        if found is not None:
            return found
        try:
            kept = self._keep.document(repository, digest)
            if kept is None:
                return None
            verify_digest(kept.raw, digest)
            return self._remember(repository, digest, parse_document(kept.raw, kept.media_type))
        except HpcimgError as error:
            log.warning("what is kept of %s@%s: %s", repository, digest, error.message)
            return None

    def keep(self, reference: Reference, document: Manifest | Index) -> Found:
        """Take what an upstream sent, under the digest that was asked for or its own."""
        digest = reference.digest or document.digest
        try:
            kept = KeptDocument(digest, document.raw, document.media_type)
            self._keep.put_document(reference.name, kept)
        except HpcimgError as error:
            log.warning("%s is not kept: %s", reference, error.message)
        return self._remember(reference.name, digest, document)

    def tag(self, name: Name) -> KeptTag | None:
        """Give what is kept of a tag."""
        try:
            return self._keep.tag(*name)
        except HpcimgError as error:
            log.warning("what is kept of %s:%s: %s", *name, error.message)
            return None

    def put_tag(self, name: Name, kept: KeptTag) -> None:
        """Keep what a tag stands for."""
        try:
            self._keep.put_tag(*name, kept)
        except HpcimgError as error:
            log.warning("%s:%s is not kept: %s", *name, error.message)

    def _remember(self, repository: str, digest: str, document: Manifest | Index) -> Found:
        found = Found(document, digest)
        self._documents.put((repository, digest), found, len(document.raw))
        return found
