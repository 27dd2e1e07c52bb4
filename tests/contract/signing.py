"""Signs images in the tests' registry as cosign does, in each of the forms that it has."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from registry import OCI_MANIFEST, Registry, digest_of

if TYPE_CHECKING:
    from pathlib import Path

SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIGN = "https://sigstore.dev/cosign/sign/v1"


@dataclass(frozen=True)
class Signer:
    """A private key, and the file that has its public half."""

    private: Any
    file: Path

    def sign(self, message: bytes) -> bytes:
        """Sign as cosign does with this kind of key."""
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            return self.private.sign(message)
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(message, padding.PKCS1v15(), SHA256())
        return self.private.sign(message, ec.ECDSA(SHA256()))


def make_signer(folder: Path, kind: str = "ecdsa", name: str = "site.pub") -> Signer:
    """Make a key and write its public half, readable by all."""
    private = {
        "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "rsa": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "weak": lambda: rsa.generate_private_key(public_exponent=65537, key_size=1024),
    }[kind]()
    file = folder / name
    form = PublicFormat.SubjectPublicKeyInfo
    file.write_bytes(private.public_key().public_bytes(Encoding.PEM, form))
    file.chmod(0o644)
    return Signer(private, file)


def payload(digest: str, kind: str = "cosign container image signature") -> bytes:
    """Write what the classic form signs."""
    return json.dumps(
        {
            "critical": {
                "identity": {"docker-reference": "registry.example.org/qnib/bench"},
                "image": {"docker-manifest-digest": digest},
                "type": kind,
            },
            "optional": None,
        }
    ).encode()


def sign_classic(
    registry: Registry, repository: str, digest: str, signer: Signer, raw: bytes = b""
) -> None:
    """Put a signature under the tag of the digest, beside those that are there."""
    raw = raw or payload(digest)
    tag = f"{digest.replace(':', '-')}.sig"
    kept = registry.documents.get(repository, {}).get(tag)
    layers = json.loads(kept.raw)["layers"] if kept else []
    signature = base64.b64encode(signer.sign(raw)).decode()
    layers.append(_layer(registry, repository, SIMPLE, raw, signature))
    document = _manifest(registry, repository, layers)
    registry.put_document(repository, tag, OCI_MANIFEST, json.dumps(document).encode())


def bundle(digest: str, signer: Signer, predicate: str = SIGN) -> bytes:
    """Write a sigstore bundle whose envelope is a statement on the digest."""
    algorithm, _, value = digest.partition(":")
    statement = json.dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {algorithm: value}, "annotations": {}}],
            "predicateType": predicate,
            "predicate": {},
        }
    ).encode()
    kind = b"application/vnd.in-toto+json"
    message = b"DSSEv1 28 %s %d %s" % (kind, len(statement), statement)
    return json.dumps(
        {
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": "x"}},
            "dsseEnvelope": {
                "payload": base64.b64encode(statement).decode(),
                "payloadType": kind.decode(),
                "signatures": [{"sig": base64.b64encode(signer.sign(message)).decode()}],
            },
        }
    ).encode()


def sign_bundle(
    registry: Registry, repository: str, digest: str, signer: Signer, predicate: str = SIGN
) -> None:
    """Attach a bundle to the digest, found by the referrers API."""
    attach_bundle(registry, repository, digest, bundle(digest, signer, predicate))


def attach_bundle(registry: Registry, repository: str, digest: str, raw: bytes) -> None:
    """Attach these bytes to the digest as a bundle."""
    layers = [_layer(registry, repository, BUNDLE, raw)]
    document = _manifest(registry, repository, layers)
    document["artifactType"] = BUNDLE
    document["annotations"] = {"dev.sigstore.bundle.content": "dsse-envelope"}
    document["subject"] = {"mediaType": OCI_MANIFEST, "digest": digest, "size": 7}
    raw = json.dumps(document).encode()
    registry.put_document(repository, digest_of(raw), OCI_MANIFEST, raw)


def _layer(
    registry: Registry, repository: str, kind: str, raw: bytes, signature: str = ""
) -> dict[str, Any]:
    layer = {
        "mediaType": kind,
        "digest": registry.put_blob(repository, raw),
        "size": len(raw),
    }
    if signature:
        layer["annotations"] = {"dev.cosignproject.cosign/signature": signature}
    return layer


def _manifest(registry: Registry, repository: str, layers: list[Any]) -> dict[str, Any]:
    config = b'{"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":[]}}'
    return {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": registry.put_blob(repository, config),
            "size": len(config),
        },
        "layers": layers,
    }
