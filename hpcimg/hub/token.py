"""The hub's tokens: who, of which machine type, for which repositories and until when, signed.

Any copy that has the key can verify one; nothing about them is kept.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

# What is signed begins with this, so that no other use of the key can make a token.
_CONTEXT = b"hpcimg hub token 1\n"
_LIMIT = 8192


@dataclass(frozen=True)
class Claims:
    """What a token says; `expires` is in seconds since 1970."""

    subject: str
    machine_type: str = ""
    repositories: tuple[str, ...] = ()
    expires: float = 0.0


def sign(key: bytes, claims: Claims) -> str:
    """Write a token."""
    said = {
        "sub": claims.subject,
        "type": claims.machine_type,
        "repositories": claims.repositories,
        "exp": claims.expires,
    }
    body = _text(json.dumps(said, separators=(",", ":")).encode())
    return f"{body}.{_text(_seal(key, body))}"


def verify(key: bytes, text: str, now: float) -> Claims | None:
    """Read a token that this key has signed and whose time is not over; None for any other."""
    body, _, seal = text.partition(".")
    if len(text) > _LIMIT or not text.isascii():
        return None
    if not hmac.compare_digest(_text(_seal(key, body)), seal):
        return None
    try:
        said = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (binascii.Error, ValueError):
        return None
    claims = _claims(said)
    return claims if claims is not None and now < claims.expires else None


def _claims(said: Any) -> Claims | None:
    try:
        return Claims(said["sub"], said["type"], tuple(said["repositories"]), float(said["exp"]))
    except (KeyError, TypeError, ValueError):
        return None


def _seal(key: bytes, body: str) -> bytes:
    return hmac.new(key, _CONTEXT + body.encode(), hashlib.sha256).digest()


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
