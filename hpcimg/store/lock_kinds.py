"""How a lock is taken: one class for each kind, since shared file systems differ in what they do.

Each kind has file names of its own: two kinds of lock on one file would both be granted.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.store.lock import BuildState, EntryLock, read_state
from hpcimg.store.owner import Owner

if TYPE_CHECKING:
    from filelock import UnixFileLock

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
# struct flock: type, whence, start, length (0 is the whole file), pid (0 here), padding.
_WHOLE_FILE = struct.Struct("@hhqqi0q")
_HELD = frozenset({errno.EACCES, errno.EAGAIN})


def entry_lock(kind: str, path: Path, owner: Owner) -> EntryLock:
    """Make a lock of one of `settings.LOCKS`; `path` lacks its suffix."""
    make, suffix = _KINDS[kind]
    return make(path.with_name(path.name + suffix), owner)


def brief_lock(kind: str, path: Path, owner: Owner) -> EntryLock:
    """Make one for as long as a request takes, which filelock's import must not double."""
    if kind == "flock":
        return BriefFlock(path.with_name(f"{path.name}.lock"), owner)
    return entry_lock(kind, path, owner)


class FlockLock(EntryLock):
    """flock, through filelock; the file is never unlinked, or it would be two locks at once."""

    _lock: UnixFileLock

    def _take(self) -> int | None:
        from filelock import Timeout, UnixFileLock

        descriptors: list[int] = []
        self._lock = UnixFileLock(
            str(self.path),
            mode=0o644,
            thread_local=False,
            # A soft lock on one node and flock on another would both be granted.
            fallback_to_soft=False,
            on_acquired=descriptors.append,
        )
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return None
        return descriptors[0]

    def _give_back(self, descriptor: int) -> None:
        del descriptor  # filelock's
        self._lock.release()


class FcntlLock(EntryLock):
    """An open file description lock, which a file system with POSIX locks passes to all nodes.

    A plain POSIX lock would be lost as soon as any thread closes the file it reads the record of.
    """

    def _take(self) -> int | None:
        descriptor = os.open(self.path, _FLAGS, 0o644)
        try:
            self._lock(descriptor)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _HELD:
                return None
            raise
        return descriptor

    def _give_back(self, descriptor: int) -> None:
        os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        lock_whole_file(descriptor)


class BriefFlock(FcntlLock):
    """flock without filelock."""

    def _lock(self, descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class LinkLock(EntryLock):
    """A file that is there while the lock is held, for a file system that has no locks at all.

    Nothing gives it back when its holder dies: whoever finds it so takes the file away, by a
    rename, which one of many wins, and puts back what was another's by then.
    """

    def _take(self) -> int | None:
        state = read_state(self.path)
        if state is not None and state.owner.is_gone(self.owner):
            self._take_away(state)
        try:
            return os.open(self.path, _FLAGS | os.O_EXCL, 0o644)
        except FileExistsError:
            return None

    def pass_over(self, judged: BuildState | None) -> None:
        """Take the lock of a holder away that stopped, or lost its node."""
        self._take_away(judged)

    def _give_back(self, descriptor: int) -> None:
        # By its inode: on a full disk there is no record in it.
        own, state = os.fstat(descriptor), read_state(self.path)
        try:
            if os.path.samestat(own, self.path.lstat()):
                self._take_away(state)
        except FileNotFoundError:
            pass  # it was taken for dead, and away
        finally:
            os.close(descriptor)

    def _take_away(self, judged: BuildState | None) -> None:
        if read_state(self.path) != judged:
            return  # another was faster
        aside = self.path.with_name(f".{self.owner.token(os.urandom(8).hex())}")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return
        try:
            if read_state(aside) != judged:
                with suppress(OSError):
                    self.path.hardlink_to(aside)
        finally:
            aside.unlink(missing_ok=True)


class NoLock(EntryLock):
    """No lock: everybody builds, and the first rename decides."""

    def _take(self) -> int | None:
        return os.open(os.devnull, os.O_WRONLY)

    def _give_back(self, descriptor: int) -> None:
        os.close(descriptor)


def lock_whole_file(descriptor: int) -> None:
    """Lock an open file for writing, without waiting; raises OSError."""
    request = _WHOLE_FILE.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)


_KINDS: dict[str, tuple[type[EntryLock], str]] = {
    "flock": (FlockLock, ".lock"),
    "fcntl": (FcntlLock, ".fcntl"),
    "link": (LinkLock, ".link"),
    "none": (NoLock, ".none"),
}
