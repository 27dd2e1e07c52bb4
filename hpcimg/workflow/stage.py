"""A node's own copy of an image of the site's store, for shared file systems that many opens hurt.

The copies are a store of their own on a disk of the node, with locks, owner's checks and records as
every store has; what is in it can be copied again, so it goes whenever there is no room.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.errors import DigestMismatchError, HpcimgError
from hpcimg.progress import OnProgress, Progress, silent
from hpcimg.store.store import Store, site_store

if TYPE_CHECKING:
    from hpcimg.settings import Settings
    from hpcimg.store.entry import Entry
    from hpcimg.store.lease import LeaseKey
    from hpcimg.store.workspace import BuiltImage, Workspace

TICKETS = Path("/run/hpcimg/tickets")
"""Its directories are the node's jobs, as the prolog makes and the epilog removes them."""

_BLOCK = 8 << 20
_REPORT_SECONDS = 0.5

log = logging.getLogger(__name__)


def staged(
    entry: Entry,
    settings: Settings,
    lease: LeaseKey | None = None,
    on_progress: OnProgress = silent,
) -> Entry:
    """Give the entry with its image on this node's disk; the entry itself where that cannot be.

    A copy that is not what the record says is never used: DigestMismatchError, since the original
    is not either.
    """
    if not settings.stage.path:
        return entry
    local = stage_store(settings)

    def copy(workspace: Workspace) -> BuiltImage:
        return _copy(entry, local, settings.stage.bytes, workspace)

    key = entry.key
    try:
        kept = local.ensure(
            key.digest, key.converter, copy, on_progress=on_progress, lease=lease, image=key.digest
        )
    except DigestMismatchError:
        raise
    except (HpcimgError, OSError) as error:
        said = error.message if isinstance(error, HpcimgError) else str(error)
        log.warning('the image is used from "%s", not from this node: %s', entry.path, said)
        return entry
    if kept.record.sha256 != entry.record.sha256:
        # Another build of the same manifest took the original's place.
        return entry
    return replace(entry, path=kept.path)


def stage_store(settings: Settings) -> Store:
    """Open the node's copies: the site's account writes them, and locks are the node's own."""
    site = site_store(settings.store)
    return Store(Path(settings.stage.path), site.owner, lock_timeout=site.lock_timeout)


def _copy(entry: Entry, local: Store, most: int, workspace: Workspace) -> BuiltImage:
    from hpcimg.store.faults import require_space
    from hpcimg.store.workspace import BuiltImage

    record = entry.record
    _make_room(local, record.size, most)
    require_space(workspace.path, record.size)
    digest, done, told = hashlib.sha256(), 0, 0.0
    with entry.image.open("rb") as source, workspace.image.open("xb") as target:
        for block in _blocks(source.fileno()):
            target.write(block)
            digest.update(block)
            done += len(block)
            if time.monotonic() - told > _REPORT_SECONDS:
                told = time.monotonic()
                workspace.report(Progress("copy", done, record.size))
    if digest.hexdigest() != record.sha256:
        raise DigestMismatchError(
            f'"{entry.image}" is not the image that was put there: its SHA-256 is another one',
            f"as root: hpcimg cache verify {record.digest}",
        )
    return BuiltImage(record.references, record.features, record.layers, record.signatures)


def _blocks(descriptor: int) -> Iterator[bytes]:
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    while block := os.read(descriptor, _BLOCK):
        yield block


def _make_room(local: Store, size: int, most: int) -> None:
    """Remove what this node's jobs do not hold, the least recently used first."""
    from hpcimg.store.owner import current_owner
    from hpcimg.store.prune import Bounds, choose, drop_ended, leases_of, remove, survey

    if not most:
        return
    if size > most:
        raise _too_large(size, most)
    living = _jobs_here()
    drop_ended(local, [one for one in leases_of(local) if one.key.job not in living])
    room = max(1, most - size)
    found = choose(survey(local), Bounds(high=room, low=room, keep=0), time.time())
    here = current_owner()
    for choice in found:
        if remove(local, choice.stored.key, here):
            log.info('removed from this node: "%s"', choice.stored.entry.path)
    left = sum(one.record.size for one in local.entries())
    if left + size > most:
        raise _too_large(left + size, most)


def _too_large(size: int, most: int) -> HpcimgError:
    from hpcimg.errors import StoreError
    from hpcimg.store.faults import size_text

    return StoreError(
        f"this node's copies would have {size_text(size)}, more than stage.bytes, {size_text(most)}"
    )


def _jobs_here() -> frozenset[str]:
    try:
        return frozenset(os.listdir(TICKETS))  # noqa: PTH208 - names alone
    except OSError:
        return frozenset()
