"""The two forms in which cosign signs an image: what was signed, and which digest it names.

Pure: who fetches the documents, and which keys count, is not its matter.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from hpcimg.oci.digest import is_digest
from hpcimg.oci.model import Descriptor

SIMPLE_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
"""The classic payload; its signature is an annotation of the layer that holds it."""
SIMPLE_ARTIFACT = "application/vnd.dev.cosign.artifact.sig.v1+json"
"""The same, attached to the image instead of under a tag."""
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
"""A sigstore bundle, which cosign 3 attaches to the image."""

_ANNOTATION = "dev.cosignproject.cosign/signature"
_SIMPLE_KINDS = ("cosign container image signature", "atomic container signature")
_STATEMENT_TYPE = "application/vnd.in-toto+json"
_STATEMENTS = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")
_PREDICATE = "https://sigstore.dev/cosign/sign/v1"


class SignatureFormError(Exception):
    """Why something is no signature of an image."""


@dataclass(frozen=True)
class Signed:
    """Bytes that somebody signed, the signatures of them, and the digests that they name.

    `digests` are worth nothing before a key has vouched for `message`.
    """

    message: bytes
    signatures: tuple[bytes, ...]
    digests: tuple[str, ...]


def signature_tag(digest: str) -> str:
    """Name the tag under which cosign puts the signatures of a digest."""
    return f"{digest.replace(':', '-')}.sig"


def parse_signed(layer: Descriptor, raw: bytes) -> Signed:
    """Read one layer of a signature's manifest; raises SignatureFormError."""
    try:
        if layer.media_type == SIMPLE_TYPE:
            return _simple(raw, layer.annotations.get(_ANNOTATION, ""))
        if layer.media_type == BUNDLE_TYPE:
            return _bundle(raw)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SignatureFormError("a signature cannot be read") from error
    raise SignatureFormError("what is attached is no signature of cosign's")


def _simple(raw: bytes, signature: str) -> Signed:
    critical = _object(raw)["critical"]
    if critical["type"] not in _SIMPLE_KINDS:
        raise SignatureFormError("what is signed is not an image")
    digest = critical["image"]["docker-manifest-digest"]
    return Signed(raw, (_decoded(signature),), _checked([digest]))


def _bundle(raw: bytes) -> Signed:
    """Read a DSSE envelope: what is signed is its type and its payload, each with its length."""
    envelope = _object(raw)["dsseEnvelope"]
    kind, payload = envelope["payloadType"], _decoded(envelope["payload"])
    statement = _object(payload)
    if kind != _STATEMENT_TYPE or statement["_type"] not in _STATEMENTS:
        raise SignatureFormError("what is signed is no statement on an image")
    # An attestation says something of an image, and be it that it must not be run.
    if statement["predicateType"] != _PREDICATE:
        raise SignatureFormError("what is attached is a statement on the image, not a signature")
    digests = [
        f"{algorithm}:{value}"
        for subject in statement["subject"]
        for algorithm, value in subject["digest"].items()
    ]
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    signatures = tuple(_decoded(one["sig"]) for one in envelope["signatures"])
    return Signed(message, signatures, _checked(digests))


def _object(raw: bytes) -> dict[str, Any]:
    found = json.loads(raw, object_pairs_hook=_unique)
    if not isinstance(found, dict):
        raise TypeError("no object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _checked(digests: list[Any]) -> tuple[str, ...]:
    return tuple(digest for digest in digests if is_digest(digest))
