"""Indexes and compatibility artifacts for the tests' registry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from registry import OCI_INDEX, OCI_MANIFEST, Registry, digest_of

from hpcimg.metadata import COMPATIBILITY_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterable

AMD64 = {"os": "linux", "architecture": "amd64"}


def put_image(registry: Registry, repository: str, name: str, **config: Any) -> str:
    """Store an OCI image; `config` are fields of its config's own `config`."""
    fields = {"config": config} if config else {}
    return registry.put_image(repository, name, [name.encode()], docker=False, **fields)


def described(digest: str, *features: str, **changes: Any) -> dict[str, Any]:
    """Make an entry for linux/amd64; `changes` replace its fields, None takes one away."""
    platform = {**AMD64, "features": list(features)} if features else AMD64
    entry = {"mediaType": OCI_MANIFEST, "digest": digest, "size": 7, "platform": platform}
    return {key: value for key, value in {**entry, **changes}.items() if value is not None}


def put_index(registry: Registry, repository: str, tag: str, *entries: dict[str, Any]) -> str:
    """Store an index of entries and return its digest."""
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)}
    return registry.put_document(repository, tag, OCI_INDEX, json.dumps(document).encode())


def specification(flag: str) -> bytes:
    """Write the artifact of an image that requires one CPU flag."""
    expression = {"matchFeatures": [{"feature": "cpu.cpuid", "matchExpressions": {
        flag: {"op": "Exists"}}}]}  # fmt: skip
    return json.dumps(
        {
            "version": "v1alpha1",
            "compatibilities": [{"rules": [{"name": "one", **expression}]}],
        }
    ).encode()


def attach(
    registry: Registry, repository: str, subject: str, raw: bytes, created: str = "", kind: str = ""
) -> str:
    """Attach an artifact to an image; return its digest."""
    layer = {
        "mediaType": "application/vnd.nfd.image-compatibility.spec.v1alpha1+yaml",
        "digest": registry.put_blob(repository, raw),
        "size": len(raw),
    }
    empty = {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": registry.put_blob(repository, b"{}"),
        "size": 2,
    }
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": kind or COMPATIBILITY_TYPE,
        "config": empty,
        "layers": [layer],
        "subject": {"mediaType": OCI_MANIFEST, "digest": subject, "size": 7},
        "annotations": {"org.opencontainers.image.created": created},
    }
    digest = digest_of(json.dumps(document).encode())
    registry.put_document(repository, digest, OCI_MANIFEST, json.dumps(document).encode())
    return digest


def put_referrers_tag(registry: Registry, repository: str, subject: str) -> None:
    """Let a tag stand in for the referrers API, as clients do where there is none."""
    raw = registry.referrers_index(repository, subject)
    registry.put_document(repository, subject.replace(":", "-"), OCI_INDEX, raw)


def words(entries: Iterable[Any]) -> list[str]:
    """Write the entries' required words, those of each joined by commas."""
    return [",".join(str(feature) for feature in entry.features) for entry in entries]
