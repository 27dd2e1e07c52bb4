"""Remove entries that nobody uses: the oldest, or the least recently used of too many bytes.

Knows leases; whether a job still lives it is told.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcimg.store.entry import Entry, EntryKey, UntrustedError
from hpcimg.store.faults import store_faults
from hpcimg.store.lease import (
    Lease,
    all_leased,
    drop_lease,
    forget,
    last_use,
    look_afresh,
    read_leases,
)
from hpcimg.store.owner import Owner
from hpcimg.store.store import TEMPORARY, Store
from hpcimg.store.workspace import remove_tree, sync

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bounds:
    """What may stay; ages in seconds, sizes in bytes, 0 means no limit.

    What was used within `keep` is never removed. Above `high`, removing goes on down to `low`.
    """

    age: float = 0.0
    high: int = 0
    low: int = 0
    keep: float = 86_400.0


@dataclass(frozen=True)
class Stored:
    """An entry with its last use, in seconds since 1970; `in_use` says who has it, or is empty."""

    entry: Entry
    used: float
    in_use: str = ""

    @property
    def key(self) -> EntryKey:
        """What names the entry."""
        return self.entry.key


@dataclass(frozen=True)
class Choice:
    """An entry to remove, and why."""

    stored: Stored
    why: str


def survey(store: Store) -> tuple[Stored, ...]:
    """List the entries with what is known of their use."""
    return tuple(_stored(store, entry) for entry in store.entries())


def choose(stored: Sequence[Stored], bounds: Bounds, now: float) -> tuple[Choice, ...]:
    """Choose what is too old, then what is used least recently while there are too many bytes.

    Where another converter has made a newer entry of the same image, the older one goes first.
    """
    free = [one for one in stored if not one.in_use and now - one.used >= bounds.keep]
    newest: dict[str, str] = {}
    for one in stored:
        record = one.entry.record
        newest[record.digest] = max(newest.get(record.digest, ""), record.created)
    free.sort(key=lambda one: (_is_newest(one, newest), one.used))
    chosen = {
        one.key: Choice(one, "not used for long")
        for one in free
        if bounds.age and now - one.used > bounds.age
    }
    total = sum(one.entry.record.size for one in stored)
    total -= sum(choice.stored.entry.record.size for choice in chosen.values())
    if bounds.high and total > bounds.high:
        for one in free:
            if total <= bounds.low:
                break
            if one.key not in chosen:
                is_newest = _is_newest(one, newest)
                why = "used least recently" if is_newest else "made anew by another converter"
                chosen[one.key] = Choice(one, why)
                total -= one.entry.record.size
    return tuple(chosen.values())


def users(store: Store, key: EntryKey) -> str:
    """Say which jobs hold an entry; empty when none does."""
    return _use(store, key)[0]


def remove(
    store: Store,
    key: EntryKey,
    owner: Owner,
    *,
    is_forced: bool = False,
    when_away: Callable[[Path], None] = lambda _: None,
) -> bool:
    """Remove an entry unless a job holds it; True when it is gone.

    A job takes its lease and then looks the entry up; here the entry goes and then the leases are
    looked at. So whoever found the entry is seen, and it is put back. `when_away` is told where the
    entry is meanwhile. Raises StoreError.
    """
    if not is_forced and users(store, key):
        return False
    place = key.place(store.root)
    away = store.root / TEMPORARY / owner.token(os.urandom(8).hex())
    with store_faults("remove an entry", store.root):
        try:
            # No directory is made for it: a full disk is when this has to work.
            place.rename(away)
        except FileNotFoundError:
            return False
        try:
            when_away(away)
            look_afresh(store, key)
            if not is_forced and users(store, key):
                put_back(away, place)
                return False
        except BaseException:
            put_back(away, place)
            raise
        sync(place.parent)
        remove_tree(away)
    forget(store, key)
    return True


def put_back(away: Path, place: Path) -> None:
    """Bring an entry back; where another was built meanwhile, that one stays."""
    try:
        away.rename(place)
    except OSError as error:
        log.warning('could not bring "%s" back: %s', place, error.strerror)
        if place.exists():
            remove_tree(away)


def drop_ended(store: Store, leases: Iterable[Lease]) -> tuple[Lease, ...]:
    """Drop these leases, but those that were taken again since they were read.

    Of an image that never came to be nothing stays.
    """
    dropped = []
    for lease in leases:
        with store_faults("drop a lease", store.root):
            try:
                if drop_lease(store, lease):
                    dropped.append(lease)
                    if not lease.entry.place(store.root).exists():
                        forget(store, lease.entry)
            except FileNotFoundError:
                pass  # another prune was faster
            except UntrustedError as error:
                log.warning("keeping the lease %s: %s", lease.key.name, error)
    return tuple(dropped)


def leases_of(store: Store) -> tuple[Lease, ...]:
    """List all leases that can be believed."""
    found: list[Lease] = []
    for key in all_leased(store):
        try:
            found += read_leases(store, key)
        except (OSError, UntrustedError) as error:
            log.warning("not looking at the leases of %s: %s", key.name, error)
    return tuple(found)


def _stored(store: Store, entry: Entry) -> Stored:
    held, leases = _use(store, entry.key)
    return Stored(entry, last_use(store, entry.key, leases), held)


def _use(store: Store, key: EntryKey) -> tuple[str, tuple[Lease, ...]]:
    try:
        leases = read_leases(store, key)
    except (OSError, UntrustedError) as error:
        # What cannot be read may hold a job's lease.
        log.warning("keeping %s: its leases cannot be read: %s", key.name, error)
        return "leases that cannot be read", ()
    return ", ".join(sorted(f"job {one.key.job} of {one.key.cluster}" for one in leases)), leases


def _is_newest(one: Stored, newest: dict[str, str]) -> bool:
    return one.entry.record.created >= newest[one.entry.record.digest]
