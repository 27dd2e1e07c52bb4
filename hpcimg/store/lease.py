"""The shared right to use an entry: while a job holds one, prune lets the entry be.

Owns the files `leases/ALGORITHM/ENTRY/CLUSTER~JOB~UID`. A lease is its name, which needs no block
of a full disk; what stands in it is for people. Whether a job still lives is not its matter.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpcimg.errors import StoreError
from hpcimg.store.entry import EntryKey, UntrustedError, open_directory
from hpcimg.store.faults import fault

if TYPE_CHECKING:
    from hpcimg.store.store import Store

LEASES = "leases"
USED = "used"
"""The stamp that stays when an entry's last lease has gone: its time is that of the last use."""

UNKNOWN_CLUSTER = "_"
_CLUSTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_NUMBER = re.compile(r"[0-9]{1,20}")
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeaseKey:
    """Which job holds a lease: one for all its nodes and steps."""

    cluster: str
    job: str
    uid: str

    @property
    def name(self) -> str:
        """The file's name; no part of it holds a tilde."""
        return f"{self.cluster}~{self.job}~{self.uid}"


@dataclass(frozen=True)
class Lease:
    """A lease as it is found; `taken` is when it was last asked for, in seconds since 1970."""

    entry: EntryKey
    key: LeaseKey
    taken: float


def lease_key(cluster: str, job: str, uid: str) -> LeaseKey | None:
    """Name the lease of a job as Slurm says it; None where there is no job.

    A step may not know its cluster, and its user can forge it, so a wrong word counts as unknown:
    such a lease is kept as another cluster's.
    """
    if not _NUMBER.fullmatch(job):
        return None
    known = cluster if _CLUSTER.fullmatch(cluster) else UNKNOWN_CLUSTER
    return LeaseKey(known, job, uid if _NUMBER.fullmatch(uid) else UNKNOWN_CLUSTER)


def take_lease(store: Store, key: LeaseKey, entry: EntryKey, image: str = "") -> None:
    """Hold an entry for a job, before it is looked up; raises StoreError.

    It may be asked for by all nodes and steps of the job at once. `image` is for people.
    """
    try:
        # Prune may take an empty directory away between its making and its use.
        for _ in range(3):
            try:
                with open_directory(store.root, _way(entry), store.owner) as directory:
                    _put(directory, key, image)
                    return
            except FileNotFoundError:
                _make_way(store, entry)
    except UntrustedError as error:
        message = f'the leases of the store "{store.root}" are not safe: {error}'
        hint = "give the store to its account alone (chown, chmod go-w)"
        raise StoreError(message, hint) from error
    except OSError as error:
        raise fault("take a lease on an image", store.root, error) from error
    raise StoreError(f'could not take a lease in "{store.root}": its directory does not stay')


def hold(store: Store, key: LeaseKey, entry: EntryKey, image: str) -> None:
    """Take a lease; where that fails, warn and go on: an image that is there can be run."""
    try:
        take_lease(store, key, entry, image)
    except StoreError as error:
        log.warning("%s; the job's image is not safe from prune", error.message)
        # Needs no space, and keeps it for `store: {keep_hours}` at least.
        with suppress(OSError):
            os.utime(entry.place(store.root))


def read_leases(store: Store, entry: EntryKey) -> tuple[Lease, ...]:
    """List an entry's leases; raises OSError, and UntrustedError where others may write them."""
    try:
        with open_directory(store.root, _way(entry), store.owner) as directory:
            with os.scandir(directory) as listing:
                names = [one.name for one in listing if one.name != USED and one.name[0] != "."]
            found = [(name, _time(directory, name)) for name in names]
            return tuple(Lease(entry, _key(name), taken) for name, taken in found if taken)
    except FileNotFoundError:
        return ()


def look_afresh(store: Store, entry: EntryKey) -> None:
    """Have an NFS client ask its server for the next list of leases, and not its cache.

    A change of its own makes it do so, and that of a time needs no space.
    """
    path = store.root
    for name in _way(entry):
        path /= name
        with suppress(OSError):
            os.utime(path)


def all_leased(store: Store) -> Iterator[EntryKey]:
    """Name the entries that have a directory of leases, whether or not the entries are there."""
    for path in sorted((store.root / LEASES).glob("*/*")):
        digest, _, converter = path.name.partition(".")
        yield EntryKey(f"{path.parent.name}:{digest}", converter)


def drop_lease(store: Store, lease: Lease) -> bool:
    """Remove a lease, unless it was asked for again; the time of the last use stays."""
    with open_directory(store.root, _way(lease.entry), store.owner) as directory:
        # The job's number may come round again.
        if _time(directory, lease.key.name) != lease.taken:
            return False
        with suppress(OSError):
            os.close(os.open(USED, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=directory))
            os.utime(USED, dir_fd=directory)
        os.unlink(lease.key.name, dir_fd=directory)
    return True


def forget(store: Store, entry: EntryKey) -> None:
    """Remove what is left of the leases of an entry that is gone, unless there is one again."""
    folder = store.root.joinpath(*_way(entry))
    with suppress(OSError):
        if [path.name for path in folder.iterdir()] == [USED]:
            (folder / USED).unlink()
        folder.rmdir()


def last_use(store: Store, entry: EntryKey, leases: tuple[Lease, ...]) -> float:
    """Say when an entry was made, or last leased, whichever is newer."""
    times = [lease.taken for lease in leases]
    for path in (entry.place(store.root), store.root.joinpath(*_way(entry), USED)):
        with suppress(OSError):
            times.append(path.lstat().st_mtime)
    return max(times, default=0.0)


def _way(entry: EntryKey) -> tuple[str, str, str]:
    return LEASES, entry.algorithm, entry.name


def _make_way(store: Store, entry: EntryKey) -> None:
    from hpcimg.store.files import make_directories

    store.prepare()
    make_directories(store.root, _way(entry), 0o700)


def _put(directory: int, key: LeaseKey, image: str) -> None:
    try:
        descriptor = os.open(key.name, _FLAGS, 0o600, dir_fd=directory)
    except FileExistsError:
        os.utime(key.name, dir_fd=directory, follow_symlinks=False)
        return
    fields = {
        "job": key.job,
        "cluster": key.cluster,
        "uid": key.uid,
        "host": os.uname().nodename,
        "taken": int(time.time()),
        "image": image,
    }
    try:
        # Its name says all that prune needs; a full disk holds names when it holds no blocks.
        with suppress(OSError):
            os.write(descriptor, json.dumps(fields).encode() + b"\n")
    finally:
        os.close(descriptor)


def _key(name: str) -> LeaseKey:
    """Read a name back; one that we did not make keeps its entry as well."""
    parts = name.split("~")
    return LeaseKey(*parts) if len(parts) == 3 else LeaseKey(UNKNOWN_CLUSTER, name, UNKNOWN_CLUSTER)


def _time(directory: int, name: str) -> float:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return 0.0
