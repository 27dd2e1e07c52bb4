"""What requests of a store came to: a line for each, in one file for each host, summed up in time.

Owns `stats/HOST.jsonl`, which only its host appends to, `stats/HOST.json`, the sums of what was
taken out of it, and `stats/HOST.full-N` meanwhile. Counting never stops a launch.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpcimg.errors import StoreError
from hpcimg.store.entry import UntrustedError, open_directory, read_file
from hpcimg.store.files import make_directory, replace_file
from hpcimg.store.store import Store
from hpcimg.tally import Event, Tally, bounded, joined, parse_event, parse_tally, tally

STATS = "stats"
FILE_BYTES = 128 << 10
"""A file of lines that is larger is summed up; so a host never takes more than about twice it."""

_LINE_BYTES = 4096
_MOST_BYTES = 4 * FILE_BYTES
_SUMS_LIMIT = 1 << 20
_VERSION = 1
_ATTEMPTS = 5
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,200}[A-Za-z0-9_])?")
_FILE = re.compile(r"(.+)\.(?:json|jsonl|full-[0-9]{1,9})")
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK

log = logging.getLogger(__name__)


def note_event(store: Store, event: Event) -> None:
    """Add a line, where this process is the store's account; whatever fails is only logged."""
    if os.geteuid() != store.owner:
        return
    try:
        _append(store, os.uname().nodename, event)
    except (OSError, StoreError) as error:
        log.debug('not counting in "%s": %s', store.root / STATS, error)


def read_events(store: Store) -> Tally:
    """Sum up what all hosts noted; what others could have written, or is broken, is passed over."""
    return joined(_of_host(store, host) for host in sorted(_hosts(store)))


def _append(store: Store, host: str, event: Event) -> None:
    line = json.dumps(event.to_fields(), separators=(",", ":")).encode() + b"\n"
    if not _HOST.fullmatch(host) or len(line) > _LINE_BYTES:
        return
    folder = store.root / STATS
    if not folder.is_dir():
        store.prepare()
        make_directory(folder, 0o755)
    lines = folder / f"{host}.jsonl"
    descriptor = os.open(lines, _FLAGS | os.O_APPEND, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size == 0:
            os.fchmod(descriptor, 0o644)
        if size < _MOST_BYTES:
            # One write: the lines of launches that come together do not mix.
            os.write(descriptor, line)
    finally:
        os.close(descriptor)
    if size > FILE_BYTES:
        _sum_up(store, folder, host)


def _sum_up(store: Store, folder: Path, host: str) -> None:
    """Put the lines into the sums; who dies in between leaves a file that counts until it is in."""
    descriptor = os.open(folder / f"{host}.lock", _FLAGS, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError as error:
            # Without locks two of one host may sum up at once, and some lines may get lost.
            log.debug("no lock for %s: %s", folder, error.strerror)
        done, sums = _sums(store, host)
        full = folder / f"{host}.full-{done + 1}"
        if not full.exists():
            (folder / f"{host}.jsonl").rename(full)
        whole = bounded(joined((sums, _lines(store, full.name))))
        _write_sums(folder, host, done + 1, whole)
        full.unlink()
    finally:
        os.close(descriptor)


def _write_sums(folder: Path, host: str, done: int, whole: Tally) -> None:
    document = {"version": _VERSION, "done": done, **whole.to_fields()}
    raw = json.dumps(document, separators=(",", ":")).encode()
    replace_file(folder / f"{host}.json", raw)


def _of_host(store: Store, host: str) -> Tally:
    """Read a host's files as they are between two changes: a counter must not go backwards.

    Their names are known, so that nothing is listed for each of thousands of hosts.
    """
    whole = Tally()
    for _ in range(_ATTEMPTS):
        done, sums = _sums(store, host)
        full = store.root / STATS / f"{host}.full-{done + 1}"
        before = full.exists()
        whole = joined((sums, _lines(store, full.name), _lines(store, f"{host}.jsonl")))
        if (before, done) == (full.exists(), _sums(store, host)[0]):
            break
    return whole


def _hosts(store: Store) -> set[str]:
    try:
        names = [path.name for path in (store.root / STATS).iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        message = f'could not list "{store.root / STATS}": {error.strerror}'
        raise StoreError(message, "may you read the store?") from error
    matches = filter(None, map(_FILE.fullmatch, names))
    return {match[1] for match in matches if _HOST.fullmatch(match[1])}


def _sums(store: Store, host: str) -> tuple[int, Tally]:
    try:
        document: Any = json.loads(_read(store, f"{host}.json", _SUMS_LIMIT) or b"{}")
        if document and document["version"] == _VERSION:
            return int(document["done"]), parse_tally(document)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        log.warning('not using "%s": %s', store.root / STATS / f"{host}.json", error)
    return 0, Tally()


def _lines(store: Store, name: str) -> Tally:
    return tally(_events(_read(store, name, _MOST_BYTES + _LINE_BYTES)))


def _events(raw: bytes) -> Iterator[Event]:
    for line in raw.splitlines():
        # A node may have died while it wrote.
        with suppress(ValueError, RecursionError):
            event = parse_event(json.loads(line))
            if event is not None:
                yield event


def _read(store: Store, name: str, limit: int) -> bytes:
    try:
        with open_directory(store.root, (STATS,), store.owner) as directory:
            return read_file(directory, name, store.owner, limit)
    except FileNotFoundError:
        return b""
    except (OSError, UntrustedError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        log.warning('not using "%s": %s', store.root / STATS / name, reason)
        return b""
