"""What jobs missed: a journal in the store, one file for each node and month.

Owns the files `wanted/YYYY-MM/NODE` and the form of their lines; what is worth a line is not its
matter.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcimg.errors import StoreError
from hpcimg.quoting import quoted
from hpcimg.store.entry import UntrustedError, open_directory, read_file
from hpcimg.store.files import make_directories
from hpcimg.store.profiles import NODE_NAME
from hpcimg.store.store import Store

WANTED = "wanted"
FILE_LIMIT = 2 << 20
"""Bytes; a month of a node that has more to tell tells no more."""
MONTHS_KEPT = 12

log = logging.getLogger(__name__)

_LINE_LIMIT = 4096
_WORDS_LIMIT = 16
_MONTH = re.compile(r"([0-9]{4})-([0-9]{2})")


@dataclass(frozen=True)
class Missed:
    """A job that would have taken another build: `variant` are its words, `got` those it has.

    `got` is None where the job was refused; `time` is in seconds since 1970.
    """

    time: int
    reference: str
    variant: tuple[str, ...]
    job: str
    node: str
    got: tuple[str, ...] | None


def append_missed(store: Store, missed: Missed) -> None:
    """Add a line to this node's file of this month; raises OSError and StoreError.

    One node writes one file, and one write adds one line, so no reader sees half of one.
    """
    if not NODE_NAME.fullmatch(missed.node):
        raise StoreError(f"{quoted(missed.node)} is not the name of a node")
    month = store.root / WANTED / time.strftime("%Y-%m", time.gmtime(missed.time))
    if not month.is_dir():
        store.prepare()
        make_directories(store.root, (WANTED, month.name), 0o755)
        _sweep(month)
    line = _line(missed)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(month / missed.node, flags, 0o644)
    try:
        # Launches of one node that come together; one that is stopped must not hold the others.
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_size + len(line) <= FILE_LIMIT:
            os.fchmod(descriptor, 0o644)
            os.write(descriptor, line)
    finally:
        os.close(descriptor)


def read_missed(store: Store, since: float) -> Iterator[Missed]:
    """Give what the journals of all nodes tell since a time; raises StoreError.

    A line that cannot be read is passed over, since a node may have died while it wrote, and so is
    a file that somebody else could have written.
    """
    oldest = time.strftime("%Y-%m", time.gmtime(max(since, 0)))
    for month in _names(store, ()):
        if not _MONTH.fullmatch(month) or month < oldest:
            continue
        for node in _names(store, (month,)):
            yield from (one for one in _read(store, month, node) if one.time >= since)


def _line(missed: Missed) -> bytes:
    """Write one line; JSON's escapes leave no control character of a stranger's word in it."""
    got = None if missed.got is None else missed.got[:_WORDS_LIMIT]
    line = json.dumps({**asdict(missed), "got": got}, separators=(",", ":"))
    if len(line) >= _LINE_LIMIT:
        line = json.dumps({**asdict(missed), "got": ["..."]}, separators=(",", ":"))
    return line.encode() + b"\n"


def _sweep(newest: Path) -> None:
    """Remove the months that are older than a year; the first launch of a month does it."""
    oldest = _months(newest.name) - MONTHS_KEPT
    for month in newest.parent.iterdir():
        if _MONTH.fullmatch(month.name) and _months(month.name) < oldest:
            with suppress(OSError):
                for path in month.iterdir():
                    path.unlink()
                month.rmdir()


def _months(name: str) -> int:
    year, _, month = name.partition("-")
    return int(year) * 12 + int(month)


def _names(store: Store, below: tuple[str, ...]) -> list[str]:
    try:
        return sorted(path.name for path in store.root.joinpath(WANTED, *below).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        message = f'could not list "{store.root / WANTED}": {error.strerror}'
        raise StoreError(message, "may you read the store?") from error


def _read(store: Store, month: str, node: str) -> Iterator[Missed]:
    try:
        with open_directory(store.root, (WANTED, month), store.owner) as directory:
            raw = read_file(directory, node, store.owner, FILE_LIMIT)
    except FileNotFoundError:
        return
    except (OSError, UntrustedError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        log.warning('not using "%s": %s', store.root / WANTED / month / node, reason)
        return
    for line in raw.splitlines():
        missed = _parse(line)
        if missed is not None:
            yield missed


def _parse(line: bytes) -> Missed | None:
    try:
        document: dict[str, Any] = json.loads(line)
        got = document["got"]
        return Missed(
            time=int(document["time"]),
            reference=str(document["reference"]),
            variant=tuple(str(word) for word in document["variant"]),
            job=str(document["job"]),
            node=str(document["node"]),
            got=None if got is None else tuple(str(word) for word in got),
        )
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
