"""What the nodes of one job agreed on, kept in the store: the first that writes decides for all.

Owns the files `jobs/CLUSTER/JOB-UID-SINCE/DIGEST.json`; what is agreed is the caller's matter.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcimg.errors import StoreError, UsageError
from hpcimg.quoting import quoted
from hpcimg.store.entry import UntrustedError, open_directory, read_file
from hpcimg.store.faults import store_faults
from hpcimg.store.files import make_directories, write_new

if TYPE_CHECKING:
    from hpcimg.store.store import Store

JOBS = "jobs"
KEPT_DAYS = 30
"""How long an agreement is kept: no job's nodes start further apart."""

_VERSION = 1
_FILE_LIMIT = 1 << 20
_DAY_SECONDS = 24 * 3600
_SWEPT = ".swept"
STEPS = "steps"
"""Where `steps` keeps what a job ran, beside its agreements."""
_SWEEP_SECONDS = 1.0
_CLUSTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_NUMBER = re.compile(r"[0-9]{1,20}")
_HINT = "remove that file as the store's account; the job's other nodes may have started"


@dataclass(frozen=True)
class JobKey:
    """What tells a job from all others, also from an older one of its number.

    `since` is when it was submitted or started, in seconds since 1970, as Slurm says it. The uid is
    part of it, so that a user who forges the rest meets only their own jobs.
    """

    cluster: str
    job: str
    user: str
    since: str

    def __post_init__(self) -> None:
        """Check the words, since they become a path."""
        numbers = (self.job, self.user, self.since)
        for word, form in ((self.cluster, _CLUSTER), *((number, _NUMBER) for number in numbers)):
            if not form.fullmatch(word):
                raise UsageError(
                    f"{quoted(word)} is no part of a job's name",
                    "give cluster, job number, uid and start time as Slurm has them",
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The directories that lead to the job's agreements, from the store's root."""
        return JOBS, self.cluster, f"{self.job}-{self.user}-{self.since}"


def agree(
    store: Store, job: JobKey, subject: Mapping[str, Any], terms: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Propose terms for a subject; the answer are the first proposal's, which hold for all.

    Both are JSON objects. Only the store's account may write. Raises StoreError.
    """
    store.prepare()
    with store_faults("keep what a job's nodes agree on", store.root):
        folder = make_directories(store.root, job.names, 0o755)
        _publish(folder / _file_name(subject), _write(subject, terms))
    found = read_agreement(store, job, subject)
    _sweep(store.root / JOBS)
    if found is None:
        raise StoreError(f'"{folder}" lost what was just written into it', _HINT)
    return found


def read_agreement(
    store: Store, job: JobKey, subject: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """Read the terms that hold for a subject; None when nothing is agreed yet.

    Raises StoreError for a file that somebody else could have written, or that is not whole.
    """
    name = _file_name(subject)
    try:
        with open_directory(store.root, job.names, store.owner) as directory:
            return _parse(read_file(directory, name, store.owner, _FILE_LIMIT), subject)
    except FileNotFoundError:
        return None
    except (OSError, UntrustedError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        path = store.root.joinpath(*job.names, name)
        raise StoreError(f'not using the agreement "{path}": {reason}', _HINT) from error


def read_earlier(store: Store, job: JobKey, subject: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Read the newest terms from before this start of a job that was started again.

    Raises StoreError as `read_agreement` does.
    """
    for since in _earlier_starts(store, job):
        found = read_agreement(store, replace(job, since=str(since)), subject)
        if found is not None:
            return found
    return None


def _earlier_starts(store: Store, job: JobKey) -> list[int]:
    """List the starts of the same job and user before this one, the newest first."""
    start = f"{job.job}-{job.user}-"
    try:
        names = [path.name for path in (store.root / JOBS / job.cluster).iterdir()]
    except OSError:
        return []
    words = (name.removeprefix(start) for name in names if name.startswith(start))
    starts = (int(word) for word in words if _NUMBER.fullmatch(word))
    return sorted((one for one in starts if one < int(job.since)), reverse=True)


def _file_name(subject: Mapping[str, Any]) -> str:
    return f"{hashlib.sha256(_canonical(subject)).hexdigest()}.json"


def _canonical(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _write(subject: Mapping[str, Any], terms: Mapping[str, Any]) -> bytes:
    by = {"host": os.uname().nodename, "pid": os.getpid(), "since": int(time.time())}
    record = {"version": _VERSION, "subject": subject, "terms": terms, "by": by}
    return json.dumps(record, indent=2, sort_keys=True).encode() + b"\n"


def _parse(raw: bytes, subject: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        record = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON") from error
    if not isinstance(record, dict) or record.get("version") != _VERSION:
        raise ValueError(f"it is not an object of version {_VERSION}")
    if record.get("subject") != json.loads(_canonical(subject)):
        raise ValueError("it is of another subject")
    if isinstance(terms := record.get("terms"), dict):
        return terms
    raise ValueError("it has no terms")


def _publish(path: Path, raw: bytes) -> None:
    """Put a whole file in its place, unless there is one: a link is atomic and overwrites none."""
    temporary = path.with_name(f".{os.uname().nodename}.{os.urandom(8).hex()}")
    try:
        write_new(temporary, raw)
        path.hardlink_to(temporary)
    except FileExistsError:
        pass
    finally:
        temporary.unlink(missing_ok=True)


def _sweep(jobs: Path) -> None:
    """Remove what is too old, once a day for the whole site, as far as a launch can wait for it."""
    now = time.time()
    with contextlib.suppress(OSError):
        if not _claims(jobs, now):
            return
        import shutil

        until = time.monotonic() + _SWEEP_SECONDS
        for folder in jobs.glob("*/*"):
            if time.monotonic() > until:
                return
            if _is_old(folder, now):
                shutil.rmtree(folder, ignore_errors=True)


def old_jobs(root: Path, now: float) -> Iterator[Path]:
    """List the folders of jobs that are too old, of all clusters; `now` is since 1970."""
    return (folder for folder in (root / JOBS).glob("*/*") if _is_old(folder, now))


def remove_jobs(root: Path, folders: Iterable[Path]) -> int:
    """Remove these, however long it takes, and say how many are gone; launches need not sweep."""
    import shutil

    gone = 0
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        gone += not os.path.lexists(folder)
    with contextlib.suppress(OSError):
        (root / JOBS / _SWEPT).touch()
    return gone


def _is_old(folder: Path, now: float) -> bool:
    """Tell whether nothing was kept there for too long; what a job ran is kept at its end."""
    for path in (folder, folder / STEPS):
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime >= now - KEPT_DAYS * _DAY_SECONDS:
                return False
    return os.path.lexists(folder)


def _claims(jobs: Path, now: float) -> bool:
    """Take the day's sweep: of all that find yesterday's mark, one moves it away, and sweeps."""
    mark = jobs / _SWEPT
    try:
        if mark.lstat().st_mtime > now - _DAY_SECONDS:
            return False
    except FileNotFoundError:
        mark.touch(exist_ok=False)
        return True
    taken = jobs / f".{os.urandom(8).hex()}"
    mark.rename(taken)
    # Another may have renewed it since it was looked at.
    is_mine = taken.lstat().st_mtime <= now - _DAY_SECONDS
    taken.unlink(missing_ok=True)
    mark.touch()
    return is_mine
