"""What a store holds: all entries, or those that a digest, the start of one, or a name means."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpcimg.amounts import utc_text
from hpcimg.errors import NotFoundError, StoreError, UsageError
from hpcimg.oci.reference import DEFAULT_TAG, parse_reference
from hpcimg.quoting import quoted
from hpcimg.store.entry import ENTRIES, EntryKey, UntrustedError, key_at
from hpcimg.store.faults import store_faults
from hpcimg.store.lease import Lease, last_use, read_leases
from hpcimg.workflow.resolve import read_name

if TYPE_CHECKING:
    from hpcimg.settings import Settings
    from hpcimg.store.entry import Entry
    from hpcimg.store.store import Store
    from hpcimg.tally import Count

_PREFIX = re.compile(r"(?:(sha256|sha512):)?([0-9a-f]{4,128})")


@dataclass(frozen=True)
class Holding:
    """An entry, when it was last used (seconds since 1970), and who holds it.

    `leases` is None for who may not look; `fields` are what `cache ls --json` has.
    """

    entry: Entry
    last_use: float
    leases: tuple[Lease, ...] | None

    @property
    def fields(self) -> dict[str, Any]:
        """Give what the record says, and how the entry is used."""
        return {
            "path": str(self.entry.path),
            **self.entry.record.to_fields(),
            "last_use": utc_text(self.last_use),
            "leases": None if self.leases is None else [_lease_fields(one) for one in self.leases],
        }


def check_there(store: Store) -> None:
    """Raise StoreError where there is no store: an empty list would say that all is lost."""
    with store_faults("look at the store", store.root):
        if not store.root.is_dir():
            raise StoreError(
                f'there is no store in "{store.root}"',
                "is its file system mounted here? where nothing was kept yet, the first image "
                "or `hpcimg node publish` makes it",
            )


def holdings(store: Store) -> tuple[Holding, ...]:
    """Give all whole entries."""
    return tuple(holding(store, entry) for entry in store.entries())


def holding(store: Store, entry: Entry) -> Holding:
    """Look at the uses of an entry."""
    leases = None
    with suppress(OSError, UntrustedError):
        leases = read_leases(store, entry.key)
    return Holding(entry, last_use(store, entry.key, leases or ()), leases)


def _lease_fields(lease: Lease) -> dict[str, Any]:
    key = lease.key
    return {"cluster": key.cluster, "job": key.job, "uid": key.uid, "taken": int(lease.taken)}


def found(store: Store, words: tuple[str, ...], settings: Settings) -> tuple[Holding, ...]:
    """Give the whole entries that the words mean, each once; NotFoundError for a word of none."""
    entries = store.entries()
    picked: dict[Entry, None] = {}
    for word in words:
        by_digest = [e for e in entries if _is_start(word, e.record.digest)]
        meant = by_digest or _named(word, entries, settings)
        if not meant:
            raise _unknown(word)
        picked.update(dict.fromkeys(meant))
    return tuple(holding(store, entry) for entry in picked)


def keys(store: Store, words: tuple[str, ...], settings: Settings) -> tuple[EntryKey, ...]:
    """Name what stands at the places of the entries that the words mean, whole or not.

    No words mean all. A bad entry has no name that counts, so only its digest finds it.
    """
    everything = _all_keys(store)
    picked: dict[EntryKey, None] = dict.fromkeys(() if words else everything)
    for word in words:
        meant = [key for key in everything if _is_start(word, key.digest)]
        if not meant:
            meant = [entry.key for entry in _named(word, store.entries(), settings)]
        if not meant:
            raise _unknown(word)
        picked.update(dict.fromkeys(meant))
    return tuple(picked)


def with_counts(one: Holding, count: Count) -> dict[str, Any]:
    """Give the fields of `cache info --json`: how often the entry was asked for, too."""
    asked = {"hit": count.hit, "built": count.built, "waited": count.waited}
    return {**one.fields, "requests": asked}


def _all_keys(store: Store) -> list[EntryKey]:
    with store_faults("list the entries", store.root):
        paths = sorted((store.root / ENTRIES).glob("*/*"))
    found = []
    for path in paths:
        # A stranger's file is no entry, and nothing here says what it is.
        with suppress(StoreError):
            found.append(key_at(path))
    return found


def _is_start(word: str, digest: str) -> bool:
    match = _PREFIX.fullmatch(word)
    if match is None:
        return False
    algorithm, _, hexadecimal = digest.partition(":")
    return match[1] in {None, algorithm} and hexadecimal.startswith(match[2])


def _named(word: str, entries: tuple[Entry, ...], settings: Settings) -> list[Entry]:
    """Find the entries of an image name; one without a tag means all tags."""
    match = _PREFIX.fullmatch(word)
    if match and match[1]:
        return []
    wanted = read_name(word, settings)
    is_any = wanted.tag == DEFAULT_TAG and not word.endswith(f":{DEFAULT_TAG}")
    tag = None if is_any else wanted.tag

    def is_meant(entry: Entry) -> bool:
        if wanted.digest:
            return entry.record.digest == wanted.digest
        return any(_fits(name, wanted.name, tag) for name in entry.record.references)

    return [entry for entry in entries if is_meant(entry)]


def _fits(reference: str, name: str, tag: str | None) -> bool:
    try:
        parsed = parse_reference(reference)
    except UsageError:
        return False
    return parsed.name == name and tag in {None, parsed.tag}


def _unknown(word: str) -> NotFoundError:
    return NotFoundError(
        f"the store has no entry that is called {quoted(word)}",
        "give a digest, its first letters, or an image name; `hpcimg cache ls` shows all",
    )
