"""Two processes try on one directory what a store needs of its file system, and tell what they saw.

Each plays a role, on a node of its own if its caller sees to that; they meet by files alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcimg.errors import StoreError
from hpcimg.store.account import uid_of
from hpcimg.store.faults import store_faults
from hpcimg.store.ground import has_attributes, has_verity
from hpcimg.store.lock_kinds import lock_whole_file
from hpcimg.store.store import TEMPORARY
from hpcimg.store.workspace import sync

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 200
PATIENCE_SECONDS = 120.0
_POLL_SECONDS = 0.02
_FAILED = "failed-"

Answer = bool | str
"""Whether it went as it must, or the error that it ended with."""


@dataclass
class Seen:
    """What one role saw; `answers` by the name of the try, `wins` of the races that both run.

    `clock` is this node's time less that of the file system, in seconds.
    """

    role: int
    host: str
    uid: int
    account: int | None
    clock: float = 0.0
    answers: dict[str, Answer] = field(default_factory=dict)
    wins: dict[str, int] = field(default_factory=dict)

    def try_(self, name: str, attempt: Callable[[], bool]) -> None:
        """Note how a try went."""
        try:
            self.answers[name] = attempt()
        except OSError as error:
            self.answers[name] = error.strerror or str(error)

    def to_fields(self) -> dict[str, Any]:
        """Give all of it as a JSON object."""
        return dict(vars(self))


def scratch(root: Path, token: str) -> Path:
    """Name the directory of one trial: among a store's temporary files where there is a store."""
    below = root / TEMPORARY
    return below / token if below.is_dir() else root / f".{token}"


def play(folder: Path, role: int, account: str) -> Seen:
    """Play role 0 or 1 to the end; role 0 makes and removes the folder. Raises StoreError."""
    seen = Seen(role, os.uname().nodename, os.geteuid(), uid_of(account))
    with store_faults("try what a store needs", folder.parent):
        if role == 0:
            folder.mkdir(mode=0o700)
        _wait_for(folder)
        try:
            _clock(folder, seen)
            (_first if role == 0 else _second)(folder, seen)
            _race(folder, seen)
        except BaseException:
            # The other one shall not wait for us.
            with suppress(OSError):
                (folder / f"{_FAILED}{role}").touch()
            raise
        finally:
            if role == 0:
                shutil.rmtree(folder, ignore_errors=True)
    return seen


def _first(folder: Path, seen: Seen) -> None:
    """Hold what the other one must not get, then look at what it changed."""
    alone = folder / "alone"
    alone.write_bytes(b"x" * 8192)
    seen.try_("fsync", lambda: _synced(alone, folder))
    seen.try_("attributes", lambda: has_attributes(alone))
    seen.try_("verity", lambda: has_verity(alone))
    (folder / "over").write_text("old")
    for name in ("moved", "full"):
        (folder / name).mkdir()
        (folder / name / "x").write_text(name)
    for name in ("excl", "linked"):
        (folder / name).write_text(name)
    with _opened(folder / "flock") as first, _opened(folder / "ofd") as second:
        before = os.open(folder / "over", os.O_RDONLY)
        seen.try_("flock here", lambda: _flock(first))
        seen.try_("fcntl here", lambda: _ofd(second))
        _meet(folder, seen, "held")
        _meet(folder, seen, "tried")
        seen.try_("rename over", lambda: (folder / "over").read_text() == "new")
        seen.try_("open file stays", lambda: os.read(before, 9) == b"old")
        seen.try_("rename directory", lambda: (folder / "moved-2/x").read_text() == "moved")
        seen.try_("rename onto", lambda: (folder / "full/x").read_text() == "full")
        os.close(before)
    _meet(folder, seen, "given back")


def _second(folder: Path, seen: Seen) -> None:
    """Try to get what the other one holds, and change what it looks at."""
    _meet(folder, seen, "held")
    with _opened(folder / "flock") as first, _opened(folder / "ofd") as second:
        seen.try_("flock excludes", lambda: not _flock(first))
        seen.try_("fcntl excludes", lambda: not _ofd(second))
        seen.try_("exclusive", lambda: _exists(lambda: _create(folder / "excl")))
        own = folder / "own"
        own.write_text("new")
        seen.try_("link", lambda: _exists(lambda: (folder / "linked").hardlink_to(own)))
        own.rename(folder / "over")
        (folder / "moved").rename(folder / "moved-2")
        other = folder / "other"
        other.mkdir()
        (other / "x").write_text("other")
        seen.try_("rename onto", lambda: _exists(lambda: other.rename(folder / "full")))
        _meet(folder, seen, "tried")
        _meet(folder, seen, "given back")
        seen.try_("flock comes back", lambda: _flock(first))
        seen.try_("fcntl comes back", lambda: _ofd(second))


def _race(folder: Path, seen: Seen) -> None:
    """Both make the same files at once: each file may be made by one."""
    own = folder / f"racer-{seen.role}"
    own.write_text("x")
    _meet(folder, seen, "race")
    ways: dict[str, Callable[[Path], object]] = {
        "exclusive": _create,
        "link": lambda path: path.hardlink_to(own),
    }
    for name, make in ways.items():
        paths = [folder / f"{name}-{number}" for number in range(ROUNDS)]
        with suppress(OSError):
            seen.wins[name] = sum(not _exists(partial(make, path)) for path in paths)
    _come(folder, seen, "raced")
    if seen.role == 0:  # which then removes the folder
        _wait_for(folder / "raced-1")


def _clock(folder: Path, seen: Seen) -> None:
    path = folder / f"clock-{seen.role}"
    path.write_text("x")
    seen.clock = round(time.time() - path.stat().st_mtime, 3)


def _come(folder: Path, seen: Seen, place: str) -> None:
    (folder / f"{place}-{seen.role}").touch()


def _meet(folder: Path, seen: Seen, place: str) -> None:
    _come(folder, seen, place)
    _wait_for(folder / f"{place}-{1 - seen.role}")


def _wait_for(path: Path) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        # A listing asks the server; a name that was missing once is kept as missing.
        with os.scandir(path.parent) as listing:
            names = [one.name for one in listing]
        if path.name in names:
            return
        if any(name.startswith(_FAILED) for name in names):
            raise StoreError("the trial ended early: the other node could not go on")
        time.sleep(_POLL_SECONDS)
    raise StoreError(
        f'"{path}" did not appear within {PATIENCE_SECONDS:g} s',
        "is this the same file system on both nodes, and may the store's account write it?",
    )


def _synced(file: Path, folder: Path) -> bool:
    sync(file)
    sync(folder)
    return True


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _flock(descriptor: int) -> bool:
    return _is_free(lambda: fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB))


def _ofd(descriptor: int) -> bool:
    return _is_free(lambda: lock_whole_file(descriptor))


def _is_free(lock: Callable[[], None]) -> bool:
    try:
        lock()
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EACCES}:
            return False
        raise
    return True


def _create(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _exists(make: Callable[[], object]) -> bool:
    """Tell whether making it fails since there is one."""
    try:
        make()
    except OSError as error:
        if error.errno in {errno.EEXIST, errno.ENOTEMPTY}:
            return True
        raise
    return False
