"""One converted image in a store: its name, its record, and whether it can be trusted.

Reads only; everything is opened without following links and checked on the open descriptor.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcimg.errors import StoreError
from hpcimg.oci.digest import is_digest
from hpcimg.quoting import quoted

ENTRIES = "entries"
IMAGE = "image.sif"
RECORD = "record.json"
RECORD_VERSION = 2
_RECORD_LIMIT = 1 << 20
_CONVERTER = re.compile(r"[a-z0-9][a-z0-9.+_-]{0,63}")

# SIF, version 1: 32 bytes of launcher, magic, versions, id, times, then eight 64-bit numbers of
# which the last two are the offset and the length of all data objects together.
_SIF_MAGIC = b"SIF_MAGIC\0"
_SIF_HEADER = struct.Struct("<32s10s3s3s16s8q")


@dataclass(frozen=True)
class EntryKey:
    """What names an entry: the source manifest's digest and the converter's id."""

    digest: str
    converter: str

    @property
    def algorithm(self) -> str:
        """The directory under `entries` that the entry stands in."""
        return self.digest.partition(":")[0]

    @property
    def name(self) -> str:
        """The entry's directory name; hexadecimal digits never hold a dot."""
        return f"{self.digest.partition(':')[2]}.{self.converter}"

    def place(self, root: Path) -> Path:
        """Say where the entry stands in the store of this root."""
        return root / ENTRIES / self.algorithm / self.name


def entry_key(digest: str, converter: str) -> EntryKey:
    """Check both words, since they become a path; raises StoreError."""
    if not is_digest(digest):
        raise StoreError(f"{quoted(digest)} is not a sha256 or sha512 digest")
    if not _CONVERTER.fullmatch(converter):
        raise StoreError(f"{quoted(converter)} is not the id of a converter")
    return EntryKey(digest, converter)


def key_at(path: Path) -> EntryKey:
    """Name what stands, or should stand, at an entry's place; raises StoreError where none can."""
    digest, _, converter = path.name.partition(".")
    return entry_key(f"{path.parent.name}:{digest}", converter)


@dataclass(frozen=True)
class Layer:
    """A source layer: digest and compressed size in bytes."""

    digest: str
    size: int


@dataclass(frozen=True)
class Signature:
    """A public key (sha256 of its DER form) that signed the image, or the index that lists it."""

    key: str
    digest: str


@dataclass(frozen=True)
class Record:
    """What a store knows of an entry; `sha256` is the image file's, `created` is UTC, ISO 8601.

    `verity` is what fs-verity measured when the image file was sealed; empty where there is none.
    """

    digest: str
    converter: str
    references: tuple[str, ...]
    features: tuple[str, ...]
    size: int
    sha256: str
    created: str
    builder: str
    layers: tuple[Layer, ...]
    signatures: tuple[Signature, ...] = ()
    verity: str = ""

    def to_fields(self) -> dict[str, Any]:
        """Give the record as a JSON object, for the file and for `cache ls --json`."""
        return {"version": RECORD_VERSION, **asdict(self)}


@dataclass(frozen=True)
class Entry:
    """A whole, trusted entry; `path` is its directory."""

    path: Path
    record: Record

    @property
    def key(self) -> EntryKey:
        """What names the entry; its record was held to it."""
        return EntryKey(self.record.digest, self.record.converter)

    @property
    def image(self) -> Path:
        """The SIF file."""
        return self.path / IMAGE


@dataclass(frozen=True)
class Flaw:
    """Something stands at an entry's place that must not be used, and why."""

    path: Path
    reason: str


class UntrustedError(Exception):
    """Why something in a store must not be used."""


def read_entry(root: Path, key: EntryKey, owner: int) -> Entry | Flaw | None:
    """Read one entry of the store at `root` that uid `owner` writes; None when there is none."""
    path = key.place(root)
    try:
        with open_directory(root, (ENTRIES, key.algorithm, key.name), owner) as directory:
            return Entry(path, _read_whole(directory, key, owner))
    except FileNotFoundError:
        # A directory without its image or record was not published by us.
        return Flaw(path, "it is not complete") if os.path.lexists(path) else None
    except UntrustedError as error:
        return Flaw(path, str(error))
    except OSError as error:
        message = f'could not read the store entry "{path}": {error.strerror}'
        raise StoreError(message, "may you read the store, and is its file system up?") from error


@contextmanager
def open_directory(root: Path, names: tuple[str, ...], owner: int) -> Iterator[int]:
    """Open a directory below `root`, each step checked; a link in the way is not followed.

    The way to `root` itself is the administrator's choice, and may hold links.
    """
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _check_owner(descriptor, owner, str(root))
        for name in names:
            below = _open_below(descriptor, name, os.O_DIRECTORY)
            os.close(descriptor)
            descriptor = below
            _check_owner(descriptor, owner, name)
        yield descriptor
    finally:
        os.close(descriptor)


def read_file(directory: int, name: str, owner: int, limit: int) -> bytes:
    """Read a small trusted file of an open directory."""
    with open_file(directory, name, owner) as descriptor:
        return os.pread(descriptor, limit, 0)


def is_complete_sif(header: bytes, size: int) -> bool:
    """Tell whether a SIF file's first 128 bytes are a SIF's, and its data end within `size`."""
    if len(header) < _SIF_HEADER.size:
        return False
    fields = _SIF_HEADER.unpack(header[: _SIF_HEADER.size])
    offset, length = fields[-2], fields[-1]
    fits = offset >= _SIF_HEADER.size and 0 < length <= size - offset
    return bool(fields[1] == _SIF_MAGIC and fits)


def parse_record(raw: bytes) -> Record:
    """Parse a record file; raises ValueError that says what is wrong."""
    document = json.loads(raw)
    version = document.get("version") if isinstance(document, dict) else None
    # Nodes of two releases share a store while it is upgraded: of a later record what is known is
    # read. What an older release must not use has another converter.
    if not isinstance(version, int) or version < 1:
        raise ValueError("it has another version")
    try:
        return _record(document)
    except (KeyError, TypeError) as error:
        raise ValueError(f"it lacks {error}") from error


def _record(document: Mapping[str, Any]) -> Record:
    return Record(
        digest=str(document["digest"]),
        converter=str(document["converter"]),
        references=tuple(str(name) for name in document["references"]),
        features=tuple(str(word) for word in document["features"]),
        size=int(document["size"]),
        sha256=str(document["sha256"]),
        created=str(document["created"]),
        builder=str(document["builder"]),
        layers=tuple(Layer(str(one["digest"]), int(one["size"])) for one in document["layers"]),
        signatures=tuple(
            Signature(str(one["key"]), str(one["digest"])) for one in document.get("signatures", ())
        ),
        verity=str(document.get("verity", "")),
    )


def _read_whole(directory: int, key: EntryKey, owner: int) -> Record:
    raw = read_file(directory, RECORD, owner, _RECORD_LIMIT)
    try:
        record = parse_record(raw)
    except ValueError as error:
        raise UntrustedError(f"its record cannot be read: {error}") from error
    if (record.digest, record.converter) != (key.digest, key.converter):
        raise UntrustedError(f"its record is of {record.digest}, converter {record.converter}")
    with open_file(directory, IMAGE, owner) as image:
        size = os.fstat(image).st_size
        if size != record.size:
            raise UntrustedError(f"its image has {size} bytes, its record says {record.size}")
        if not is_complete_sif(os.pread(image, _SIF_HEADER.size, 0), size):
            raise UntrustedError("its image is no whole SIF file")
        if record.verity:
            _check_verity(image, record)
    return record


def _check_verity(image: int, record: Record) -> None:
    """Refuse other content of the same size; the file of a store that was copied has no seal."""
    from hpcimg.store.verity import measure

    if (measure(image) or record.verity) != record.verity:
        raise UntrustedError("its image is not the one that was sealed with fs-verity")


@contextmanager
def open_file(directory: int, name: str, owner: int) -> Iterator[int]:
    """Open a trusted regular file of an open directory."""
    # Without O_NONBLOCK a FIFO planted here would hold the reader for ever.
    descriptor = _open_below(directory, name, os.O_NONBLOCK)
    try:
        _check_owner(descriptor, owner, name)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UntrustedError(f'"{name}" is not a regular file')
        yield descriptor
    finally:
        os.close(descriptor)


def _open_below(directory: int, name: str, flags: int) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | flags, dir_fd=directory)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.ENXIO}:
            raise UntrustedError(f'"{name}" is a link, or not what it should be') from error
        raise


def _check_owner(descriptor: int, owner: int, name: str) -> None:
    found = os.fstat(descriptor)
    if found.st_uid not in {owner, 0}:
        raise UntrustedError(f'"{name}" belongs to uid {found.st_uid}, not to {owner} or root')
    if found.st_mode & 0o022:
        mode = stat.S_IMODE(found.st_mode)
        raise UntrustedError(f'"{name}" may be written by others (mode {mode:04o})')
