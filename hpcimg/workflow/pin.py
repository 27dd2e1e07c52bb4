"""The index that a tag stands for in one job: decided once, for all its nodes, steps and starts.

The first of a job that reads the tag writes it down; the others ask no registry.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpcimg.errors import HpcimgError, RegistryError, SettingsError, StoreError, UsageError
from hpcimg.oci.digest import is_digest
from hpcimg.oci.reference import parse_reference
from hpcimg.quoting import quoted
from hpcimg.settings import PULLS
from hpcimg.store.store import site_store
from hpcimg.workflow.resolve import read_name

if TYPE_CHECKING:
    from hpcimg.oci.model import Index, Manifest
    from hpcimg.oci.reference import Reference
    from hpcimg.settings import Settings
    from hpcimg.store.agreement import JobKey
    from hpcimg.store.store import Store
    from hpcimg.workflow.access import Access
    from hpcimg.workflow.source import CachedSource

log = logging.getLogger(__name__)

HasPick = Callable[["Manifest | Index"], bool]
"""Tells whether what this node would pick from a document is in a store."""


@dataclass(frozen=True)
class PinRequest:
    """What is known of the job that a tag is read for.

    Without a `key` nothing is kept. `name` is what was pinned when the job was submitted, a name
    with its digest; `is_again` says that the job was started before; `pull` is its own word.
    """

    key: JobKey | None = None
    name: str = ""
    is_again: bool = False
    pull: str = ""


UNKNOWN = PinRequest()


@dataclass(frozen=True)
class Pinned:
    """What a reference stands for in its job; `notice` is for the job's user, once."""

    document: Manifest | Index
    notice: str = ""


def pinned_document(
    reference: Reference,
    access: Access,
    settings: Settings,
    request: PinRequest,
    has_pick: HasPick,
) -> Pinned:
    """Fetch what the reference stands for in the job, and keep it for all that come later.

    Raises RegistryError and its kin; where nothing can be kept, the job goes on without.
    """
    source = access.source
    if reference.digest is not None:
        return Pinned(source.fetch_document(reference))
    pins = _Pins(reference, stores_of(access, settings), access.store, request)
    found = _kept(pins, source)
    if found is not None:
        return found
    # From the question to the pin: whoever asked in between would be told the same once more.
    with source.alone_in_job(str(request.key)) if request.key else nullcontext():
        return _kept(pins, source) or _settle(pins, access, settings, has_pick)


def _kept(pins: _Pins, source: CachedSource) -> Pinned | None:
    digest = pins.read()
    if digest is None:
        return None
    log.info("%s is %s in this job", pins.reference, digest)
    return Pinned(source.fetch_document(pins.reference.with_digest(digest)))


def _settle(pins: _Pins, access: Access, settings: Settings, has_pick: HasPick) -> Pinned:
    source, reference, request = access.source, pins.reference, pins.request
    at_submit = _pinned_at_submit(reference, request)
    if at_submit is None:
        found = _ask(reference, access, settings, request.pull or settings.pull, has_pick)
    else:
        found = Pinned(source.fetch_document(reference.with_digest(at_submit)))
    digest, is_first = pins.keep(found.document.digest)
    if digest != found.document.digest:
        return Pinned(source.fetch_document(reference.with_digest(digest)))
    return found if is_first else Pinned(found.document)


def pin_of_job(reference: Reference, settings: Settings, key: JobKey) -> Reference:
    """Name by its digest what a tag is in a running job; the name itself where nothing is kept."""
    from hpcimg.store.agreement import read_agreement

    try:
        found = read_agreement(site_store(settings.store), key, {"tag": str(reference)})
    except (StoreError, SettingsError):
        return reference
    digest = _digest_of(found)
    return reference.with_digest(digest) if digest and not reference.digest else reference


def stores_of(access: Access, settings: Settings) -> tuple[Store, ...]:
    """List the stores that may be read: the site's, where there is one, and the asker's own."""
    try:
        site = site_store(settings.store)
    except SettingsError:
        return (access.store,)
    return (site,) if site.root == access.store.root else (site, access.store)


def has_image(digest: str, access: Access, settings: Settings) -> bool:
    """Tell whether a store that may be read has the image of this digest."""
    from hpcimg.runtime.choice import choose_converter

    converter = choose_converter(settings).id
    return any(store.lookup(digest, converter) for store in stores_of(access, settings))


def read_pull(word: str) -> str:
    """Check a command's own word; empty leaves it to the settings. Raises UsageError."""
    if word and word not in PULLS:
        raise UsageError(f"{quoted(word)} is no way to pull", f"use {', '.join(PULLS)}")
    return word


def name_at_submit(name: str, settings: Settings, environment: Mapping[str, str]) -> str:
    """Give a job's request the digest that its tag has now, as its user may read it.

    Empty where the start decides: the name has a digest, or the registry is not to be asked.
    Nothing stale is pinned, since the registry may answer when the job starts.
    """
    from hpcimg.workflow.access import own_access

    reference = read_name(name, settings)
    if reference.digest is not None or settings.pull == "missing":
        return ""
    source = own_access(settings, environment, listed_only=True).source
    return f"{reference}@{source.fetch_document(reference).digest}"


def _pinned_at_submit(reference: Reference, request: PinRequest) -> str | None:
    """Give the digest that the job's request has for this tag; a step may name another image."""
    name, at, digest = request.name.partition("@")
    if not at or not is_digest(digest):
        return None
    try:
        # It was written out in full: aliases are applied once.
        is_same = parse_reference(name) == reference
    except HpcimgError:
        return None
    return digest if is_same else None


def _ask(
    reference: Reference, access: Access, settings: Settings, pull: str, has_pick: HasPick
) -> Pinned:
    source = access.source
    known = None if pull == "always" else source.last_digest(reference, settings.stale_age)
    if pull == "missing" and known is not None:
        document = source.fetch_document(reference.with_digest(known.digest))
        if has_pick(document):
            log.info("%s was %s, and its image is in the store", reference, known.digest)
            return Pinned(document)
    try:
        return Pinned(source.fetch_document(reference))
    except RegistryError as error:
        if known is None or not error.temporary:
            raise
        notice = f"{error.message}; running {reference} as it was {_age_text(known.age)} ago"
        return Pinned(source.fetch_document(reference.with_digest(known.digest)), notice)


def _age_text(seconds: float) -> str:
    for size, word in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{int(seconds / size)} {word}"
    return f"{int(seconds)} seconds"


class _Pins:
    """The pins of one tag in one job: read where they may be, kept in one store."""

    def __init__(
        self,
        reference: Reference,
        readable: tuple[Store, ...],
        writable: Store,
        request: PinRequest,
    ) -> None:
        self.reference, self.request = reference, request
        self._subject = {"tag": str(reference)}
        self._readable, self._writable = readable, writable

    def read(self) -> str | None:
        """Give the digest that holds: this start's, or the newest of the job's earlier ones."""
        from hpcimg.store.agreement import read_agreement, read_earlier

        found = self._read(read_agreement)
        if found is None and self.request.is_again:
            found = self._read(read_earlier)
            if found is not None:
                found, _ = self.keep(found)
        return found

    def _read(
        self, read: Callable[[Store, JobKey, Mapping[str, Any]], Mapping[str, Any] | None]
    ) -> str | None:
        key = self.request.key
        if key is None:
            return None
        for store in self._readable:
            try:
                digest = _digest_of(read(store, key, self._subject))
            except StoreError as error:
                log.warning("%s", error.message)
                continue
            if digest is not None:
                return digest
        return None

    def keep(self, digest: str) -> tuple[str, bool]:
        """Propose a digest: the one that holds, and whether it is by this proposal."""
        from hpcimg.store.agreement import agree

        key = self.request.key
        if key is None:
            log.info("the tag is not pinned: the job's cluster or start time is not known here")
            return digest, True
        by = os.urandom(8).hex()
        try:
            terms = agree(self._writable, key, self._subject, {"index": digest, "by": by})
        except StoreError as error:
            log.warning("the tag is not pinned for the job: %s", error.message)
            return digest, True
        return _digest_of(terms) or digest, terms.get("by") == by


def _digest_of(terms: Mapping[str, Any] | None) -> str | None:
    digest = str((terms or {}).get("index"))
    return digest if is_digest(digest) else None
