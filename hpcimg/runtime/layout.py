"""An OCI layout on disk of one image, for converters that want to read it from there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from hpcimg.runtime.source import Source


def write_layout(layout: Path, source: Source, arrived: Callable[[int], None]) -> None:
    """Fetch all blobs of an image into a layout; `arrived` is told of the bytes."""
    manifest = source.manifest
    _place(layout, manifest.config.digest).write_bytes(source.config)
    arrived(len(source.config))
    for blob in dict.fromkeys(manifest.layers):
        with _place(layout, blob.digest).open("wb") as target:
            for chunk in source.fetch(blob):
                target.write(chunk)
                arrived(len(chunk))
    # A source with another digest than sha256 still is named by sha256 in its layout.
    _place(layout, manifest.digest).write_bytes(manifest.raw)
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}', encoding="ascii")
    entry = {
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": len(manifest.raw),
    }
    index = {"schemaVersion": 2, "manifests": [entry]}
    (layout / "index.json").write_text(json.dumps(index), encoding="utf-8")


def _place(layout: Path, digest: str) -> Path:
    algorithm, _, hexadecimal = digest.partition(":")
    path = layout / "blobs" / algorithm / hexadecimal
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
