"""Bring an image into another repository, moving only what is missing there."""

from __future__ import annotations

import logging
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpcimg.oci.client import RegistryClient
    from hpcimg.oci.model import Descriptor, Manifest
    from hpcimg.oci.reference import Reference

log = logging.getLogger(__name__)


def copy_image(
    client: RegistryClient, source: Reference, manifest: Manifest, target: Reference
) -> bool:
    """Copy blobs, then the manifest under its digest; False when it was all there."""
    pinned = target.with_digest(manifest.digest)
    if source.name == target.name or client.has_manifest(pinned):
        return False
    for descriptor in dict.fromkeys((manifest.config, *manifest.layers)):
        _copy_blob(client, source, descriptor, target)
    client.put_manifest(pinned, manifest.raw, manifest.media_type)
    log.info("copied %s to %s", source, target.name)
    return True


def _copy_blob(
    client: RegistryClient, source: Reference, descriptor: Descriptor, target: Reference
) -> None:
    if client.has_blob(target, descriptor.digest):
        return
    if source.registry == target.registry and client.mount_blob(
        target, descriptor.digest, source.repository
    ):
        return
    # An upload needs its length and may have to start again, so the blob is kept on disk once.
    with tempfile.TemporaryFile(prefix="hpcimg-") as spool:
        client.fetch_blob_to(source, descriptor, spool)
        client.put_blob(target, descriptor, spool)
