"""Signatures that OpenSSL made, in cosign's two forms, and what one changed byte does to them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpcimg.oci.hosts import Hosts
from hpcimg.oci.key import read_key
from hpcimg.oci.model import Descriptor
from hpcimg.oci.signature import SignatureFormError, parse_signed, signature_tag
from hpcimg.registry_settings import KeyRule, RegistrySettings

DATA = Path(__file__).parents[1] / "data" / "signatures"
DIGEST = "sha256:6f65a6ff1d4f1d8a4a8c2d6a0c2b8a0a8f3f0c6ef3b5f4d1c5a1e6b7d8e9f001"
SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def layer(kind: str, signature: str = "") -> Descriptor:
    """Describe what holds a signature."""
    return Descriptor(
        kind, DIGEST, 1, annotations={"dev.cosignproject.cosign/signature": signature}
    )


def simple(raw: bytes):
    """Read the classic form with the signature of the unchanged payload."""
    return parse_signed(layer(SIMPLE, (DATA / "payload.sig").read_text()), raw)


def test_the_fingerprint_is_that_of_the_key():
    """The digest of its DER form, as `openssl pkey -outform DER | sha256sum` gives it."""
    assert read_key(str(DATA / "site.pub")).fingerprint == (
        "sha256:cb5fb693a99cce88234ebe0e0a4159458428fa700c50b685b9c749a2b2dc32a2"
    )


@pytest.mark.parametrize("form", ["classic", "bundle"])
def test_a_fixed_signature_is_good(form):
    """Both forms name the digest, and the key has signed them."""
    key = read_key(str(DATA / "site.pub"))
    if form == "classic":
        signed = simple((DATA / "payload.json").read_bytes())
    else:
        signed = parse_signed(layer(BUNDLE), (DATA / "bundle.json").read_bytes())
    assert signed.digests == (DIGEST,)
    assert [key.has_signed(signed.message, one) for one in signed.signatures] == [True]
    assert not key.has_signed(signed.message + b" ", signed.signatures[0])


def test_one_changed_letter_is_another_payload():
    """The image that it names may not be exchanged."""
    raw = (DATA / "payload.json").read_bytes().replace(b"f001", b"f002")
    signed = simple(raw)
    assert signed.digests == (DIGEST[:-1] + "2",)
    assert not read_key(str(DATA / "site.pub")).has_signed(signed.message, signed.signatures[0])


def test_a_bundle_of_another_payload_type_is_refused():
    """What is no statement on an image says nothing of one."""
    document = json.loads((DATA / "bundle.json").read_bytes())
    document["dsseEnvelope"]["payloadType"] = "text/plain"
    with pytest.raises(SignatureFormError, match="no statement on an image"):
        parse_signed(layer(BUNDLE), json.dumps(document).encode())


def test_other_attachments_are_no_signatures():
    """A software list, for one."""
    with pytest.raises(SignatureFormError, match="no signature of cosign's"):
        parse_signed(layer("application/spdx+json"), b"{}")


def test_the_tag_is_cosign_s():
    """The digest with a dash for its colon."""
    assert signature_tag("sha256:ab") == "sha256-ab.sig"


@pytest.mark.parametrize(
    "written", ["registry.example.org", "registry.example.org:443", "REGISTRY.example.org"]
)
def test_a_port_that_goes_without_saying_changes_no_rule(written):
    """Nobody gets round a signature by writing the host's name in another way."""
    rules = (KeyRule("*", ("/etc/hpcimg/site.pub",)),)
    hosts = Hosts({"registry.example.org": RegistrySettings(signatures=rules)}, listed_only=False)
    assert hosts.policy(written.lower()).signatures == rules
    assert hosts.policy("other.example.org").signatures == ()
