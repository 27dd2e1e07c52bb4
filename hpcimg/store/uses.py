"""Who uses an entry and since when, as far as its leases and its files tell; reads only."""

from __future__ import annotations

import calendar
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpcimg.store.entry import EntryKey

if TYPE_CHECKING:
    from hpcimg.store.entry import Record
    from hpcimg.store.store import Store

LEASES = "leases"


@dataclass(frozen=True)
class Lease:
    """A job that holds an entry, since `taken` (seconds since 1970)."""

    cluster: str
    job: str
    uid: str
    taken: int

    def to_fields(self) -> dict[str, Any]:
        """Give it as a JSON object."""
        return {"cluster": self.cluster, "job": self.job, "uid": self.uid, "taken": self.taken}


@dataclass(frozen=True)
class Uses:
    """The leases of an entry, and when it was last used (seconds since 1970)."""

    leases: tuple[Lease, ...]
    last: int


def read_uses(store: Store, record: Record) -> Uses:
    """Read an entry's leases; one that was never used was last used when it was made."""
    key = EntryKey(record.digest, record.converter)
    leases = []
    last = _made(record)
    # Prune may take the directory, or a lease, away meanwhile.
    with suppress(OSError), os.scandir(store.root / LEASES / key.algorithm / key.name) as listing:
        for one in listing:
            with suppress(OSError):
                taken = int(one.stat(follow_symlinks=False).st_mtime)
                last = max(last, taken)
                cluster, _, rest = one.name.partition("~")
                job, _, uid = rest.partition("~")
                # The stamp of a use that is over is a name of another form.
                if job and uid:
                    leases.append(Lease(cluster, job, uid, taken))
    return Uses(tuple(sorted(leases, key=lambda lease: (lease.cluster, lease.job))), last)


def utc_text(seconds: float) -> str:
    """Write a time as records have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _made(record: Record) -> int:
    try:
        return calendar.timegm(time.strptime(record.created, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return 0
