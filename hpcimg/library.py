"""Whether a library of the host can stand in for one of an image: names, versions, C library.

Pure: both were read by others. An ABI is a name and a major number; MPICH's has two names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

_FILE = re.compile(r"(lib[A-Za-z0-9_+-]+)\.so((?:\.[0-9]{1,9}){0,4})")
_SAME = {
    "libmpich": "libmpi",
    "libmpichfort": "libmpifort",
    "libmpichf90": "libmpifort",
    "libmpichcxx": "libmpicxx",
}
"""Debian's names for MPICH's libraries, and those of the MPICH ABI that other builds have."""
MAIN = {"mpich": "libmpi", "openmpi": "libmpi", "libfabric": "libfabric"}
"""The library that tells whether an image has an MPI, or a fabric, of a kind."""
_OPEN_MPI = re.compile(r"libopen-(pal|rte)\.so.*")
LIBC = "libc.so.6"


@dataclass(frozen=True)
class Library:
    """A library's real file, and the names that lead to it in its directory, its own among them.

    `machine` is empty where the file could not be read as a library.
    """

    path: str
    names: tuple[str, ...]
    soname: str = ""
    machine: str = ""
    needed: tuple[str, ...] = ()
    glibc: str = ""

    @property
    def stem(self) -> str:
        """What it is a build of: libmpi for each file of MPI's C functions."""
        return next((stem_of(name) for name in self._all_names if stem_of(name)), "")

    @property
    def version(self) -> tuple[int, ...]:
        """The numbers after `.so`; of all names that with the most, which is the real file's."""
        return max((version_of(name) for name in self._all_names), key=len, default=())

    @property
    def is_open_mpi(self) -> bool:
        """Whether it is Open MPI's, whose older versions bear the name of MPICH's."""
        return any(_OPEN_MPI.fullmatch(name) for name in self.needed)

    @property
    def _all_names(self) -> tuple[str, ...]:
        own = _name(self.path)
        return tuple(name for name in (own, self.soname, *self.names) if name)


@dataclass(frozen=True)
class Found:
    """The libraries of an image that were asked for; `glibc` is its C library, empty for none."""

    libraries: tuple[Library, ...]
    glibc: str

    def to_text(self) -> str:
        """Write it down for `read_found`."""
        return json.dumps(asdict(self))


def read_found(text: str) -> Found | None:
    """Read what was written down; None for what another release wrote."""
    try:
        document = json.loads(text)
        return Found(tuple(map(_library, document["libraries"])), str(document["glibc"]))
    except (ValueError, KeyError, TypeError):
        return None


def _library(fields: Mapping[str, Any]) -> Library:
    return Library(
        path=str(fields["path"]),
        names=tuple(map(str, fields["names"])),
        soname=str(fields["soname"]),
        machine=str(fields["machine"]),
        needed=tuple(map(str, fields["needed"])),
        glibc=str(fields["glibc"]),
    )


def stem_of(name: str) -> str:
    """Name what a file is a build of, by one name for all that share an ABI; empty for others."""
    found = _FILE.fullmatch(name)
    return _SAME.get(found[1], found[1]) if found else ""


def version_of(name: str) -> tuple[int, ...]:
    """Give the numbers after `.so`."""
    found = _FILE.fullmatch(name)
    return tuple(int(number) for number in found[2].split(".")[1:]) if found else ()


def of_kind(kind: str, libraries: Iterable[Library]) -> tuple[Library, ...]:
    """Give those libraries that make an image one of this kind of MPI, or of fabric."""
    return tuple(
        library
        for library in libraries
        if library.stem == MAIN[kind]
        and (kind == "libfabric" or library.is_open_mpi == (kind == "openmpi"))
    )


def replaced(host: Library, kind: str, found: Found) -> tuple[Library, ...]:
    """Give the image's libraries that one of the host would stand in for."""
    if host.stem == MAIN[kind]:
        return of_kind(kind, found.libraries)
    return tuple(library for library in found.libraries if library.stem == host.stem)


def misfit(host: Library, own: Sequence[Library], glibc: str, *, minor: bool) -> str:
    """Say why a library of the host cannot be used in an image, or an empty text.

    `own` are the image's that it would stand in for, none for one that comes with another;
    `glibc` is the image's. Without `minor` only the first number of the versions is compared.
    """
    if not host.machine:
        return f"the site's {host.path} is no library"
    reasons = (_between(host, one, minor=minor) for one in own)
    return next(filter(None, reasons), "") or _c_library(host, glibc)


def _between(host: Library, own: Library, *, minor: bool) -> str:
    name = _name(host.path)
    if own.machine and own.machine != host.machine:
        return f"the site's {name} is for {host.machine}, the image's is for {own.machine}"
    ours, theirs = host.version, own.version
    if ours[:1] != theirs[:1]:
        return (
            f"the site's {name} has the ABI {_text(ours[:1])}, the image's has {_text(theirs[:1])}"
        )
    if minor and theirs[1:] and ours[:2] < theirs[:2]:
        return f"the site's {name} is {_text(ours)}, older than the image's {_text(theirs)}"
    return ""


def _c_library(host: Library, glibc: str) -> str:
    if not host.glibc:
        return ""
    name = _name(host.path)
    if not glibc:
        return f"the site's {name} needs the GNU C library, which the image has not"
    if _numbers(host.glibc) > _numbers(glibc):
        return f"the site's {name} needs glibc {host.glibc}, the image has {glibc}"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version)) or "without a number"


def _name(path: str) -> str:
    return path.rpartition("/")[2]
