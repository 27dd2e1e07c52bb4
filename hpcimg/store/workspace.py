"""Where an entry is built before it exists: a private directory on the store's file system.

Makes it, seals what was built in it, and removes it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hpcimg.amounts import utc_text
from hpcimg.errors import StoreError
from hpcimg.progress import OnProgress
from hpcimg.store.entry import IMAGE, RECORD, EntryKey, Layer, Record, Signature, is_complete_sif
from hpcimg.store.owner import Owner

_BLOCK = 1 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workspace:
    """What a builder gets: a directory to work in, the file to make, somebody to report to."""

    path: Path
    report: OnProgress

    @property
    def work(self) -> Path:
        """The builder's own directory, thrown away afterwards."""
        return self.path / "work"

    @property
    def entry(self) -> Path:
        """The directory that becomes the entry."""
        return self.path / "entry"

    @property
    def image(self) -> Path:
        """The file that the builder has to make."""
        return self.entry / IMAGE


@dataclass(frozen=True)
class BuiltImage:
    """What a builder says of the image it made; `documents` are kept beside it, name to bytes."""

    references: tuple[str, ...]
    features: tuple[str, ...]
    layers: tuple[Layer, ...]
    signatures: tuple[Signature, ...] = ()
    documents: Mapping[str, bytes] = field(default_factory=dict)


@contextmanager
def open_workspace(temporary: Path, owner: Owner, report: OnProgress) -> Iterator[Workspace]:
    """Make a workspace among the store's temporary files; remove it, whatever happens meanwhile."""
    workspace = Workspace(temporary / owner.token(os.urandom(8).hex()), report)
    workspace.path.mkdir(0o700)
    try:
        workspace.work.mkdir(0o700)
        workspace.entry.mkdir()
        yield workspace
    finally:
        remove_tree(workspace.path)


def seal(workspace: Workspace, key: EntryKey, built: BuiltImage, owner: Owner) -> None:
    """Check the built image, write its record beside it, and bring all of it to the disk.

    Raises StoreError when the builder left no whole SIF file.
    """
    image = workspace.image
    size, sha256 = _measure(image, key)
    record = Record(
        digest=key.digest,
        converter=key.converter,
        references=built.references,
        features=built.features,
        size=size,
        sha256=sha256,
        created=utc_text(time.time()),
        builder=owner.host,
        layers=built.layers,
        signatures=built.signatures,
        verity=_sealed(image),
    )
    for name, document in built.documents.items():
        (workspace.entry / name).write_bytes(document)
    write_record(workspace.entry / RECORD, record)
    for path in workspace.entry.iterdir():
        path.chmod(0o644)
        sync(path)
    # Whatever the umask: readers of a site store are other users.
    workspace.entry.chmod(0o755)
    sync(workspace.entry)


def write_record(path: Path, record: Record) -> None:
    """Write a record that all may read, and bring it to the disk."""
    path.write_text(json.dumps(record.to_fields(), indent=1) + "\n", encoding="utf-8")
    path.chmod(0o644)
    sync(path)


def sync(path: Path) -> None:
    """Bring a file or a directory to the disk: a rename may outlive the bytes it names."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Remove a tree or a file, closed directories of an unpacked image too; never raises OSError.

    What cannot be removed now (a file still open on NFS) is left to the next sweep.
    """
    try:
        if not path.is_dir() or path.is_symlink():
            path.unlink()
            return
        _make_writable(path)
        shutil.rmtree(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning('could not remove "%s": %s', path, error.strerror)


def _make_writable(path: Path) -> None:
    _open_to_owner(path)
    for directory, names, _ in os.walk(path):
        # Before the walk comes to them: it passes over what it cannot list.
        for name in names:
            _open_to_owner(Path(directory, name))


def _open_to_owner(directory: Path) -> None:
    if not directory.is_symlink() and not os.access(directory, os.W_OK | os.X_OK | os.R_OK):
        directory.chmod(0o700)


def _sealed(image: Path) -> str:
    """Let the kernel hold the file to its bytes from now on, where the file system can."""
    from hpcimg.store.verity import seal_file

    sync(image)
    return seal_file(image)


def _measure(image: Path, key: EntryKey) -> tuple[int, str]:
    """Give size and SHA-256 of the built file; a truncated or missing one is no image."""
    digest = hashlib.sha256()
    try:
        descriptor = os.open(image, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError as error:
        raise StoreError(f"converter {key.converter} made no image of {key.digest}") from error
    with open(descriptor, "rb") as stream:  # noqa: PTH123 - opened above without following a link
        size = os.fstat(descriptor).st_size
        header = stream.read(_BLOCK)
        if not is_complete_sif(header[:128], size):
            raise StoreError(f"converter {key.converter} made no whole SIF file of {key.digest}")
        digest.update(header)
        while block := stream.read(_BLOCK):
            digest.update(block)
    return size, digest.hexdigest()
