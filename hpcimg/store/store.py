"""The image store: from a manifest's digest to a converted image, built once for the whole site.

Knows neither registry nor converter: whoever asks brings the builder.
"""

from __future__ import annotations

import errno
import logging
import os
import pwd
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.errors import SettingsError, StoreError
from hpcimg.progress import OnProgress, Progress, silent
from hpcimg.settings import StoreSettings
from hpcimg.store.entry import (
    ENTRIES,
    Entry,
    EntryKey,
    Flaw,
    UntrustedError,
    entry_key,
    key_at,
    open_directory,
    read_entry,
)
from hpcimg.store.faults import store_faults
from hpcimg.store.files import make_directory

if TYPE_CHECKING:
    from hpcimg.store.lease import LeaseKey
    from hpcimg.store.lock import EntryLock
    from hpcimg.store.owner import Owner
    from hpcimg.store.workspace import BuiltImage, Workspace

TEMPORARY = "tmp"
LOCKS = "locks"
QUARANTINE = "quarantine"
BLOBS = "blobs"

STALE_SECONDS = 60.0
"""A builder whose record stood still for so long is stopped, or lost with its node."""

Builder = Callable[["Workspace"], "BuiltImage"]

log = logging.getLogger(__name__)


class Store:
    """One store: the directory `root`, written by uid `owner` alone.

    A `private` one is closed to other users; `lock_timeout` and `stale` are in seconds, `lock` is
    one of `settings.LOCKS`, `blob_bytes` bounds the layers that are kept for other images.
    """

    def __init__(
        self,
        root: Path,
        owner: int,
        *,
        private: bool = False,
        lock_timeout: float = 3600.0,
        stale: float = STALE_SECONDS,
        lock: str = "flock",
        blob_bytes: int = 0,
    ) -> None:
        self.root = root
        self.blob_bytes = blob_bytes
        self.owner = owner
        self.lock = lock
        self.lock_timeout = lock_timeout
        self.stale = stale
        self._mode = 0o700 if private else 0o755

    def lookup(self, digest: str, converter: str) -> Entry | None:
        """Find a whole, trusted entry, without any lock; None when it has to be built."""
        found = read_entry(self.root, entry_key(digest, converter), self.owner)
        if isinstance(found, Flaw):
            log.warning('not using "%s": %s', found.path, found.reason)
            return None
        return found

    def ensure(
        self,
        digest: str,
        converter: str,
        build: Builder,
        *,
        on_progress: OnProgress = silent,
        job: str = "",
        lease: LeaseKey | None = None,
        image: str = "",
    ) -> Entry:
        """Find the entry, or build it; of all who ask at once, one builds and the others wait.

        A `lease` is taken first, so that nobody prunes what was just found; `image` is its name.
        Raises StoreError (no space, no rights), LockTimeoutError, and what `build` raises.
        Afterwards there is the whole entry, or nothing.
        """
        key = entry_key(digest, converter)
        if lease is not None:
            from hpcimg.store.lease import hold

            hold(self, lease, key, image)
        found = self.lookup(digest, converter)
        if found is not None:
            log.info('found in the store: "%s"', found.path)
            return found
        # From here on it may take minutes: what follows is not for the warm path's start-up time.
        from hpcimg.store.lock_kinds import entry_lock
        from hpcimg.store.owner import current_owner

        self.prepare()
        owner = current_owner(job)
        lock = entry_lock(self.lock, self.root / LOCKS / key.name, owner)
        try:
            found = self._wait(lock, key, on_progress)
            if found is not None:
                log.info('built by somebody else meanwhile: "%s"', found.path)
                return found
            return self._make(lock, key, owner, build, on_progress)
        finally:
            lock.release()

    def entries(self) -> tuple[Entry, ...]:
        """List the whole, trusted entries in the order of their names."""
        found = []
        with store_faults("list the entries", self.root):
            for path in sorted((self.root / ENTRIES).glob("*/*")):
                try:
                    key = key_at(path)
                    entry = self.lookup(key.digest, key.converter)
                except StoreError as error:
                    log.warning('not listing "%s": %s', path, error.message)
                    continue
                if entry is not None:
                    found.append(entry)
        return tuple(found)

    def prepare(self) -> None:
        """Make the store's directories where they are missing; raises StoreError.

        Only the store's own account may: what root made, the account could not write later.
        """
        if os.geteuid() != self.owner:
            raise StoreError(
                f'the store "{self.root}" is written only by {_account_name(self.owner)}',
                "an image that only you may read goes into your own store",
            )
        with store_faults("make the store", self.root):
            make_directory(self.root, self._mode)
            for name, mode in (
                (ENTRIES, 0o755),
                # Who may open a lock file may hold it, reading is enough.
                (LOCKS, 0o700),
                (TEMPORARY, 0o700),
                (QUARANTINE, 0o700),
            ):
                make_directory(self.root / name, mode)
                self._check_safe(name)
            # Here and not with each entry: none is bad because of the directory that holds all.
            for path in sorted((self.root / ENTRIES).iterdir()):
                self._check_safe(ENTRIES, path.name)

    def _check_safe(self, *names: str) -> None:
        """Raise StoreError where others can write a directory of the store."""
        try:
            with open_directory(self.root, names, self.owner):
                pass
        except UntrustedError as error:
            raise StoreError(
                f'the store "{self.root}" is not safe: {error}',
                "give it to its account alone (chown, chmod go-w)",
            ) from error

    def quarantine(self, flaw: Flaw) -> None:
        """Move a bad entry aside and say so; raises OSError, StoreError."""
        aside = self.set_aside(flaw)
        log.warning('moved "%s" to "%s": %s', flaw.path, aside, flaw.reason)

    def set_aside(self, flaw: Flaw) -> Path:
        """Move a bad entry aside, for the administrator to look at; raises OSError, StoreError."""
        aside = self.root / QUARANTINE / f"{flaw.path.name}.{os.urandom(4).hex()}"
        try:
            flaw.path.rename(aside)
        except PermissionError as error:
            raise self._immovable(flaw) from error
        return aside

    def _wait(self, lock: EntryLock, key: EntryKey, on_progress: OnProgress) -> Entry | None:
        """Wait for the lock, or for the entry; None when it is ours to build."""
        from hpcimg.store.lock import Patience

        patience = Patience(self.lock_timeout, self.stale)
        while not lock.try_acquire():
            found = read_entry(self.root, key, self.owner)
            if isinstance(found, Entry):
                return found
            if patience.is_over(lock.path):
                log.warning('the builder that holds "%s" stopped; going past it', lock.path)
                lock.pass_over(patience.seen)
                continue
            on_progress(patience.progress())
            time.sleep(patience.pause())
        return None

    def _make(
        self,
        lock: EntryLock,
        key: EntryKey,
        owner: Owner,
        build: Builder,
        on_progress: OnProgress,
    ) -> Entry:
        """Look once more, now that nobody else builds; then build, seal and publish."""
        from hpcimg.store.sweep import sweep_dead
        from hpcimg.store.workspace import open_workspace, seal

        found = read_entry(self.root, key, self.owner)
        if isinstance(found, Entry):
            log.info('built by somebody else meanwhile: "%s"', found.path)
            return found

        def report(progress: Progress) -> None:
            if not progress.part:  # those who wait are told of the whole
                lock.report(progress)
            on_progress(progress)

        with lock.beating(), store_faults("build an entry", self.root):
            if found is not None:
                self.quarantine(found)
            sweep_dead(self, owner)
            with open_workspace(self.root / TEMPORARY, owner, report) as workspace:
                built = build(workspace)
                report(Progress("publish"))
                seal(workspace, key, built, owner)
                entry = self._publish(workspace, key)
        log.info('built and kept: "%s"', entry.path)
        return entry

    def _immovable(self, flaw: Flaw) -> StoreError:
        """Say what stands in the way: nobody but root may move a directory that is another's."""
        message = f'could not move the bad store entry "{flaw.path}" aside: {flaw.reason}'
        found = flaw.path.lstat().st_uid
        if found == self.owner:
            return StoreError(message, "give the store to its account alone (chown, chmod go-w)")
        return StoreError(
            f"{message}; the entry belongs to {_account_name(found)}",
            f"remove it as root: rm -r {shlex.quote(str(flaw.path))}",
        )

    def _publish(self, workspace: Workspace, key: EntryKey) -> Entry:
        """Rename the sealed directory into its place; a builder that came first wins."""
        from hpcimg.store.workspace import sync

        place = self.root / ENTRIES / key.algorithm / key.name
        make_directory(place.parent, 0o755)
        try:
            workspace.entry.rename(place)
        except OSError as error:
            # ENOENT: NFS repeats a rename whose answer was lost, and finds it done.
            if error.errno not in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT}:
                raise
            log.info('"%s" was published by another builder', place)
        sync(place.parent)
        found = read_entry(self.root, key, self.owner)
        if isinstance(found, Entry):
            return found
        reason = found.reason if found else "it is gone"
        raise StoreError(f'"{place}" is not usable right after it was published: {reason}')


def site_store(settings: StoreSettings) -> Store:
    """Open the site's store, which belongs to the account that the settings name."""
    try:
        owner = pwd.getpwnam(settings.account).pw_uid
    except KeyError as error:
        raise SettingsError(
            f'the store\'s account "{settings.account}" does not exist on this machine',
            "create it, or correct store: {account: ...} in the settings",
        ) from error
    return Store(
        Path(settings.path),
        owner,
        lock_timeout=settings.lock_timeout,
        lock=settings.lock,
        blob_bytes=settings.blob_bytes,
    )


def user_store(home: Path, owner: int, settings: StoreSettings) -> Store:
    """Open a user's own store, for images that the site's account may not read."""
    root = home / ".local/share/hpcimg/store"
    return Store(root, owner, private=True, lock_timeout=settings.lock_timeout)


def _account_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
