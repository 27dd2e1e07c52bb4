"""What a site lends of its MPI or fabric to images that bring their own, read from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hpcimg.bind import Bind
from hpcimg.container_settings import read_environment, read_mounts
from hpcimg.library import MAIN, stem_of

if TYPE_CHECKING:
    from hpcimg.sections import SectionReader

CHOICES = {"kind": tuple(MAIN), "abi": ("minor", "major"), "on_mismatch": ("warn", "fail")}


@dataclass(frozen=True)
class HostMpi:
    """One MPI or fabric of the site; `images` are patterns of REGISTRY/REPOSITORY.

    `libraries` stand in for the image's, `mounts` and `environment` are what they need beside.
    """

    kind: str = "mpich"
    libraries: tuple[str, ...] = ()
    images: tuple[str, ...] = ("*",)
    mounts: tuple[Bind, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    abi: str = "minor"
    on_mismatch: str = "warn"


def read_host_mpi(reader: SectionReader, value: Any) -> tuple[HostMpi, ...]:
    """Read the list."""
    given = reader.sequence(value, ("host_mpi",))
    return tuple(_read(reader, one, ("host_mpi", at)) for at, one in enumerate(given))


def _read(reader: SectionReader, value: Any, at: tuple[object, ...]) -> HostMpi:
    given = reader.section(value, HostMpi, at)
    for key, choices in CHOICES.items():
        if key in given and given[key] not in choices:
            message = f'"{key}" is {" or ".join(choices)}, not {given[key]!r}'
            raise reader.error((*at, key), message)
    libraries = reader.words(given.get("libraries"), (*at, "libraries"))
    for path in libraries:
        if not path.startswith("/") or not stem_of(path.rpartition("/")[2]):
            message = f'"libraries" names files such as /opt/mpi/lib/libmpi.so.12, not {path!r}'
            raise reader.error((*at, "libraries"), message)
    main = MAIN[given.get("kind", HostMpi.kind)]
    if main not in {stem_of(path.rpartition("/")[2]) for path in libraries}:
        raise reader.error(
            (*at, "libraries"), f'"libraries" lacks {main}.so, which it is all about'
        )
    given["libraries"] = libraries
    if "images" in given:
        given["images"] = reader.words(given["images"], (*at, "images"))
    if "mounts" in given:
        given["mounts"] = read_mounts(reader, given["mounts"], (*at, "mounts"))
    if "environment" in given:
        variables = read_environment(reader, given["environment"], (*at, "environment"))
        given["environment"] = variables
    return HostMpi(**given)
