"""Which layers of an image other builds of its name have too: these are fetched once for all.

Joins the source, which knows the name's other manifests, the store, which keeps layers, and the
converter, which wants them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from hpcimg.errors import HpcimgError
from hpcimg.oci.model import Descriptor, Index, Manifest

if TYPE_CHECKING:
    from hpcimg.oci.reference import Reference
    from hpcimg.runtime.convert import Converter
    from hpcimg.runtime.source import Source
    from hpcimg.store.store import Store
    from hpcimg.store.workspace import Workspace
    from hpcimg.workflow.source import BlobSource

MOST_SIBLINGS = 16
"""So many other manifests are read before a build; the choice has mostly read them already."""

log = logging.getLogger(__name__)


def convert_sharing(
    image: Source,
    place: tuple[Reference, str],
    store: Store,
    client: BlobSource,
    converter: Converter,
    workspace: Workspace,
) -> None:
    """Convert an image with the layers that the store has kept; `place` is it and its index."""
    from hpcimg.store.blobs import SpoiledError, fetch_shared, forget, is_of_use

    reference, index = place
    shared = shared_layers(reference, image.manifest, index, client) if store.blob_bytes else ()

    def fetch(blob: Descriptor) -> Iterator[bytes]:
        if blob.digest not in shared or not is_of_use(store, blob.size):
            return image.fetch(blob)
        return fetch_shared(
            store, reference.name, blob.digest, blob.size, lambda: image.fetch(blob)
        )

    try:
        sharing = replace(image, fetch=fetch)
        converter.convert(sharing, workspace.image, workspace.work, workspace.report)
    except SpoiledError as error:
        log.warning("converting again: %s", error)
        again = workspace.work / "again"
        again.mkdir()
        converter.convert(image, workspace.image, again, workspace.report)
    except HpcimgError:
        # Bad bytes may be why, and nobody else should stumble over them.
        for digest in shared:
            forget(store, reference.name, digest)
        raise


def shared_layers(
    reference: Reference, manifest: Manifest, index: str, client: BlobSource
) -> frozenset[str]:
    """Name the image's layers that another image of the index with this digest has too.

    Nothing is shared where there is no index, or it cannot be read: then each fetches for itself.
    """
    try:
        document = client.fetch_document(reference.with_digest(index)) if index else manifest
        if not isinstance(document, Index):
            return frozenset()
        found: set[str] = set()
        for other in _siblings(document, manifest.digest)[:MOST_SIBLINGS]:
            sibling = client.fetch_document(reference.with_digest(other.digest))
            if isinstance(sibling, Manifest):
                found.update(layer.digest for layer in sibling.layers)
    except HpcimgError as error:
        log.info("not looking for shared layers: %s", error.message)
        return frozenset()
    return frozenset(layer.digest for layer in manifest.layers if layer.digest in found)


def _siblings(index: Index, digest: str) -> list[Descriptor]:
    """List the index's other images for the same kind of machine."""
    kinds = {_kind(one) for one in index.manifests if one.digest == digest}
    return [
        one
        for one in index.manifests
        if one.digest != digest and not one.is_index and (_kind(one) in kinds or not kinds)
    ]


def _kind(descriptor: Descriptor) -> tuple[str, str] | None:
    platform = descriptor.platform
    return None if platform is None else (platform.os, platform.architecture)
