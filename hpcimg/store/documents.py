"""Small documents of registries, kept by their digest: what does not change is asked for once.

Knows no registry and no format. Every document is checked against its digest when it is read, and
whatever fails here only costs another request, so nothing is ever raised.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.errors import HpcimgError, StoreError
from hpcimg.oci.digest import is_digest, verify_digest
from hpcimg.store.entry import UntrustedError, open_directory, read_file
from hpcimg.store.files import make_directory, replace_file

if TYPE_CHECKING:
    from hpcimg.store.lock import EntryLock

DOCUMENTS = "documents"
DOCUMENT_LIMIT = 4 << 20

ANSWER_SECONDS = 3600.0
"""How long an answer counts that has no digest, and may be another one later."""

MOST_FILES = 10_000
MOST_BYTES = 64 << 20

ALONE_SECONDS = 60.0
"""How long to wait for who asks a registry the same; after it, both ask."""

_ANSWERS = "answers"
_LOCKS = "locks"
_LOCK_DIGITS = 2
_POLL_SECONDS = (0.01, 0.16)
_TIME = re.compile(r"[0-9]{1,18}")
_SWEEPS_IN_256 = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """A directory of documents that uid `owner` writes; a `private` one is closed to others.

    `lock` is one of `settings.LOCKS`, for those who would ask the same at once.
    """

    root: Path
    owner: int
    private: bool = False
    lock: str = "flock"


@dataclass(frozen=True)
class Answer:
    """What a registry said, so many seconds ago."""

    text: str
    age: float


class DocumentCache:
    """Reads what any of the places has, and writes into `writable` where there is one."""

    def __init__(
        self,
        readable: tuple[Place, ...],
        writable: Place | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._readable = readable
        self._writable = writable
        self._clock = clock

    def document(self, digest: str) -> bytes | None:
        """Give the bytes of this digest; bytes that are others by now count as none."""
        if not is_digest(digest):
            return None
        algorithm, _, name = digest.partition(":")
        for place in self._readable:
            raw = _read(place, algorithm, name)
            if raw is not None and _is(raw, digest):
                return raw
        return None

    def keep_document(self, digest: str, raw: bytes) -> None:
        """Keep the bytes of this digest, where they may be written and are not too many.

        What any place has is not written again: a thousand nodes read one tag.
        """
        algorithm, _, name = digest.partition(":")
        if len(raw) <= DOCUMENT_LIMIT and _is(raw, digest) and self.document(digest) is None:
            self._write(algorithm, name, raw)

    def answer(self, question: str, seconds: float = ANSWER_SECONDS) -> str | None:
        """Give what was answered so many seconds ago or later; None when that is not known."""
        for place in self._readable:
            found = self._answer_of(place, question)
            # The site asks without credentials: what it was refused counts as nothing attached.
            if found and found.age < seconds and (found.text or place == self._writable):
                return found.text
        return None

    def newest_answer(self, question: str) -> Answer | None:
        """Give the last answer that any place has, and its age; None when there is none."""
        found = (self._answer_of(place, question) for place in self._readable)
        return min((one for one in found if one), key=lambda one: one.age, default=None)

    def _answer_of(self, place: Place, question: str) -> Answer | None:
        raw = _read(place, _ANSWERS, _name_of(question))
        asked, _, text = (raw or b"").decode(errors="replace").partition("\n")
        # Nodes' clocks differ: a time that is still to come is as good as one just past.
        return Answer(text, abs(self._clock() - int(asked))) if _TIME.fullmatch(asked) else None

    def keep_answer(self, question: str, text: str) -> None:
        """Keep an answer for an hour."""
        raw = f"{int(self._clock())}\n{text}".encode()
        self._write(_ANSWERS, _name_of(question), raw)

    @contextmanager
    def alone(self, subject: str, kind: str = "ask") -> Iterator[None]:
        """Let one at a time ask the registry about a subject; look again what is kept by then.

        It only saves requests: where there can be no lock, or it is held for too long, none is
        taken. A subject's lock file is one of a few, which stay; who holds one of a kind may take
        one of another kind, and none of the same.
        """
        if self._writable is None:
            yield
            return
        from hpcimg.store.lock_kinds import brief_lock
        from hpcimg.store.owner import current_owner

        name = f"{kind}-{_name_of(subject)[:_LOCK_DIGITS]}"
        path = self._writable.root.parent / _LOCKS / name
        lock = brief_lock(self._writable.lock, path, current_owner())
        try:
            _take(lock, ALONE_SECONDS)
            yield
        finally:
            lock.release()

    def _write(self, folder: str, name: str, raw: bytes) -> None:
        """Write a file, whole or not at all; not synced, since it is checked when it is read."""
        place = self._writable
        if place is None:
            return
        directory = place.root / folder
        try:
            for path in (place.root.parent, place.root, directory):
                make_directory(path, 0o700 if place.private else 0o755)
            mode = 0o600 if place.private else 0o644
            replace_file(directory / name, raw, mode, synced=False)
            if os.urandom(1)[0] < _SWEEPS_IN_256:
                sweep(place.root)
        except OSError as error:
            log.debug('not keeping a document in "%s": %s', directory, error.strerror)


def sweep(root: Path, most_files: int = MOST_FILES, most_bytes: int = MOST_BYTES) -> None:
    """Remove the oldest files until the rest is within the limits; raises OSError."""
    found = []
    for directory in os.scandir(root):
        if directory.is_dir(follow_symlinks=False):
            for file in os.scandir(directory):
                status = file.stat(follow_symlinks=False)
                found.append((status.st_mtime, status.st_size, file.path))
    files, size = len(found), sum(one[1] for one in found)
    for _, own, path in sorted(found):
        if files <= most_files and size <= most_bytes:
            return
        Path(path).unlink(missing_ok=True)
        files, size = files - 1, size - own


def _read(place: Place, folder: str, name: str) -> bytes | None:
    try:
        with open_directory(place.root, (folder,), place.owner) as directory:
            return read_file(directory, name, place.owner, DOCUMENT_LIMIT)
    except FileNotFoundError:
        return None
    except (OSError, UntrustedError) as error:
        log.debug('not reading a document in "%s": %s', place.root / folder, error)
        return None


def _take(lock: EntryLock, seconds: float) -> None:
    """Take a lock, or give it up after so long."""
    from hpcimg.store.lock import Patience

    patience = Patience(seconds, seconds / 2, _POLL_SECONDS)
    try:
        make_directory(lock.path.parent.parent, 0o755)
        make_directory(lock.path.parent, 0o700)
        while not lock.try_acquire(synced=False):
            if patience.is_over(lock.path):
                lock.pass_over(patience.seen)
                continue
            time.sleep(patience.pause())
    except OSError as error:
        log.debug('asking without a lock in "%s": %s', lock.path.parent, error.strerror)
    except StoreError as error:
        log.debug("asking without a lock: %s", error.message)


def _is(raw: bytes, digest: str) -> bool:
    try:
        verify_digest(raw, digest)
    except HpcimgError as error:
        log.debug("not using a document: %s", error.message)
        return False
    return True


def _name_of(question: str) -> str:
    return hashlib.sha256(question.encode()).hexdigest()
