"""A site's public key: read from its file, named by its fingerprint, and what it has signed.

Knows the three kinds of keys that cosign uses; the library that checks them is loaded late.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
from dataclasses import dataclass, field
from typing import Any

from hpcimg.errors import SettingsError

_LIMIT = 64 << 10
_PEM = re.compile(
    rb"-----BEGIN PUBLIC KEY-----\s+([A-Za-z0-9+/=\s]+?)\s*-----END PUBLIC KEY-----\s*"
)
_RSA_BITS = 2048
_HINT = 'correct "signatures" under "registries:"; `cosign generate-key-pair` makes such a file'


@dataclass(frozen=True)
class PublicKey:
    """`fingerprint` is `sha256:` and the digest of the key's DER form, whatever its file's name."""

    path: str
    fingerprint: str
    der: bytes = field(repr=False)

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        """Tell whether this key made the signature of exactly these bytes."""
        from cryptography.exceptions import InvalidSignature

        try:
            _check(self._loaded(), message, signature)
        except InvalidSignature:
            return False
        return True

    def check_kind(self) -> None:
        """Raise SettingsError for a key of a kind that proves nothing here."""
        self._loaded()

    def _loaded(self) -> Any:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        try:
            key = load_der_public_key(self.der)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise _wrong(self.path, "it holds no public key") from error
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
            return key
        if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _RSA_BITS:
            return key
        if isinstance(key, ed25519.Ed25519PublicKey):
            return key
        raise _wrong(self.path, f"it is not ECDSA P-256, Ed25519 or RSA of {_RSA_BITS} bits")


def read_key(path: str) -> PublicKey:
    """Read a PEM file that root, or this user, alone may write; raises SettingsError."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - its mode is read from the open file
            found = os.fstat(file.fileno())
            raw = file.read(_LIMIT)
    except OSError as error:
        raise _wrong(path, error.strerror or str(error)) from error
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid not in {0, os.geteuid()}:
        raise _wrong(path, f"it belongs to uid {found.st_uid}, not to root")
    if mode & 0o022:
        raise _wrong(path, f"others may write it (mode {mode:04o})")
    match = _PEM.fullmatch(raw.strip() + b"\n")
    try:
        der = base64.b64decode(b"".join(match[1].split()), validate=True) if match else b""
    except ValueError:
        der = b""
    if not der:
        raise _wrong(path, "it is not one public key in PEM form")
    return PublicKey(path, f"sha256:{hashlib.sha256(der).hexdigest()}", der)


def _check(key: Any, message: bytes, signature: bytes) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.hashes import SHA256

    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, message, ec.ECDSA(SHA256()))
    elif isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, message, padding.PKCS1v15(), SHA256())
    else:
        key.verify(signature, message)


def _wrong(path: str, reason: str) -> SettingsError:
    return SettingsError(f'could not use the public key "{path}": {reason}', _HINT)
