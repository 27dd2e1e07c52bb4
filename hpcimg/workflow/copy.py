"""Bring an image into another repository, moving only what is missing there."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hpcimg.oci.client import RegistryClient
    from hpcimg.oci.model import Descriptor, Manifest
    from hpcimg.oci.reference import Reference

log = logging.getLogger(__name__)


OnBytes = Callable[[int], None]
"""Told of every number of bytes that is done, moved or found there."""


def copy_image(
    client: RegistryClient,
    source: Reference,
    manifest: Manifest,
    target: Reference,
    on_bytes: OnBytes,
) -> bool:
    """Copy blobs, then the manifest under its digest; False when it was all there."""
    pinned = target.with_digest(manifest.digest)
    if source.name == target.name or client.has_manifest(pinned):
        on_bytes(size_of(manifest))
        return False
    for descriptor in _blobs(manifest):
        _copy_blob(client, source, descriptor, target, on_bytes)
    client.put_manifest(pinned, manifest.raw, manifest.media_type)
    log.info("copied %s to %s", source, target.name)
    return True


def size_of(manifest: Manifest) -> int:
    """Add up the blobs of an image, each once."""
    return sum(descriptor.size for descriptor in _blobs(manifest))


def _blobs(manifest: Manifest) -> Iterable[Descriptor]:
    return dict.fromkeys((manifest.config, *manifest.layers))


def _copy_blob(
    client: RegistryClient,
    source: Reference,
    descriptor: Descriptor,
    target: Reference,
    on_bytes: OnBytes,
) -> None:
    is_near = source.registry == target.registry
    if client.has_blob(target, descriptor.digest) or (
        is_near and client.mount_blob(target, descriptor.digest, source.repository)
    ):
        on_bytes(descriptor.size)
        return
    # An upload needs its length and may have to start again, so the blob is kept on disk once.
    with tempfile.TemporaryFile(prefix="hpcimg-") as spool:
        client.fetch_blob_to(source, descriptor, spool, on_bytes)
        client.put_blob(target, descriptor, spool)
