"""How a file gets into a store: whole under its name, or not at all, whatever the umask.

Knows neither what a file means nor who may write; raises OSError.
"""

from __future__ import annotations

import os
from pathlib import Path

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def make_directory(path: Path, mode: int) -> None:
    """Make a directory with exactly this mode; one that exists is left as it is."""
    try:
        path.mkdir(0o700, parents=True)
    except FileExistsError:
        return
    # A umask must not close a site's store to its readers.
    path.chmod(mode)


def make_directories(root: Path, names: tuple[str, ...], mode: int) -> Path:
    """Make each directory of a way below `root`, with this mode; give the last one."""
    path = root
    for name in names:
        path /= name
        make_directory(path, mode)
    return path


def write_new(path: Path, raw: bytes, mode: int = 0o644, *, synced: bool = True) -> None:
    """Write a file that must not be there yet; `synced` it outlives a power cut."""
    descriptor = os.open(path, _NEW, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(descriptor, mode)
        stream.write(raw)
        if synced:
            stream.flush()
            os.fsync(descriptor)


def replace_file(path: Path, raw: bytes, mode: int = 0o644, *, synced: bool = True) -> None:
    """Put a file in its place by a rename, so that no reader sees half of it."""
    temporary = path.with_name(f".{path.name[:64]}.{os.urandom(8).hex()}")
    try:
        write_new(temporary, raw, mode, synced=synced)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
