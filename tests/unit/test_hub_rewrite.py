"""An index of one entry: always the same bytes, and nothing in it that a client could judge."""

from __future__ import annotations

import json

import pytest

from hpcimg.hub.rewrite import one_entry_index
from hpcimg.oci.model import DOCKER_INDEX, OCI_INDEX, OCI_MANIFEST, parse_document

DIGEST = f"sha256:{'a' * 64}"


def index(media_type=OCI_INDEX, **platform):
    """Parse an index with one entry of a platform."""
    entry = {
        "mediaType": OCI_MANIFEST,
        "digest": DIGEST,
        "size": 7,
        "platform": {"os": "linux", "architecture": "amd64", **platform},
        "annotations": {"org.example.requires": "cpu:broadwell"},
    }
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [entry],
        "annotations": {"x": "y"},
    }
    return parse_document(json.dumps(document).encode())


def test_nothing_is_left_to_compare():
    """Clients drop entries whose features or variants they do not know."""
    found = index(features=["cpu:broadwell"], variant="v3", **{"os.features": ["x"]})
    raw = one_entry_index(found, found.manifests[0])
    entry = {
        "digest": DIGEST,
        "mediaType": OCI_MANIFEST,
        "platform": {"architecture": "amd64", "os": "linux"},
        "size": 7,
    }
    assert json.loads(raw) == {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}


def test_the_same_bytes_each_time():
    """Its digest is promised by HEAD and asked for later, maybe of another copy of the hub."""
    first, second = index(variant="v3"), index(features=["cpu:skylake"])
    raw = one_entry_index(first, first.manifests[0])
    assert raw == one_entry_index(second, second.manifests[0])
    assert raw == one_entry_index(parse_document(raw), parse_document(raw).manifests[0])


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_INDEX])
def test_the_kind_of_index_stays(media_type):
    """A client that knows one kind alone gets that."""
    found = index(media_type)
    assert parse_document(one_entry_index(found, found.manifests[0])).media_type == media_type


def test_the_variant_of_32_bit_arm_stays():
    """A client would run no image of another variant, and knows these."""
    found = index(architecture="arm", variant="v7")
    platform = json.loads(one_entry_index(found, found.manifests[0]))["manifests"][0]["platform"]
    assert platform == {"architecture": "arm", "os": "linux", "variant": "v7"}
