"""An OCI image layout in a directory: documents and blobs by digest, as from a registry.

Every byte is checked as a registry's is. It must not know who chooses among what it holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hpcimg.errors import ContentError, NotFoundError, UsageError
from hpcimg.oci.blob import BlobCheck
from hpcimg.oci.digest import verify_digest
from hpcimg.oci.local_name import LayoutReference, layout_reference
from hpcimg.oci.model import DOCUMENT_LIMIT, Descriptor, Index, Manifest, parse_document
from hpcimg.oci.reference import Reference
from hpcimg.quoting import quoted

MARKER = "oci-layout"
"""The file that makes a directory a layout."""

_INDEX = "index.json"
_REF_NAME = "org.opencontainers.image.ref.name"
_WHOLE_NAME = "io.containerd.image.name"
"""What docker and containerd write beside a ref.name that is the tag alone."""
_CHUNK = 1 << 20
_SHOWN = 8


class ImageLayout:
    """A layout's content. Raises UsageError, NotFoundError and ContentError."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._made: dict[str, bytes] = {}

    def named(self, tag: str) -> LayoutReference:
        """Name by a digest what a tag means here, or the whole layout where there is none.

        Several entries without names of their own, or of one name, are builds of one image.
        """
        index = parse_document(self._read(self.root / _INDEX))
        if not isinstance(index, Index):
            raise self._bad(f"its {_INDEX} is no index")
        # A name that is the tag itself is meant before one that ends in it.
        entries = [one for one in index.manifests if not tag or _name_of(one) == tag] or [
            one for one in index.manifests if _name_of(one).endswith(f":{tag}")
        ]
        if not entries:
            raise NotFoundError(
                f"{self._words} has no image {quoted(tag)}" if tag else f"{self._words} is empty",
                _names_hint(index.manifests),
            )
        if len({_name_of(one) for one in entries}) > 1:
            words = f"{self._words} has several images{f' with the tag {quoted(tag)}' * bool(tag)}"
            raise UsageError(words, _names_hint(entries, is_tagged=bool(tag)))
        if len(entries) == 1:
            return self.at(tag, entries[0].digest)
        return self.at(tag, self._index_of(index, {one.digest for one in entries}))

    def at(self, tag: str, digest: str) -> LayoutReference:
        """Name what has a digest here."""
        return layout_reference(str(self.root), tag, digest)

    def fetch_document(self, reference: Reference) -> Manifest | Index:
        """Read what the reference's digest names."""
        digest = reference.digest or ""
        raw = self._made.get(digest)
        if raw is None:
            raw = self._read(self._place(digest))
            verify_digest(raw, digest)
        return parse_document(raw)

    def fetch_blob(self, reference: Reference, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream a blob, which is good when the stream ends without an error."""
        check = BlobCheck(descriptor, f"{reference.name}@{descriptor.digest}")
        try:
            with self._place(descriptor.digest).open("rb") as file:
                while chunk := file.read(_CHUNK):
                    check.take(chunk)
                    yield chunk
        except OSError as error:
            raise self._unread(Path(error.filename or self.root), error) from error
        check.finish()

    def _index_of(self, index: Index, digests: set[str]) -> str:
        """Make an index of some of the entries; of all of them it is the layout's own."""
        document: dict[str, Any] = json.loads(index.raw)
        kept = [one for one in document["manifests"] if one["digest"] in digests]
        raw = index.raw
        if len(kept) != len(index.manifests):
            raw = json.dumps({**document, "manifests": kept}, sort_keys=True).encode()
        made = parse_document(raw)
        self._made[made.digest] = raw
        return made.digest

    def _place(self, digest: str) -> Path:
        algorithm, _, hexadecimal = digest.partition(":")
        return self.root / "blobs" / algorithm / hexadecimal

    def _read(self, path: Path) -> bytes:
        try:
            with path.open("rb") as file:
                return file.read(DOCUMENT_LIMIT + 1)
        except OSError as error:
            raise self._unread(path, error) from error

    @property
    def _words(self) -> str:
        return f"the OCI layout {quoted(self.root)}"

    def _bad(self, why: str) -> ContentError:
        return ContentError(f"{self._words} is not in order: {why}", "write it again")

    def _unread(self, path: Path, error: OSError) -> NotFoundError:
        inner = path.relative_to(self.root) if path.is_relative_to(self.root) else path
        return NotFoundError(
            f"could not read {quoted(inner)} of {self._words}: {error.strerror}",
            "is it a whole OCI layout, and may you read it on this node?",
        )


def _name_of(entry: Descriptor) -> str:
    """Tools write the tag alone, or a whole name with the tag at its end."""
    said = entry.annotations
    return said.get(_WHOLE_NAME) or said.get(_REF_NAME, "")


def _names_hint(entries: Sequence[Descriptor], *, is_tagged: bool = False) -> str:
    names = sorted({_name_of(one) for one in entries} - {""})
    if not names:
        return "its entries have no names: leave the tag out"
    shown = ", ".join(quoted(one) for one in names[:_SHOWN])
    if is_tagged:
        return f"write oci:DIRECTORY@DIGEST with the digest of one of {shown}"
    return f"write oci:DIRECTORY:TAG with one of {shown}"
