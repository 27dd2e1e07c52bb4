"""Manifests and indexes from raw bytes: what is read, and which bytes are refused."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from indexes import BENCH, digest, entry, index_of

from hpcimg.errors import DigestMismatchError, HpcimgError, RegistryError
from hpcimg.oci import model

CONFIG = {"mediaType": model.DOCKER_CONFIG, "digest": digest(1), "size": 10}
LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(2), "size": 5}
MANIFEST = {"schemaVersion": 2, "config": CONFIG, "layers": [LAYER]}


def parse(document, hint=None):
    """Parse a document given as Python values."""
    return model.parse_document(json.dumps(document).encode(), hint)


def test_a_manifest_keeps_its_bytes_and_their_digest():
    """The digest is over the raw bytes, not over what was understood of them."""
    raw = json.dumps(MANIFEST, indent=3).encode()
    manifest = model.parse_document(raw, model.OCI_MANIFEST + "; charset=utf-8")
    assert isinstance(manifest, model.Manifest)
    assert manifest.raw == raw
    assert manifest.digest == "sha256:" + hashlib.sha256(raw).hexdigest()
    assert manifest.media_type == model.OCI_MANIFEST
    assert [layer.digest for layer in manifest.layers] == [digest(2)]


def test_an_index_keeps_features_and_order():
    """Docker's manifest list is an index as well."""
    index = index_of(*(entry(at, *words) for at, words in enumerate(BENCH)))
    assert index.media_type == model.DOCKER_INDEX
    assert [one.platform.features for one in index.manifests] == list(BENCH)


def test_without_a_media_type_the_shape_tells():
    """The specification allows to leave it out."""
    assert isinstance(parse({"schemaVersion": 2, "manifests": []}, "application/json"), model.Index)
    assert isinstance(parse(MANIFEST), model.Manifest)


@pytest.mark.parametrize(
    ("os", "architecture", "variant", "meant"),
    [
        ("linux", "x86_64", None, ("linux", "amd64", None)),
        ("Linux", "AMD64", "v1", ("linux", "amd64", None)),
        ("linux", "x86-64", "v3", ("linux", "amd64", "v3")),
        ("linux", "aarch64", "v8", ("linux", "arm64", None)),
        ("linux", "i386", None, ("linux", "386", None)),
        ("linux", "armhf", None, ("linux", "arm", "v7")),
        ("linux", "armel", None, ("linux", "arm", "v6")),
        ("linux", "riscv64", None, ("linux", "riscv64", None)),
    ],
)
def test_synonyms_of_an_architecture_are_one(os, architecture, variant, meant):
    """Registries hold what build tools of all ages wrote."""
    assert model.normalise_platform(os, architecture, variant) == meant


def test_an_attestation_is_known_by_its_platform():
    """Build tools mark what nobody can run with unknown/unknown."""
    index = index_of(entry(1, os="unknown", architecture="unknown"), entry(2))
    assert [one.platform.is_unknown for one in index.manifests] == [True, False]


BROKEN = [
    (b"", "not JSON"),
    (b"\xff\xfe", "not JSON"),
    (b"[]", "not a JSON object"),
    (b'{"schemaVersion": 2, "schemaVersion": 2, "manifests": []}', "a key stands twice"),
    (b'{"schemaVersion": 2, "manifests": NaN}', "NaN is not JSON"),
    (b"[" * 100_000, "not JSON"),
    (b" " * (4 * 1024 * 1024 + 1), "more than 4194304"),
    ({"schemaVersion": 1, "fsLayers": []}, "Docker schema 1 manifest"),
    ({"schemaVersion": 3, "manifests": []}, "schemaVersion is '3', not 2"),
    ({"schemaVersion": 2}, "neither an image manifest nor an index, or both"),
    ({**MANIFEST, "manifests": []}, "neither an image manifest nor an index, or both"),
    ({**MANIFEST, "mediaType": model.OCI_INDEX}, "is not its content's"),
    ({**MANIFEST, "mediaType": ["x"]}, "the document.mediaType is \"['x']\""),
    ({**MANIFEST, "layers": {}}, "layers is not a list"),
    ({**MANIFEST, "config": None}, "config is not an object"),
    ({**MANIFEST, "layers": [LAYER] * 1001}, "layers has 1001 entries, more than 1000"),
    ({**MANIFEST, "layers": [{**LAYER, "size": -1}]}, "layers[0]: '-1' is not a size"),
    ({**MANIFEST, "layers": [{**LAYER, "size": True}]}, "'True' is not a size"),
    ({**MANIFEST, "layers": [{**LAYER, "size": 1.5}]}, "'1.5' is not a size"),
    ({**MANIFEST, "layers": [{**LAYER, "size": 2**63}]}, "is not a size"),
    ({**MANIFEST, "layers": [{**LAYER, "digest": "sha256:../x"}]}, "'sha256:../x' is not a sha256"),
    ({**MANIFEST, "layers": [{**LAYER, "mediaType": ""}]}, "layers[0] has no media type"),
    ({**MANIFEST, "annotations": {"a": 1}}, "the annotations of the document are not texts"),
    (
        {"schemaVersion": 2, "manifests": [entry(1, "a\x1b[2J")]},
        r"manifests[0].platform.features is 'a\x1b[2J'",
    ),
    ({"schemaVersion": 2, "manifests": [entry(1, "x" * 300)]}, "not a short text"),
    (
        {"schemaVersion": 2, "manifests": [{**entry(1), "platform": []}]},
        "manifests[0].platform is not an object",
    ),
]


@pytest.mark.parametrize(("document", "why"), BROKEN)
def test_a_bad_document_is_refused_with_what_is_wrong(document, why):
    """One printable line, whatever a stranger has pushed."""
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(RegistryError, match=re.escape(why)) as caught:
        model.parse_document(raw)
    assert caught.value.message.isprintable()


def test_the_header_may_not_contradict_the_document():
    """One document must never be a manifest to one reader and an index to another."""
    with pytest.raises(RegistryError, match="is not its content's"):
        parse({**MANIFEST, "mediaType": model.OCI_MANIFEST}, model.OCI_INDEX)
    with pytest.raises(RegistryError, match="is not its content's"):
        parse(MANIFEST, model.OCI_INDEX)


def test_the_platform_of_a_lone_image_is_in_its_config():
    """An image without an index says there where it runs."""
    raw = b'{"architecture": "amd64", "os": "linux", "config": {}}'
    assert str(model.platform_of_config(raw)) == "linux/amd64"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_bytes_are_checked_against_their_digest(algorithm):
    """Both algorithms of the specification; one changed bit is told with both digests."""
    good = model.digest_of(b"abc", algorithm)
    model.verify_digest(b"abc", good)
    with pytest.raises(DigestMismatchError, match=f"wanted was {good}"):
        model.verify_digest(b"abx", good)


def test_an_unknown_algorithm_is_never_taken_for_checked():
    """Not to check would be to trust."""
    with pytest.raises(RegistryError, match="'md5:00' is not a sha256 or sha512 digest"):
        model.verify_digest(b"", "md5:00")
    with pytest.raises(RegistryError, match="'md5' is not supported"):
        model.digest_of(b"", "md5")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["schemaVersion", "manifests", "config", "layers", "mediaType",
                             "digest", "size", "platform", "annotations", "os", "features"]),
            inner, max_size=5,
        )
    ),
    max_leaves=20,
)  # fmt: skip


@given(_json, st.sampled_from(["", "manifests", "layers", "config"]))
def test_any_document_is_parsed_or_refused(document, place):
    """Nothing but our own errors comes out."""
    base = {"schemaVersion": 2} if place == "manifests" else MANIFEST
    whole = {**base, place: [document] if place == "manifests" else document}
    with contextlib.suppress(HpcimgError):
        parse(whole if place else document)
