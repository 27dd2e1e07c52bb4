"""Where login files stand below a root, and how they get there: whole, and for their owner alone.

Follows links as the machine whose root it is would, and trusts only what root or this account
owns. Starts nothing.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hpcimg.errors import SettingsError
from hpcimg.hub.login_files import malformed
from hpcimg.store.files import make_directory, replace_file

MODE = 0o600
_LARGEST = 4 << 20
_LINKS = 40
_BIN = ("usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin")
_PROGRAMS = {
    "docker": ("docker", "dockerd"),
    "containers": ("podman", "buildah", "skopeo", "crio"),
    "containerd": ("containerd",),
}
KINDS = tuple(_PROGRAMS)
"""Whose files can be written."""


@dataclass(frozen=True)
class Place:
    """Where a file will be: a directory that is there, what has to be made in it, the name.

    `shown` is the path as the machine has it.
    """

    shown: str
    directory: Path
    missing: tuple[str, ...]
    name: str

    @property
    def path(self) -> Path:
        """The file itself."""
        return self.directory.joinpath(*self.missing, self.name)


def installed(root: Path) -> tuple[str, ...]:
    """Name whose programs are there, by their files alone."""
    return tuple(
        kind
        for kind, names in _PROGRAMS.items()
        if any(os.path.lexists(root / folder / name) for folder in _BIN for name in names)
    )


def reads_hosts(root: Path, certs: PurePosixPath) -> bool:
    """Tell whether containerd's own configuration names the directory of its hosts.toml files.

    A container may see that directory of its host alone; then nothing is known against it.
    """
    file = root / "etc/containerd/config.toml"
    if root != Path("/") and not file.exists():
        return True
    with suppress(OSError, UnicodeError):
        text = file.read_text("utf-8")
        found = re.findall(r"^\s*config_path\s*=\s*[\"']([^\"'\n]*)[\"']", text, re.MULTILINE)
        return any(str(certs) in one.split(":") for one in found)
    return False


def find_place(root: Path, shown: PurePosixPath) -> Place:
    """Find where the file of an absolute path goes; makes nothing."""
    at = root
    todo = list(reversed(shown.parent.parts[1:]))
    links = 0
    while todo:
        name = todo.pop()
        if name == "..":
            at = at if at == root else at.parent
            continue
        step = at / name
        try:
            found = step.lstat()
        except FileNotFoundError:
            missing = (name, *reversed(todo))
            if ".." in missing:
                raise _unsafe(str(shown), f'"{step}" is not there') from None
            return Place(str(shown), at, missing, shown.name)
        except OSError as error:
            raise failed("reach", str(shown), error) from error
        _check_owner(str(shown), step, found)
        if stat.S_ISLNK(found.st_mode):
            links += 1
            target = PurePosixPath(step.readlink())
            if links > _LINKS:
                raise _unsafe(str(shown), "its links lead in a circle")
            at = root if target.is_absolute() else at
            todo += [part for part in reversed(target.parts) if part != "/"]
        elif stat.S_ISDIR(found.st_mode):
            at = step
        else:
            raise _unsafe(str(shown), f'"{step}" is no directory')
    return Place(str(shown), at, (), shown.name)


def read_old(place: Place) -> tuple[bytes, int | None]:
    """Give what stands there and its mode, None where there is nothing."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(place.path, flags)
    except FileNotFoundError:
        return b"", None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _unsafe(place.shown, "it is a symbolic link") from None
        raise failed("read", place.shown, error) from error
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _unsafe(place.shown, "it is no plain file")
        _check_owner(place.shown, place.path, found)
        raw = stream.read(_LARGEST + 1)
    if len(raw) > _LARGEST:
        raise _unsafe(place.shown, f"it has more than {_LARGEST} bytes")
    return raw, stat.S_IMODE(found.st_mode)


def write(place: Place, raw: bytes, mode: int = MODE) -> None:
    """Put the file in its place, so that no reader ever sees half of it, and no other user any."""
    try:
        at = place.directory
        for name in place.missing:
            at /= name
            # Below a home nobody else has to look; what programs of the system read is /etc.
            make_directory(at, 0o755 if place.shown.startswith("/etc/") else 0o700)
        replace_file(place.path, raw, mode)
    except OSError as error:
        raise failed("write", place.shown, error) from error


def check_toml(text: str, shown: str) -> None:
    """Refuse what is no TOML: containerd would pass by the whole file, and go to the registry."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        tomllib.loads(text)
    except (ValueError, RecursionError):
        raise malformed(shown, "it is not TOML") from None


def certificates_in(place: Place) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Name what lies beside a hosts.toml, which hides it: authorities, and our own with keys."""
    try:
        names = sorted(one.name for one in place.path.parent.iterdir())
    except OSError:
        return (), ()
    own = [(name, f"{name[:-5]}.key") for name in names if name.endswith(".cert")]
    pairs = tuple((name, key) if key in names else (name,) for name, key in own)
    return tuple(name for name in names if name.endswith(".crt")), pairs


def _check_owner(shown: str, step: Path, found: os.stat_result) -> None:
    """Refuse what somebody else could put another thing in the place of."""
    if found.st_uid not in {0, os.geteuid()}:
        raise _unsafe(shown, f'"{step}" belongs to uid {found.st_uid}')
    others = 0o002 if found.st_gid == os.getegid() else 0o022
    is_shared = stat.S_ISDIR(found.st_mode) and found.st_mode & others
    if is_shared:
        mode = stat.S_IMODE(found.st_mode)
        raise _unsafe(shown, f'"{step}" may be written by others (mode {mode:04o})')


def _unsafe(shown: str, why: str) -> SettingsError:
    return SettingsError(
        f'"{shown}" is not written: {why}', "put that right, or leave it out with --for"
    )


def failed(doing: str, shown: str, error: OSError) -> SettingsError:
    """Say that a file could not be read or written."""
    reason = (error.strerror or str(error)).lower()
    return SettingsError(
        f'could not {doing} "{shown}": {reason}',
        f"uid {os.geteuid()} tried it; the system's files are root's, and --for leaves some out",
    )
