"""What the steps of a job ran on each of its nodes, kept in the store beside what it agreed on.

Owns the files `jobs/CLUSTER/JOB-UID-SINCE/steps/*.json`: one of each question while the job runs,
and one of each node when it has ended. What they say is text that users had a part in.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpcimg.errors import StoreError
from hpcimg.store.agreement import JOBS, STEPS, JobKey
from hpcimg.store.entry import UntrustedError, open_directory, read_file
from hpcimg.store.faults import store_faults
from hpcimg.store.files import make_directories, replace_file

if TYPE_CHECKING:
    from hpcimg.store.store import Store

STEPS_BYTES = 1 << 20
"""What the plugin lets a node's list grow to; later steps are not in it."""

_FILE_LIMIT = 4 << 20
_KEY = re.compile(r"[a-z]{1,16}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_ENDED = ".json"
_RUNNING = ".start.json"

Start = Mapping[str, str]
"""What one step started on one node, as `hpcimg get` prints it, and its `step`, `at`, `scope`."""


@dataclass(frozen=True)
class StepFile:
    """Names a record: the job's own number, which components do not share, node and step."""

    job: str
    node: str
    step: str = ""

    def __post_init__(self) -> None:
        """Check the words, since they become a path."""
        if not all(_WORD.fullmatch(word) for word in (self.job, self.node, self.step or "0")):
            raise StoreError("there is no name for the record of this job, node and step")

    @property
    def name(self) -> str:
        """The file's name without its end."""
        return f"{self.job}.{self.node}"


def parse_start(text: str) -> dict[str, str]:
    """Read the lines of one start: a key, an equals sign, a value; what is none is passed over."""
    found: dict[str, str] = {}
    for line in text.split("\n"):
        key, equals, value = line.partition("=")
        if equals and _KEY.fullmatch(key):
            found.setdefault(key, value)
    return found


def parse_starts(text: str) -> tuple[dict[str, str], ...]:
    """Read a node's list: an empty line ends each start."""
    return tuple(filter(None, (parse_start(block) for block in text.split("\n\n"))))


def keep_start(store: Store, key: JobKey, file: StepFile, start: Start) -> None:
    """Keep what a running job was given, until its end is recorded; raises StoreError."""
    name = f"{file.name}.{file.step or 'prolog'}{_RUNNING}"
    _write(store, key, name, {"node": file.node, "job": file.job, "starts": [start]})


def keep_node(store: Store, key: JobKey, file: StepFile, starts: tuple[Start, ...]) -> None:
    """Keep what all steps of a job ran on one node, in place of what was kept meanwhile."""
    record = {"node": file.node, "job": file.job, "starts": starts, "has_ended": True}
    _write(store, key, f"{file.name}{_ENDED}", record)
    folder = store.root.joinpath(*key.names, STEPS)
    with store_faults("record what a job ran", store.root):
        for path in folder.glob(f"{file.name}.*{_RUNNING}"):
            path.unlink(missing_ok=True)


def read_nodes(store: Store, key: JobKey) -> tuple[Mapping[str, Any], ...]:
    """Read the records of one job; what is not whole, or could be another's, is passed over."""
    names = (*key.names, STEPS)
    try:
        listed = sorted(path.name for path in store.root.joinpath(*names).iterdir())
    except OSError:
        return ()
    files = (name for name in listed if name.endswith(_ENDED) and not name.startswith("."))
    found = (_read(store, names, file) for file in files)
    return tuple(one for one in found if _is_record(one))


def _read(store: Store, names: tuple[str, ...], file: str) -> Any:
    try:
        with open_directory(store.root, names, store.owner) as directory:
            return json.loads(read_file(directory, file, store.owner, _FILE_LIMIT))
    except (OSError, UntrustedError, ValueError, RecursionError):
        return None


def job_keys(store: Store, job: str) -> Iterator[JobKey]:
    """List the starts of all jobs of a number, of all clusters, users and times."""
    for folder in sorted((store.root / JOBS).glob(f"*/{int(job)}-*-*")):
        words = folder.name.split("-")
        if len(words) == 3 and all(word.isdecimal() for word in words):
            yield JobKey(folder.parent.name, *words)


def _is_record(one: object) -> bool:
    if not isinstance(one, dict) or not isinstance(one.get("starts"), list):
        return False
    return all(
        isinstance(start, dict) and all(isinstance(value, str) for value in start.values())
        for start in one["starts"]
    )


def _write(store: Store, key: JobKey, name: str, record: Mapping[str, Any]) -> None:
    """Write a record whole; it is not synced, since nothing hangs on it."""
    raw = json.dumps({"version": 1, **record}, indent=1).encode() + b"\n"
    if os.geteuid() != store.owner:
        raise StoreError(f'"{store.root}" is written by its account alone')
    with store_faults("record what a job ran", store.root):
        folder = make_directories(store.root, (*key.names, STEPS), 0o755)
        replace_file(folder / name, raw, synced=False)
