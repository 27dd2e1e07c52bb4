"""`hpcimg cache verify`: read every byte of entries again, and move aside what is not what it was.

A launch looks at owners, modes, sizes and headers; only this finds other content of the same size.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpcimg.errors import HpcimgError, StoreError
from hpcimg.oci.digest import verify_digest
from hpcimg.oci.model import DOCUMENT_LIMIT, Manifest, parse_document
from hpcimg.progress import OnProgress, Progress
from hpcimg.store.entry import (
    ENTRIES,
    IMAGE,
    Entry,
    EntryKey,
    Flaw,
    Record,
    UntrustedError,
    open_directory,
    open_file,
    read_entry,
    read_file,
)
from hpcimg.store.faults import store_faults

if TYPE_CHECKING:
    from hpcimg.store.store import Store

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Checked:
    """One entry and what is wrong with it; an empty reason means that it is good.

    `is_aside` says that it was moved to the quarantine, so that the next job builds it anew.
    """

    key: EntryKey
    path: str
    size: int = 0
    reason: str = ""
    is_aside: bool = False

    def to_fields(self) -> dict[str, object]:
        """Give it as a JSON object."""
        return {
            "digest": self.key.digest,
            "converter": self.key.converter,
            "path": self.path,
            "size": self.size,
            "good": not self.reason,
            "reason": self.reason,
            "quarantined": self.is_aside,
        }


def verify(
    store: Store,
    keys: tuple[EntryKey, ...],
    *,
    quarantine: bool,
    on_progress: Callable[[EntryKey], OnProgress],
) -> Iterator[Checked]:
    """Check entries one after the other; one that prune takes meanwhile is passed over.

    Raises StoreError where a bad one cannot be moved aside, or others may write the store.
    """
    if quarantine:
        store.prepare()
    for key in keys:
        found = read_entry(store.root, key, store.owner)
        if found is None:
            continue
        flaw = found if isinstance(found, Flaw) else _flaw(store, key, found, on_progress(key))
        size = found.record.size if isinstance(found, Entry) else 0
        if flaw is None:
            yield Checked(key, str(found.path), size)
        elif flaw.path.exists():
            if quarantine:
                with store_faults("move a bad entry aside", store.root):
                    store.set_aside(flaw)
            yield Checked(key, str(flaw.path), size, flaw.reason, quarantine)


def may_set_aside(store: Store) -> bool:
    """Tell whether this process may move entries: it is the store's account."""
    return os.geteuid() == store.owner


def _flaw(store: Store, key: EntryKey, entry: Entry, report: OnProgress) -> Flaw | None:
    try:
        _check(store, key, entry.record, report)
    except UntrustedError as error:
        return Flaw(entry.path, str(error))
    except FileNotFoundError:
        return Flaw(entry.path, "it is not complete")
    except OSError as error:
        # What a disk, or fs-verity, gives in place of bytes that are not the ones.
        if error.errno == errno.EIO:
            return Flaw(entry.path, f"it cannot be read: {error.strerror}")
        message = f'could not read the store entry "{entry.path}": {error.strerror}'
        raise StoreError(message, "may you read the store, and is its file system up?") from error
    return None


def _check(store: Store, key: EntryKey, record: Record, report: OnProgress) -> None:
    with open_directory(store.root, (ENTRIES, key.algorithm, key.name), store.owner) as directory:
        _check_documents(directory, record, store.owner)
        with open_file(directory, IMAGE, store.owner) as image:
            digest = _digest(image, record.size, report)
    if digest != record.sha256:
        raise UntrustedError(
            f"its image has the SHA-256 {digest[:12]}, its record says {record.sha256[:12]}"
        )


def _check_documents(directory: int, record: Record, owner: int) -> None:
    """Hold the registry's manifest to the entry's digest, and config and layers to the manifest."""
    raw = read_file(directory, "manifest.json", owner, DOCUMENT_LIMIT)
    try:
        verify_digest(raw, record.digest)
        manifest = parse_document(raw)
    except HpcimgError as error:
        raise UntrustedError(f"its manifest.json is not its digest's: {error.message}") from error
    if not isinstance(manifest, Manifest):
        raise UntrustedError("its manifest.json is an index")
    layers = [(layer.digest, layer.size) for layer in manifest.layers]
    if layers != [(layer.digest, layer.size) for layer in record.layers]:
        raise UntrustedError("its record has other layers than its manifest")
    config = read_file(directory, "config.json", owner, DOCUMENT_LIMIT)
    try:
        verify_digest(config, manifest.config.digest)
    except HpcimgError as error:
        raise UntrustedError(f"its config.json is not its manifest's: {error.message}") from error


def _digest(image: int, size: int, report: OnProgress) -> str:
    found = hashlib.sha256()
    at = 0
    while block := os.pread(image, _BLOCK, at):
        found.update(block)
        at += len(block)
        report(Progress("verify", at, size))
    return found.hexdigest()
