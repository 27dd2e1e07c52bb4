"""What the hub reads of images to choose: documents and configs by digest, and what is attached.

All of it is kept in the database, so that a choice can be made again while an upstream is away.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from hpcimg.errors import RegistryError, StoreError
from hpcimg.hub.database import KeptDocument, KeptTag
from hpcimg.hub.memory import Memory
from hpcimg.oci.digest import is_digest, verify_digest
from hpcimg.oci.model import DOCUMENT_LIMIT

if TYPE_CHECKING:
    from hpcimg.hub.contents import Contents, Keep
    from hpcimg.oci.model import Descriptor, Index, Manifest
    from hpcimg.oci.reference import Reference

log = logging.getLogger(__name__)

ATTACHED_SECONDS = 3600.0
"""How long the list of what is attached to an image counts as known."""
PAUSE_SECONDS = 30.0
"""How long a registry that failed is not asked again for such a list."""
Value = TypeVar("Value")
_TEXTS = ("json", "yaml")
_REMEMBERED = 10_000
_REMEMBERED_BYTES = 64 << 20


class Upstream(Protocol):
    """What is needed of a registry client."""

    def fetch_blob(self, reference: Reference, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream a blob."""

    def referrers(self, reference: Reference, artifact_type: str) -> tuple[str, ...]:
        """List what is attached to an image."""


class HubSource:
    """An ImageSource over the hub's contents."""

    def __init__(
        self,
        contents: Contents,
        keep: Keep,
        client: Upstream,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._contents = contents
        self._keep = keep
        self._client = client
        self._now = now
        self._texts: Memory[tuple[str, str], bytes] = Memory(_REMEMBERED, _REMEMBERED_BYTES)
        self._attached: Memory[tuple[str, str], KeptTag] = Memory(_REMEMBERED)

    def fetch_document(self, reference: Reference) -> Manifest | Index:
        """Fetch what a digest names."""
        return self._contents.document(reference).document

    def fetch_blob(self, reference: Reference, descriptor: Descriptor) -> Iterator[bytes]:
        """Give a blob; small texts, which configs are, are kept."""
        is_text = descriptor.media_type.endswith(_TEXTS) and descriptor.size <= DOCUMENT_LIMIT
        if not is_text:
            yield from self._client.fetch_blob(reference, descriptor)
            return
        key = (reference.name, descriptor.digest)
        raw = self._texts.get(key)
        if raw is None:
            raw = self._text(reference, descriptor)
            self._texts.put(key, raw, len(raw))
        yield raw

    def referrers(self, reference: Reference, artifact_type: str) -> tuple[str, ...]:
        """List what is attached; while the upstream fails, what was attached before counts."""
        # No tag has a space in it, so that this is nobody's.
        key = (reference.name, f"{artifact_type} {reference.digest}")
        kept = self._attached.get(key) or self._kept(lambda: self._keep.tag(*key))
        if kept is None or self._now() - kept.checked >= ATTACHED_SECONDS:
            kept = self._ask_attached(reference, artifact_type, kept)
        self._attached.put(key, kept)
        return tuple(word for word in kept.digest.split() if is_digest(word))

    def _text(self, reference: Reference, descriptor: Descriptor) -> bytes:
        name, digest = reference.name, descriptor.digest
        kept = self._kept(lambda: self._keep.document(name, digest))
        if kept is not None:
            verify_digest(kept.raw, digest)
            return kept.raw
        raw = b"".join(self._client.fetch_blob(reference, descriptor))
        document = KeptDocument(digest, raw, descriptor.media_type)
        self._kept(lambda: self._keep.put_document(name, document))
        return raw

    def _ask_attached(
        self, reference: Reference, artifact_type: str, kept: KeptTag | None
    ) -> KeptTag:
        question = (reference.name, f"{artifact_type} {reference.digest}")
        try:
            found = self._client.referrers(reference, artifact_type)
        except RegistryError as error:
            if kept is None or not error.temporary:
                raise
            log.warning("%s; counting on what was attached before", error.message)
            return replace(kept, checked=self._now() - ATTACHED_SECONDS + PAUSE_SECONDS)
        kept = KeptTag(" ".join(found), self._now())
        self._kept(lambda: self._keep.put_tag(*question, kept))
        return kept

    def _kept(self, act: Callable[[], Value]) -> Value | None:
        """Use the database; one that fails costs questions to the upstream and no answers."""
        try:
            return act()
        except StoreError as error:
            log.warning("%s", error.message)
            return None
