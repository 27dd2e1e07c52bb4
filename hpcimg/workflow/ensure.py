"""From a picked manifest to a converted image in a store: fetch, verify, convert, publish.

Joins the registry client, the converter and the store; it neither selects nor launches.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.errors import RegistryError, RuntimeFailure
from hpcimg.oci.model import DOCUMENT_LIMIT, Descriptor, Index, Manifest
from hpcimg.oci.reference import Reference
from hpcimg.progress import OnProgress, Progress, silent
from hpcimg.quoting import quoted
from hpcimg.runtime.convert import Converter
from hpcimg.settings import Limits
from hpcimg.store.entry import Entry, Layer
from hpcimg.store.faults import UNWRITABLE, fault, require_space, size_text, store_faults
from hpcimg.store.store import Store

if TYPE_CHECKING:
    from hpcimg.store.workspace import BuiltImage, Workspace
    from hpcimg.workflow.source import BlobSource

UNPACKED_RATIO = 6
"""Disk that a conversion takes, for each compressed byte: measured 4.4 to 5.3 with Apptainer."""

_LAYER_TYPES = frozenset(
    {
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
    }
)


@dataclass(frozen=True)
class Wanted:
    """One image to have in a store: where it comes from, its manifest's digest, what it is for.

    `reference` is the name the user wrote, kept in the record; `features` are canonical words.
    """

    reference: Reference
    digest: str
    features: tuple[str, ...] = ()
    job: str = ""


def ensure_image(
    wanted: Wanted,
    *,
    store: Store,
    client: BlobSource,
    converter: Converter,
    limits: Limits,
    on_progress: OnProgress = silent,
) -> Entry:
    """Have the image in the store: found there, built by somebody else meanwhile, or built here.

    Asks the registry only to build. Raises RegistryError and its kin, StoreError, RuntimeFailure.
    """

    def build(workspace: Workspace) -> BuiltImage:
        return _build(wanted, client, converter, limits, workspace)

    return store.ensure(wanted.digest, converter.id, build, on_progress=on_progress, job=wanted.job)


def _build(
    wanted: Wanted, client: BlobSource, converter: Converter, limits: Limits, workspace: Workspace
) -> BuiltImage:
    from hpcimg.store.workspace import BuiltImage

    source = wanted.reference.with_digest(wanted.digest)
    workspace.report(Progress("fetch", note=str(wanted.reference)))
    manifest = client.fetch_document(source)
    if isinstance(manifest, Index):
        raise RegistryError(f'"{source}" is an index, not one image')
    check_manifest(manifest, limits, str(source))
    compressed = sum(blob.size for blob in _blobs(manifest))
    require_space(workspace.path, compressed)
    layout = workspace.work / "layout"
    with _room(workspace.path, compressed * UNPACKED_RATIO):
        _fetch_layout(layout, source, manifest, client, workspace.report)
        converter.convert(layout, workspace.image, workspace.report)
    return BuiltImage(
        references=(str(wanted.reference),),
        features=wanted.features,
        layers=tuple(Layer(layer.digest, layer.size) for layer in manifest.layers),
        # A converter may change media types, and so the digest: the registry's own bytes stay.
        documents={
            "manifest.json": manifest.raw,
            "config.json": _blob_path(layout, manifest.config.digest).read_bytes(),
        },
    )


def check_manifest(manifest: Manifest, limits: Limits, name: str) -> None:
    """Refuse what must not be fetched: foreign, encrypted or unknown layers, too many or too much.

    Raises RegistryError that names the layer's type, or the limit's setting.
    """
    if len(manifest.layers) > limits.layers:
        raise _beyond(name, f"{len(manifest.layers)} layers", "layers", str(limits.layers))
    for layer in manifest.layers:
        if layer.media_type not in _LAYER_TYPES:
            raise RegistryError(
                f'"{name}" has a layer of type {quoted(layer.media_type)}, which is not supported',
                "push the image again with ordinary layers (tar, gzip or zstd)",
            )
    compressed = sum(layer.size for layer in manifest.layers)
    if compressed > limits.compressed_bytes:
        limit = size_text(limits.compressed_bytes)
        raise _beyond(name, size_text(compressed), "compressed_bytes", limit)
    if manifest.config.size > DOCUMENT_LIMIT:
        raise RegistryError(f'the config of "{name}" has {size_text(manifest.config.size)}')


def _beyond(name: str, found: str, setting: str, limit: str) -> RegistryError:
    return RegistryError(
        f'"{name}" has {found}, more than the limit of {limit}',
        f"use a smaller image, or raise limits: {{{setting}: ...}} in the settings",
    )


@contextmanager
def _room(path: Path, needed: int) -> Iterator[None]:
    """Tell a file system without room from a converter that fails for another reason."""
    try:
        with store_faults("fetch and convert an image", path, needed):
            yield
    except RuntimeFailure as error:
        said = error.message.lower()
        # The C library's words for ENOSPC have more to them: "no space left on device".
        for reason in UNWRITABLE:
            if reason in said:
                raise fault("convert an image", path, reason, needed) from error
        raise


def _fetch_layout(
    layout: Path, source: Reference, manifest: Manifest, client: BlobSource, report: OnProgress
) -> None:
    """Write an OCI layout of this one image; the client checks each blob's size and digest."""
    total = sum(blob.size for blob in _blobs(manifest))
    done = 0

    def arrived(count: int) -> None:
        nonlocal done
        done += count
        report(Progress("fetch", done, total, str(source)))

    for blob in _blobs(manifest):
        path = _blob_path(layout, blob.digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as target:
            client.fetch_blob_to(source, blob, target, arrived)
    # A source with another digest than sha256 still is named by sha256 in its layout.
    place = _blob_path(layout, manifest.digest)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(manifest.raw)
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}', encoding="ascii")
    entry = {
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": len(manifest.raw),
    }
    index = {"schemaVersion": 2, "manifests": [entry]}
    (layout / "index.json").write_text(json.dumps(index), encoding="utf-8")


def _blobs(manifest: Manifest) -> tuple[Descriptor, ...]:
    """Config and layers, each digest once: an image may repeat a layer."""
    return tuple({blob.digest: blob for blob in (manifest.config, *manifest.layers)}.values())


def _blob_path(layout: Path, digest: str) -> Path:
    algorithm, _, hexadecimal = digest.partition(":")
    return layout / "blobs" / algorithm / hexadecimal
