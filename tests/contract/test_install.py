"""`make install` over an installation that is in use."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
from pathlib import Path

import programs
import pytest

pytestmark = [
    pytest.mark.skipif(not programs.has_compiler(), reason="there is no C compiler"),
    pytest.mark.skipif(
        not Path("/usr/include/slurm/spank.h").exists(), reason="there are no Slurm headers"
    ),
]

# inotify(7); the standard library has no door to it.
_LIBC = ctypes.CDLL(None, use_errno=True)
_MOVED_TO, _CREATE, _DELETE, _MODIFY = 0x80, 0x100, 0x200, 0x2
_EVENT = struct.Struct("iIII")


def _watch(folder: Path) -> int:
    fd = int(_LIBC.inotify_init1(os.O_NONBLOCK))
    what = _MOVED_TO | _CREATE | _DELETE | _MODIFY
    assert _LIBC.inotify_add_watch(fd, os.fsencode(folder), what) >= 0
    return fd


def _events(fd: int) -> list[tuple[int, str]]:
    """What happened to which name, in order."""
    found, data = [], os.read(fd, 1 << 16)
    while data:
        _, mask, _, length = _EVENT.unpack_from(data)
        name = data[_EVENT.size : _EVENT.size + length].rstrip(b"\0").decode()
        found.append((mask, name))
        data = data[_EVENT.size + length :]
    return found


@pytest.mark.parametrize("part", ["spank", "merge"])
def test_each_file_is_the_old_or_the_new_one(tmp_path: Path, part: str) -> None:
    """At no moment is a name missing or half written; the plugin comes last, the contract first."""
    make = ["make", "-s", "-C", programs.SPANK.parent / part, f"BUILD={tmp_path}/build"]
    make += [f"DESTDIR={tmp_path}/root", "install"]
    subprocess.run(make, check=True)
    root = tmp_path / "root/usr/local"
    folders = [root / "libexec/hpcimg", root / "lib/hpcimg"][: 2 if part == "spank" else 1]
    every = [path for folder in folders for path in folder.iterdir()]
    before = {path: path.stat() for path in every if path.is_file()}
    watches = [_watch(folder) for folder in folders]
    subprocess.run(make, check=True)
    for folder, watch in zip(folders, watches, strict=True):
        events = [event for event in _events(watch) if not event[1].startswith(".new-")]
        os.close(watch)
        moved = [name for mask, name in events if mask == _MOVED_TO]
        assert len(moved) == len(events)
        assert set(moved) == {path.name for path in before if path.parent == folder}
        assert "contract" not in moved or moved[0] == "contract"
    after = {path: path.stat() for folder in folders for path in folder.iterdir()}
    assert all(after[path].st_ino != old.st_ino for path, old in before.items())
    newest = max(after, key=lambda path: after[path].st_ctime_ns)
    assert part == "merge" or newest.name == "hpcimg.so"
