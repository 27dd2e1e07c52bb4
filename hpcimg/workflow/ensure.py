"""From a picked manifest to a converted image in a store: fetch, verify, convert, publish.

Joins the registry client, the converter and the store; it neither selects nor launches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.errors import RegistryError, RuntimeFailure
from hpcimg.oci.model import DOCUMENT_LIMIT, Index, Manifest
from hpcimg.oci.reference import Reference
from hpcimg.progress import OnProgress, Progress, silent
from hpcimg.quoting import quoted
from hpcimg.settings import Limits
from hpcimg.store.entry import Entry, Layer
from hpcimg.store.faults import UNWRITABLE, fault, require_space, size_text, store_faults
from hpcimg.store.store import Store
from hpcimg.workflow.admission import Admission

if TYPE_CHECKING:
    from hpcimg.runtime.convert import Converter
    from hpcimg.store.lease import LeaseKey
    from hpcimg.store.workspace import BuiltImage, Workspace
    from hpcimg.workflow.source import BlobSource

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

    `reference` is the name the user wrote, kept in the record; `features` are canonical words; with
    a `lease` nobody prunes the image while its job runs; `index` is the digest of the index that
    the image was picked from.
    """

    reference: Reference
    digest: str
    features: tuple[str, ...] = ()
    job: str = ""
    lease: LeaseKey | None = None
    index: str = ""


def ensure_image(
    wanted: Wanted,
    *,
    store: Store,
    client: BlobSource,
    converter: Converter,
    limits: Limits,
    admission: Admission,
    on_progress: OnProgress = silent,
) -> Entry:
    """Have the image in the store: found there, built by somebody else meanwhile, or built here.

    Asks the registry only to build, or for a signature that an older entry has to have. Raises
    RegistryError and its kin, StoreError, RuntimeFailure, UnsignedError.
    """

    def build(workspace: Workspace) -> BuiltImage:
        return _build(wanted, store, client, converter, limits, admission, workspace)

    admission.check_listed(wanted.reference)
    entry = store.ensure(
        wanted.digest,
        converter.id,
        build,
        on_progress=on_progress,
        job=wanted.job,
        lease=wanted.lease,
        image=str(wanted.reference),
    )
    return admission.admit(entry, wanted.reference, wanted.index, store)


def _build(
    wanted: Wanted,
    store: Store,
    client: BlobSource,
    converter: Converter,
    limits: Limits,
    admission: Admission,
    workspace: Workspace,
) -> BuiltImage:
    from hpcimg.runtime.check import check_image
    from hpcimg.runtime.source import Source, size_of
    from hpcimg.store.workspace import BuiltImage
    from hpcimg.workflow.shared import convert_sharing

    source = wanted.reference.with_digest(wanted.digest)
    workspace.report(Progress("fetch", note=str(wanted.reference)))
    manifest = client.fetch_document(source)
    if isinstance(manifest, Index):
        raise RegistryError(f'"{source}" is an index, not one image')
    check_manifest(manifest, limits, str(source))
    signatures = admission.proof(wanted.reference, wanted.digest, wanted.index)
    size = size_of(manifest)
    require_space(workspace.path, size)
    config = b"".join(client.fetch_blob(source, manifest.config))
    image = Source(str(source), manifest, config, lambda blob: client.fetch_blob(source, blob))
    with _room(workspace.path, size * converter.disk_ratio):
        convert_sharing(image, (source, wanted.index), store, client, converter, workspace)
    check_image(workspace.image)
    return BuiltImage(
        references=(str(wanted.reference),),
        features=wanted.features,
        layers=tuple(Layer(layer.digest, layer.size) for layer in manifest.layers),
        signatures=signatures,
        # A converter may change media types, and so the digest: the registry's own bytes stay.
        documents={"manifest.json": manifest.raw, "config.json": config},
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
