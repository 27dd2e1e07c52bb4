"""Indexes for the tests, written as the words of their entries."""

from __future__ import annotations

import json
from typing import Any

from hpcimg.oci.model import DOCKER_INDEX, DOCKER_MANIFEST, Index, parse_document
from hpcimg.requirements import Entry, entries_of

BENCH = ((), ("cpu:skylake",), ("cpu:broadwell",), ("cpu:broadwell", "nvcap:5.2"))
"""The four entries of qnib/bench, in the announcement's order."""

CV_TF = (
    (),
    ("skylake",),
    ("nvidia-390-30",),
    ("nvidia-396-44",),
    ("broadwell", "nvidia-390-30"),
    ("broadwell", "nvidia-396-44"),
    ("nvidia-396-44", "skylake"),
    ("nvidia-396-44", "skylake512"),
    ("nv-compute-5-2", "nvidia-396-44"),
    ("nv-compute-3-7", "nvidia-396-44"),
    ("broadwell", "nv-compute-5-2", "nvidia-396-44"),
)
"""The eleven entries of qnib/cv-tf:1.12.0-rev9, in the first post's order and spelling."""


def digest(number: int) -> str:
    """Make the digest of the entry with this number."""
    return f"sha256:{number:064x}"


def entry(number: int, *features: str, **changes: Any) -> dict[str, Any]:
    """Make one entry of an index; `changes` replace fields of its platform."""
    platform = {"os": "linux", "architecture": "amd64", "features": list(features), **changes}
    return {
        "mediaType": DOCKER_MANIFEST,
        "digest": digest(number),
        "size": 735,
        "platform": {key: value for key, value in platform.items() if value},
    }


def index_of(*entries: dict[str, Any]) -> Index:
    """Make an index of entries."""
    document = {"schemaVersion": 2, "mediaType": DOCKER_INDEX, "manifests": list(entries)}
    index = parse_document(json.dumps(document).encode())
    assert isinstance(index, Index)
    return index


def entries_from(*entries: dict[str, Any]) -> tuple[Entry, ...]:
    """Make the entries of an index as selection takes them."""
    return entries_of(index_of(*entries))


def index_with(*features: tuple[str, ...]) -> tuple[Entry, ...]:
    """Make an index's entries, numbered from 0, that require these features."""
    return entries_from(*(entry(at, *words) for at, words in enumerate(features)))
