"""Make room in the site's store: drop the leases of jobs that have ended, sweep, remove images.

Joins Slurm, which knows the jobs, and the store, which knows what they hold.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcimg.errors import NotFoundError, RuntimeFailure, StoreError, UsageError
from hpcimg.quoting import quoted
from hpcimg.settings import Settings, StoreSettings
from hpcimg.slurm import LiveJobs, live_jobs
from hpcimg.store.account import uid_of
from hpcimg.store.agreement import old_jobs, remove_jobs
from hpcimg.store.lease import Lease
from hpcimg.store.owner import current_owner
from hpcimg.store.prune import (
    Bounds,
    Choice,
    Stored,
    choose,
    drop_ended,
    leases_of,
    remove,
    survey,
    users,
)
from hpcimg.store.store import Store, site_store
from hpcimg.store.sweep import Swept, find_left, remove_left
from hpcimg.workflow.resolve import read_name

NEW_SECONDS = 600.0
"""A lease of the last minutes counts, whatever Slurm says; nodes' clocks differ by less (munge)."""

_DAY = 86_400.0
_LOW = 0.9
_DIGEST = re.compile(r"(?:sha(?:256|512):)?([0-9a-f]{8,128})")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Jobs:
    """Which jobs lived at a time, or why nobody knows; asked before root becomes the account."""

    live: LiveJobs | None
    asked: float
    note: str = ""


@dataclass(frozen=True)
class Pruned:
    """What prune did, or would do; `note` says why it did not drop leases, or is empty.

    `jobs` counts the folders of jobs from long ago.
    """

    removed: tuple[Choice, ...]
    kept: tuple[Stored, ...]
    dropped: tuple[Lease, ...]
    swept: tuple[Swept, ...]
    note: str
    jobs: int = 0


def ask_for_jobs() -> Jobs:
    """Ask Slurm which jobs live. Where it does not say, each lease counts."""
    asked = time.time()
    try:
        return Jobs(live_jobs(os.environ, is_root=os.geteuid() == 0), asked)
    except RuntimeFailure as error:
        return Jobs(None, asked, f"all leases are kept: {error.message}")


def check_account(settings: Settings) -> None:
    """Refuse whoever may not remove images, before anything is asked."""
    account = settings.store.account
    uid = uid_of(account)
    # Of an account that is not there, opening the store says so.
    if uid is not None and os.geteuid() not in {0, uid}:
        message = f'only {account} and root remove images from "{settings.store.path}"'
        raise StoreError(message, f"run it as root, or as {account}")


def bounds(settings: StoreSettings, *, age: float = 0, high: int = 0, low: int = 0) -> Bounds:
    """Make the bounds of one prune: an option, where it is given, counts before the setting."""
    top = high or settings.high_water
    bottom = low or (settings.low_water if not high else 0) or int(top * _LOW)
    if bottom > top:
        what = "the low water mark is above the high one" if top else "there is no high water mark"
        raise UsageError(
            f"{what}, at which removing begins",
            "give --high as well, or a smaller --low" if top else "give --high as well",
        )
    oldest = age or settings.max_age_days * _DAY
    return Bounds(oldest, top, bottom, settings.keep_hours * 3600)


def prune(settings: Settings, limits: Bounds, jobs: Jobs, *, is_dry: bool = False) -> Pruned:
    """Remove what the bounds do not let stay, and what nobody will come back for."""
    store = site_store(settings.store)
    store.prepare()
    here = current_owner()
    ended = _ended(store, jobs, settings)
    left = find_left(store, here, time.time())
    old = _old_jobs(store, jobs)
    if is_dry:
        stored = tuple(_without(one, ended) for one in survey(store))
        removed = choose(stored, limits, time.time())
        count = len(old)
    else:
        ended = drop_ended(store, ended)
        left = remove_left(store, left)
        count = remove_jobs(store.root, old)
        stored = survey(store)
        found = choose(stored, limits, time.time())
        removed = tuple(one for one in found if remove(store, one.stored.key, here))
    gone = {one.stored.key for one in removed}
    kept = tuple(one for one in stored if one.key not in gone)
    return Pruned(removed, kept, ended, left, jobs.note, count)


def remove_named(
    settings: Settings, words: Sequence[str], jobs: Jobs, *, is_forced: bool = False
) -> tuple[Stored, ...]:
    """Remove the images that digests, beginnings of digests or names mean.

    Raises NotFoundError, and StoreError when a job holds one; then none is removed.
    """
    store = site_store(settings.store)
    store.prepare()
    drop_ended(store, _ended(store, jobs, settings))
    found = survey(store)
    meant = {one.key: one for word in words for one in _meant(word, found, settings)}
    for one in meant.values():
        if one.in_use and not is_forced:
            raise _in_use(one)
        if one.in_use:
            log.warning("removing %s, which is in use: %s", one.entry.record.digest, one.in_use)
    here = current_owner()
    for one in meant.values():
        if not remove(store, one.key, here, is_forced=is_forced) and users(store, one.key):
            raise _in_use(one)
    return tuple(meant.values())


def _ended(store: Store, jobs: Jobs, settings: Settings) -> tuple[Lease, ...]:
    """List the leases of jobs that have ended, as far as this cluster's Slurm can say."""
    if jobs.live is None:
        return ()
    live, oldest = jobs.live, jobs.asked - settings.store.lease_days * _DAY
    # A job may have come after Slurm was asked.
    newest = jobs.asked - NEW_SECONDS
    return tuple(
        lease
        for lease in leases_of(store)
        if (
            lease.key.job not in live.numbers and lease.taken < newest
            if lease.key.cluster == live.cluster
            else lease.taken < oldest
        )
    )


def _old_jobs(store: Store, jobs: Jobs) -> tuple[Path, ...]:
    """List what is kept of jobs from long ago, but of one that still runs."""
    found = old_jobs(store.root, time.time())
    if jobs.live is None:
        return tuple(found)
    live = jobs.live
    return tuple(
        one
        for one in found
        if one.parent.name != live.cluster or one.name.partition("-")[0] not in live.numbers
    )


def _without(one: Stored, ended: Sequence[Lease]) -> Stored:
    """Tell how an entry will stand when these leases are dropped: just used, and free of them."""
    over = {f"job {lease.key.job} of {lease.key.cluster}" for lease in ended}
    if not one.in_use or not over:
        return one
    rest = [word for word in one.in_use.split(", ") if word not in over]
    return Stored(one.entry, one.used if rest else time.time(), ", ".join(rest))


def _meant(word: str, stored: Sequence[Stored], settings: Settings) -> list[Stored]:
    match = _DIGEST.fullmatch(word)
    if match:
        found = [
            one for one in stored if one.entry.record.digest.partition(":")[2].startswith(match[1])
        ]
    else:
        name = str(read_name(word, settings))
        found = [one for one in stored if name in one.entry.record.references]
    if not found:
        message = f"the store has no image {quoted(word)}"
        raise NotFoundError(message, "`hpcimg cache ls` lists them, with their digests")
    if match and len({one.entry.record.digest for one in found}) > 1:
        raise UsageError(f"{quoted(word)} is the beginning of several digests", "give more of it")
    return found


def _in_use(one: Stored) -> StoreError:
    return StoreError(
        f"{one.entry.record.digest} is in use: {one.in_use or 'a job came for it just now'}",
        "wait for its jobs, or remove it all the same with --force: they may fail",
    )
