"""`inspect`: what stands behind a name, shown as manifest-tool shows it, or as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpcimg.oci.model import Descriptor, Index, Manifest, Platform
from hpcimg.oci.reference import Reference
from hpcimg.workflow.resolve import read_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hpcimg.oci.client import RegistryClient
    from hpcimg.settings import Settings


@dataclass(frozen=True)
class Inspection:
    """A name as it was written, what it means, and the documents behind it.

    `children` are the documents of an index's entries in its order; a single image has none.
    """

    name: str
    reference: Reference
    document: Manifest | Index
    children: tuple[Manifest | Index, ...]


def inspect_image(name: str, settings: Settings, client: RegistryClient) -> Inspection:
    """Fetch the document behind a name and, of an index, each entry's own."""
    reference = read_name(name, settings)
    document = client.fetch_document(reference)
    entries = document.manifests if isinstance(document, Index) else ()
    children = tuple(
        client.fetch_document(reference.with_digest(entry.digest)) for entry in entries
    )
    return Inspection(name, reference, document, children)


def inspect_text(inspection: Inspection) -> str:
    """Write the inspection as lines; pure."""
    document = inspection.document
    lines = [
        f"Name:   {inspection.name} (Type: {document.media_type})",
        f"Digest: {document.digest}",
    ]
    if isinstance(document, Manifest):
        return "\n".join([*lines, *_layer_lines(" *", document)])
    lines.append(f" * Contains {len(document.manifests)} manifest references:")
    pairs = zip(document.manifests, inspection.children, strict=True)
    blocks = [
        "\n".join(_entry_lines(number, entry, child))
        for number, (entry, child) in enumerate(pairs, 1)
    ]
    return "\n".join([*lines, "\n\n".join(blocks)])


def _entry_lines(number: int, entry: Descriptor, child: Manifest | Index) -> Iterator[str]:
    platform = entry.platform or Platform("", "")
    yield f"{number}    Mfst Type: {entry.media_type}"
    yield f"{number}       Digest: {entry.digest}"
    yield f"{number}  Mfst Length: {entry.size}"
    yield f"{number}     Platform:"
    facts = (
        ("     OS", platform.os),
        ("OS Vers", platform.os_version or ""),
        ("OS Feat", f"[{' '.join(platform.os_features)}]"),
        ("   Arch", platform.architecture),
        ("Variant", platform.variant or ""),
        ("Feature", ",".join(platform.features)),
    )
    for label, value in facts:
        yield f"{number}           - {label}: {value}".rstrip()
    yield from _layer_lines(f"{number}    ", child)


def _layer_lines(start: str, document: Manifest | Index) -> Iterator[str]:
    if isinstance(document, Index):
        yield f"{start} # Entries: {len(document.manifests)}"
        return
    yield f"{start} # Layers: {len(document.layers)}"
    for number, layer in enumerate(document.layers, 1):
        yield f"         layer {number}: digest = {layer.digest}"


def inspect_json(inspection: Inspection) -> dict[str, Any]:
    """Write the inspection as an object for programs; pure."""
    document = inspection.document
    result: dict[str, Any] = {
        "name": inspection.name,
        "reference": str(inspection.reference),
        "mediaType": document.media_type,
        "digest": document.digest,
        "size": len(document.raw),
    }
    if isinstance(document, Manifest):
        return {**result, **_content(document)}
    pairs = zip(document.manifests, inspection.children, strict=True)
    return {**result, "manifests": [_entry_json(entry, child) for entry, child in pairs]}


def _entry_json(entry: Descriptor, child: Manifest | Index) -> dict[str, Any]:
    platform = entry.platform
    return {
        "mediaType": entry.media_type,
        "digest": entry.digest,
        "size": entry.size,
        "platform": None if platform is None else _platform_json(platform),
        "annotations": dict(entry.annotations),
        **_content(child),
    }


def _platform_json(platform: Platform) -> dict[str, Any]:
    return {
        "os": platform.os,
        "os.version": platform.os_version,
        "os.features": list(platform.os_features),
        "architecture": platform.architecture,
        "variant": platform.variant,
        "features": list(platform.features),
    }


def _content(document: Manifest | Index) -> dict[str, Any]:
    if isinstance(document, Index):
        return {"entries": _pointers(document.manifests)}
    return {"layers": _pointers(document.layers)}


def _pointers(descriptors: Sequence[Descriptor]) -> list[dict[str, Any]]:
    return [
        {"mediaType": each.media_type, "digest": each.digest, "size": each.size}
        for each in descriptors
    ]
