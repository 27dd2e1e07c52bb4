"""What a converter gets: an image's documents, and a way to its layers. It knows no registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hpcimg.oci.model import Descriptor, Manifest


@dataclass(frozen=True)
class Source:
    """One image; `fetch` streams a blob, and raises at its end unless every byte was right."""

    name: str
    manifest: Manifest
    config: bytes
    fetch: Callable[[Descriptor], Iterator[bytes]]

    @property
    def size(self) -> int:
        """Bytes of config and layers, as they are fetched."""
        return size_of(self.manifest)


def size_of(manifest: Manifest) -> int:
    """Count the bytes of config and layers, each digest once: an image may repeat a layer."""
    blobs = {blob.digest: blob for blob in (manifest.config, *manifest.layers)}
    return sum(blob.size for blob in blobs.values())
