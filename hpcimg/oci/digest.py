"""Digests: their grammar, making one from raw bytes, and checking bytes against one."""

from __future__ import annotations

import hashlib
import re

from hpcimg.errors import DigestMismatchError, RegistryError
from hpcimg.quoting import quoted

_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_DIGEST = re.compile(r"(sha256):[0-9a-f]{64}|(sha512):[0-9a-f]{128}")


def is_digest(text: object) -> bool:
    """Tell whether this is a digest of an algorithm that hpcimg can check, in canonical form."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def digest_of(raw: bytes, algorithm: str = "sha256") -> str:
    """Name bytes by their digest, `sha256:…` or `sha512:…`."""
    if algorithm not in _HEX_LENGTH:
        raise RegistryError(
            f"digest algorithm {quoted(algorithm)} is not supported", "use sha256 or sha512"
        )
    return f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"


def shortened(digest: str) -> str:
    """Cut a digest to what people tell images apart by; the algorithm stays."""
    algorithm, _, hexadecimal = digest.partition(":")
    return f"{algorithm}:{hexadecimal[:12]}"


def verify_digest(raw: bytes, digest: str) -> None:
    """Raise DigestMismatchError unless the bytes are the ones that the digest names."""
    if not is_digest(digest):
        raise RegistryError(f"{quoted(digest)} is not a sha256 or sha512 digest")
    found = digest_of(raw, digest.partition(":")[0])
    if found != digest:
        raise DigestMismatchError(
            f"content has the digest {found}, wanted was {digest}",
            "the registry or something before it changed the content: tell its administrator",
        )
