"""The upstreams' documents as the hub has them: from memory, from what is kept, from an upstream.

It must not know whom they are for, nor how they are kept. Threads may share it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from hpcimg.errors import AuthenticationError, NotFoundError, RegistryError
from hpcimg.hub.at_hand import AtHand, Found, Keep, Name
from hpcimg.hub.database import KeptTag
from hpcimg.hub.flight import Flights
from hpcimg.hub.memory import Memory
from hpcimg.oci.model import Index, Manifest
from hpcimg.oci.reference import DEFAULT_TAG, Reference

__all__ = ["Contents", "Found", "Keep", "Upstream"]

log = logging.getLogger(__name__)

MISSING_SECONDS = 5.0
"""How long an upstream's "not found" is believed."""
PAUSE_SECONDS = 5.0
"""How long an upstream that failed is not asked again for a name that could be answered."""
BUSY_SECONDS = 30.0
"""The same for one that limits requests, and does not say for how long."""
LONGEST_PAUSE = 3600.0

TAG_COUNT = 50_000
MISSING_COUNT = 10_000
LIST_COUNT = 1_000
LIST_BYTES = 16 << 20


class Upstream(Protocol):
    """What is asked of the registries' client."""

    def fetch_document(self, reference: Reference) -> Manifest | Index:
        """Fetch what a tag or a digest names."""

    def manifest_digest(self, reference: Reference) -> str | None:
        """Ask what a tag stands for."""

    def tags(self, reference: Reference) -> tuple[str, ...]:
        """List a repository's tags."""


@dataclass(frozen=True)
class _Known:
    """What a tag stood for when it was `checked`; until `until` nobody is asked."""

    digest: str
    checked: float
    until: float
    is_stale: bool = False


@dataclass(frozen=True)
class _Missing:
    error: NotFoundError
    until: float


@dataclass(frozen=True)
class _Tags:
    tags: tuple[str, ...]
    checked: float
    until: float


class Contents:
    """Answers for tags and digests; `stale_age` seconds old may be what a failing upstream said.

    Errors of all methods but `peek`: NotFoundError, AuthenticationError, RegistryError.
    """

    def __init__(
        self,
        client: Upstream,
        keep: Keep,
        *,
        tag_seconds: float,
        stale_age: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._at_hand = AtHand(keep)
        self._tag_seconds = tag_seconds
        self._stale_age = stale_age
        self._now = now
        self._known: Memory[Name, _Known] = Memory(TAG_COUNT)
        self._missing: Memory[Name, _Missing] = Memory(MISSING_COUNT)
        self._lists: Memory[str, _Tags] = Memory(LIST_COUNT, LIST_BYTES)
        self._flights: Flights[Name, Found] = Flights()
        self._list_flights: Flights[str, tuple[str, ...]] = Flights()

    def peek(self, reference: Reference) -> Found | None:
        """Give what memory alone can answer; this never waits."""
        if reference.digest is not None:
            return self._at_hand.peek(reference.name, reference.digest)
        known = self._known.get((reference.name, reference.tag or DEFAULT_TAG))
        if known is None or self._now() >= known.until:
            return None
        found = self._at_hand.peek(reference.name, known.digest)
        return replace(found, is_stale=True) if found is not None and known.is_stale else found

    def document(self, reference: Reference) -> Found:
        """Give a document; of many that wait for the same one, one asks the upstream."""
        found = self.peek(reference)
        if found is not None:
            return found
        name = (reference.name, reference.digest or reference.tag or DEFAULT_TAG)
        return self._flights.run(name, partial(self._find, reference, name))

    def tags(self, reference: Reference) -> tuple[str, ...]:
        """List a repository's tags, as new as a tag is."""
        listed = self._lists.get(reference.name)
        if listed is not None and self._now() < listed.until:
            return listed.tags
        return self._list_flights.run(reference.name, partial(self._list, reference))

    def _find(self, reference: Reference, name: Name) -> Found:
        found = self.peek(reference)
        if found is not None:
            return found
        if reference.digest is not None:
            # The hub may have made meanwhile what was missing a moment ago.
            found = self._at_hand.find(reference.name, reference.digest)
            if found is not None:
                return found
        self._raise_missing(name)
        try:
            if reference.digest is not None:
                return self._fetch(reference)
            return self._by_tag(replace(reference, tag=name[1]), name)
        except NotFoundError as error:
            self._missing.put(name, _Missing(error, self._now() + MISSING_SECONDS))
            raise

    def _raise_missing(self, name: Name) -> None:
        missing = self._missing.get(name)
        if missing is None:
            return
        if self._now() < missing.until:
            # A new one: an exception that is raised again and again gathers tracebacks.
            raise NotFoundError(missing.error.message, missing.error.hint)
        self._missing.drop(name)

    def _by_tag(self, reference: Reference, name: Name) -> Found:
        before = self._before(name)
        now = self._now()
        if before is not None and now < before.until:
            return self._again(reference, before)  # it was forgotten in memory alone
        if before is not None and 0 <= now - before.checked < self._tag_seconds:
            # Another copy of the hub asked meanwhile.
            before = replace(before, until=before.checked + self._tag_seconds)
            self._known.put(name, before)
            return self._again(reference, before)
        try:
            found = self._ask(reference, before)
        except NotFoundError:
            self._known.drop(name)
            if before is not None:
                # So old that it is never given again.
                self._at_hand.put_tag(name, KeptTag(before.digest, 0.0))
            raise
        except RegistryError as error:
            return self._stale(reference, name, before, error)
        now = self._now()
        self._at_hand.put_tag(name, KeptTag(found.digest, now))
        self._known.put(name, _Known(found.digest, now, now + self._tag_seconds))
        return found

    def _again(self, reference: Reference, known: _Known) -> Found:
        """Give what a tag is known to stand for."""
        found = self._at_hand.find(reference.name, known.digest)
        if found is None:
            found = self._fetch(replace(reference, tag=None, digest=known.digest))
        return replace(found, is_stale=True) if known.is_stale else found

    def _before(self, name: Name) -> _Known | None:
        """Give what this or another copy of the hub last heard of a tag."""
        known = self._known.get(name)
        kept = self._at_hand.tag(name)
        if kept is None or (known is not None and known.checked >= kept.checked):
            return known
        return _Known(kept.digest, kept.checked, 0.0)

    def _ask(self, reference: Reference, before: _Known | None) -> Found:
        """Ask for content only where it is not at hand: registries limit that, not questions."""
        if before is not None:
            digest = self._digest_of(reference)
            if digest is not None:
                found = self._at_hand.find(reference.name, digest)
                if found is not None:
                    return found
        return self._fetch(reference)

    def _digest_of(self, reference: Reference) -> str | None:
        try:
            return self._client.manifest_digest(reference)
        except (NotFoundError, AuthenticationError):
            return None  # the answer to the question for the content says it in words
        except RegistryError as error:
            if error.temporary:
                raise
            return None

    def _stale(
        self, reference: Reference, name: Name, before: _Known | None, error: RegistryError
    ) -> Found:
        """Answer a temporary failure with what the tag stood for, and let the upstream rest."""
        now = self._now()
        if before is None or not error.temporary or now - before.checked >= self._stale_age:
            raise error
        found = self._at_hand.find(reference.name, before.digest)
        if found is None:
            raise error
        log.warning("%s; %s:%s is answered as it was", error.message, *name)
        pause = error.retry_after or (BUSY_SECONDS if error.status == 429 else PAUSE_SECONDS)
        until = min(now + min(pause, LONGEST_PAUSE), before.checked + self._stale_age)
        self._known.put(name, replace(before, until=until, is_stale=True))
        return replace(found, is_stale=True)

    def _fetch(self, reference: Reference) -> Found:
        return self._at_hand.keep(reference, self._client.fetch_document(reference))

    def _list(self, reference: Reference) -> tuple[str, ...]:
        listed = self._lists.get(reference.name)
        now = self._now()
        if listed is not None and now < listed.until:
            return listed.tags
        try:
            tags, checked = self._client.tags(reference), self._now()
            until = checked + self._tag_seconds
        except RegistryError as error:
            if listed is None or not error.temporary or now - listed.checked >= self._stale_age:
                raise
            log.warning("%s; the tags of %s are answered as they were", error, reference.name)
            tags, checked, until = listed.tags, listed.checked, now + PAUSE_SECONDS
        weight = sum(map(len, tags))
        self._lists.put(reference.name, _Tags(tags, checked, until), weight)
        return tags
