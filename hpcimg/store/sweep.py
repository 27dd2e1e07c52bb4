"""Remove what builders, prune and damage left behind; what is in use, or may be, stays.

What is kept of jobs is the matter of `agreement`; the documents of registries sweep themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpcimg.errors import StoreError
from hpcimg.store.entry import (
    ENTRIES,
    RECORD,
    EntryKey,
    Flaw,
    entry_key,
    key_at,
    parse_record,
    read_entry,
)
from hpcimg.store.faults import store_faults
from hpcimg.store.owner import Owner, owner_of_token
from hpcimg.store.prune import put_back, users
from hpcimg.store.store import BLOBS, LOCKS, QUARANTINE, TEMPORARY, Store
from hpcimg.store.workspace import remove_tree

FOREIGN_SECONDS = 2 * 86_400.0
"""A builder that cannot be seen from here, and wrote nothing for so long, has ended."""

QUARANTINE_SECONDS = 30 * 86_400.0

BLOB_SECONDS = 86_400.0
"""Other builds of a name are wanted soon after the first, or each after a long time."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Swept:
    """What was removed, and why."""

    path: Path
    why: str


def sweep_dead(store: Store, here: Owner) -> tuple[Swept, ...]:
    """Remove the workspaces of builders on this node that ended without removing them.

    An entry that a prune which died had moved away is brought back where a job holds it.
    """
    swept = []
    for path in _names(store.root / TEMPORARY):
        owner = owner_of_token(path.name)
        if owner is not None and owner.is_gone(here):
            log.info('removing "%s", left by a process that ended', path)
            if not _restored(store, path):
                remove_tree(path)
                swept.append(Swept(path, "its process has ended"))
    return tuple(swept)


def find_left(store: Store, here: Owner, now: float) -> tuple[Swept, ...]:
    """List what nobody will come back for, also of other nodes; `now` is in seconds since 1970."""
    return (
        *_temporaries(store, here, now),
        *_locks(store, here, now),
        *_flawed(store, now),
        *_aside(store, now),
        *_blobs(store, now),
    )


def _temporaries(store: Store, here: Owner, now: float) -> Iterator[Swept]:
    for path in _names(store.root / TEMPORARY):
        owner = owner_of_token(path.name)
        if owner is not None and owner.is_gone(here):
            yield Swept(path, "its process has ended")
        elif owner is not None and owner.is_alive(here):
            continue
        elif now - _last_written(path) > FOREIGN_SECONDS:
            yield Swept(path, "nobody has written it for two days")


def _locks(store: Store, here: Owner, now: float) -> Iterator[Swept]:
    """List what was set aside of locks; a lock itself is never unlinked."""
    for path in _names(store.root / LOCKS):
        owner = owner_of_token(path.name[1:]) if path.name[0] == "." else None
        if owner and (owner.is_gone(here) or now - _changed(path) > FOREIGN_SECONDS):
            yield Swept(path, "it was a lock of a process that has ended")


def _aside(store: Store, now: float) -> Iterator[Swept]:
    for path in _names(store.root / QUARANTINE):
        if now - _changed(path) > QUARANTINE_SECONDS:
            yield Swept(path, "it was in quarantine for thirty days")


def _blobs(store: Store, now: float) -> Iterator[Swept]:
    for path in _names(store.root / BLOBS):
        if now - _changed(path) > BLOB_SECONDS:
            yield Swept(path, "a layer that was kept for a day")


def _flawed(store: Store, now: float) -> Iterator[Swept]:
    """List entries that nobody can use, and nobody asked for since: who asks builds them anew."""
    for path in sorted((store.root / ENTRIES).glob("*/*")):
        with suppress(StoreError):
            key = key_at(path)
            found = read_entry(store.root, key, store.owner)
            is_old = now - _changed(path) > FOREIGN_SECONDS
            if isinstance(found, Flaw) and is_old and not users(store, key):
                yield Swept(path, f"damaged: {found.reason}")


def remove_left(store: Store, left: tuple[Swept, ...]) -> tuple[Swept, ...]:
    """Remove these, but what a job holds or had built anew meanwhile; says what it removed."""
    removed = []
    for one in left:
        if one.path.is_relative_to(store.root / ENTRIES):
            found = read_entry(store.root, key_at(one.path), store.owner)
            if isinstance(found, Flaw):
                with store_faults("move a bad entry aside", store.root):
                    store.quarantine(found)
                removed.append(one)
        elif one.path.parent.name != TEMPORARY or not _restored(store, one.path):
            remove_tree(one.path)
            removed.append(one)
    return tuple(removed)


def _restored(store: Store, path: Path) -> bool:
    """Bring back what a prune had moved away and a job holds; False for all else."""
    key = _key_of(path)
    if key is None or not users(store, key):
        return False
    place = key.place(store.root)
    log.warning('bringing "%s" back, which a job holds', place)
    put_back(path, place)
    return True


def _key_of(path: Path) -> EntryKey | None:
    try:
        record = parse_record((path / RECORD).read_bytes())
        return entry_key(record.digest, record.converter)
    except (OSError, ValueError, StoreError):
        return None


def _last_written(path: Path) -> float:
    """Say when somebody wrote here, as far as two levels down: what is built is one large file."""
    below = _names(path)
    deeper = (two for one in below for two in _names(one))
    return max(map(_changed, (path, *below, *deeper)))


def _changed(path: Path) -> float:
    """Say when a file was last written or renamed, in seconds since 1970."""
    try:
        return path.lstat().st_ctime
    except OSError:
        return 0.0


def _names(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
