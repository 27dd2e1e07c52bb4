"""The host's MPI or fabric libraries in place of the image's, where the site wants it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from hpcimg.workflow.surroundings import NOTHING, Surroundings, join

if TYPE_CHECKING:
    from hpcimg.host_mpi_settings import HostMpi
    from hpcimg.library import Found, Library
    from hpcimg.oci.reference import Reference
    from hpcimg.settings import Settings
    from hpcimg.store.documents import Place
    from hpcimg.store.entry import Entry

log = logging.getLogger(__name__)


def host_mpi(entry: Entry, reference: Reference, settings: Settings) -> Surroundings:
    """Say which files of the host this image gets, or warn why its own MPI stays.

    The rules are about the name that was asked for: the entry may be of another one's making.
    Raises RuntimeFailure where the site's word is that nothing runs then.
    """
    return join(
        _lend(rule, entry, reference)
        for rule in settings.host_mpi
        if _is_meant(rule, reference.name)
    )


def _is_meant(rule: HostMpi, name: str) -> bool:
    from fnmatch import fnmatchcase

    return any(fnmatchcase(name, pattern) for pattern in rule.images)


def _lend(rule: HostMpi, entry: Entry, reference: Reference) -> Surroundings:
    from hpcimg.errors import RuntimeFailure
    from hpcimg.library import misfit, of_kind, replaced

    try:
        found = _found_in(entry, rule)
    except RuntimeFailure as error:
        return _without(rule, reference, error.message)
    if not of_kind(rule.kind, found.libraries):
        log.info("%s has no %s of its own: the site's is not lent", entry.image, rule.kind)
        return NOTHING
    pairs = []
    for path in rule.libraries:
        try:
            host = _of_host(path)
        except OSError as error:
            return _without(rule, reference, f"the site's {path} cannot be read: {error.strerror}")
        own = replaced(host, rule.kind, found)
        reason = misfit(host, own, found.glibc, minor=rule.abi == "minor")
        if reason:
            return _without(rule, reference, reason)
        pairs.append((host, own))
    return _in_place(rule, pairs)


def _in_place(rule: HostMpi, pairs: list[tuple[Library, tuple[Library, ...]]]) -> Surroundings:
    """Lay each library over the image's own; what is new there is found by its own name."""
    from hpcimg.bind import make_bind
    from hpcimg.gpu_files import LIBRARIES

    binds = list(rule.mounts)
    for host, own in pairs:
        binds += [make_bind(host.path, one.path, ("ro",)) for one in own]
        names = {name for one in own for name in (*one.names, one.path.rpartition("/")[2])}
        if host.soname not in names:
            binds.append(make_bind(host.path, f"{LIBRARIES}/{host.soname}", ("ro",)))
    return Surroundings(tuple(binds), tuple(rule.environment.items()))


def _without(rule: HostMpi, reference: Reference, reason: str) -> Surroundings:
    from hpcimg.errors import RuntimeFailure

    what = "libfabric" if rule.kind == "libfabric" else "MPI"
    if rule.on_mismatch == "fail":
        raise RuntimeFailure(
            f'"{reference}" does not run with the site\'s {what}: {reason}',
            f"use an image whose {what} the site's can stand in for, or ask the administrator",
        )
    return Surroundings(warnings=(f"the image runs with its own {what}: {reason}",))


def _of_host(path: str) -> Library:
    """Read a library of this node; a file that is none has no machine. Raises OSError."""
    import mmap
    import os
    from pathlib import Path

    from hpcimg.elf import parse_elf
    from hpcimg.library import Library

    real = os.path.realpath(path)
    names = (path.rpartition("/")[2],)
    try:
        with Path(real).open("rb") as file:
            elf = parse_elf(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except ValueError:  # an empty file cannot be mapped, and NotElfError is one
        return Library(path, names)
    return Library(real, names, elf.soname or names[0], elf.machine, elf.needed, elf.glibc)


def _found_in(entry: Entry, rule: HostMpi) -> Found:
    """Say what libraries the image has: looked up once for all nodes that share a store."""
    from hpcimg.library import read_found, stem_of
    from hpcimg.runtime.libraries import find_libraries
    from hpcimg.store.documents import DocumentCache

    stems = sorted({stem_of(path.rpartition("/")[2]) for path in rule.libraries})
    question = f"libraries of {entry.key.digest} {entry.key.converter}: {' '.join(stems)}"
    place, may_write = _place_of(entry)
    cache = DocumentCache((place,), place if may_write else None)
    known = cache.newest_answer(question)
    if known is not None:
        found = read_found(known.text)
        if found is not None:
            return found
    found = find_libraries(entry.image, stems)
    cache.keep_answer(question, found.to_text())
    return found


def _place_of(entry: Entry) -> tuple[Place, bool]:
    """Find the small documents of the store that the entry stands in, and whether we write it."""
    import os

    from hpcimg.store.documents import DOCUMENTS, Place

    owner = entry.path.stat().st_uid
    is_ours = owner == os.geteuid()
    root = entry.path.parents[2]
    return Place(root / DOCUMENTS, owner, private=not root.stat().st_mode & 0o005), is_ours
