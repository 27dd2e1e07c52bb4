"""Passwords as hashes: scrypt for new ones, and bcrypt for those that MetaHub's file brings."""

from __future__ import annotations

import hashlib
import hmac
import re

from hpcimg.errors import UsageError

_N, _R, _P = 1 << 14, 8, 1
_SCRYPT = re.compile(
    r"scrypt\$([1-9][0-9]{0,6})\$([1-9][0-9]?)\$([1-9][0-9]?)\$(?:[0-9a-f]{2}){8,64}\$[0-9a-f]{64}"
)
_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
_BCRYPT_COSTS = range(4, 17)
# Bcrypt has never looked at more.
_BCRYPT_LENGTH = 72
# A hash comes from a file that somebody wrote: it must not take the machine's memory.
_WORK_LIMIT = 1 << 20
_PASSWORD_LIMIT = 1024
_NOBODYS = f"scrypt${_N}${_R}${_P}${'00' * 16}${'00' * 32}"


def hash_password(password: str, salt: bytes | None = None) -> str:
    """Hash a password, with a salt of its own where none is given; raises UsageError."""
    if not password or len(password) > _PASSWORD_LIMIT:
        raise UsageError(f"a password has 1 to {_PASSWORD_LIMIT} characters")
    if salt is None:
        import secrets

        salt = secrets.token_bytes(16)
    return f"scrypt${_N}${_R}${_P}${salt.hex()}${_scrypt(password, salt, _N, _R, _P).hex()}"


def verify_password(password: str, hashed: str) -> bool:
    """Tell whether this is the password; what is no hash costs as much time, and is False."""
    if is_bcrypt(hashed):
        return _verify_bcrypt(password, hashed)
    is_known = is_hash(hashed)
    _, n, r, p, salt, expected = (hashed if is_known else _NOBODYS).split("$")
    made = _scrypt(password[:_PASSWORD_LIMIT], bytes.fromhex(salt), int(n), int(r), int(p))
    return hmac.compare_digest(made, bytes.fromhex(expected)) and is_known


def is_hash(text: str) -> bool:
    """Tell whether a text is a hash that `verify_password` can read."""
    if is_bcrypt(text):
        return True
    found = _SCRYPT.fullmatch(text)
    if found is None:
        return False
    n, r, p = (int(found[at]) for at in (1, 2, 3))
    return n > 1 and n & (n - 1) == 0 and n * r * p <= _WORK_LIMIT


def is_bcrypt(text: str) -> bool:
    """Tell whether a text is a hash of bcrypt, of a cost that is bearable."""
    found = _BCRYPT.fullmatch(text)
    return found is not None and int(found[1]) in _BCRYPT_COSTS


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    raw = password.encode("utf-8", "surrogatepass")
    # OpenSSL wants the room for its blocks named, and a little more.
    room = 128 * r * (n + p + 2) + (1 << 20)
    return hashlib.scrypt(raw, salt=salt, n=n, r=r, p=p, maxmem=room, dklen=32)


def _verify_bcrypt(password: str, hashed: str) -> bool:
    import bcrypt

    raw = password.encode("utf-8", "surrogatepass")[:_BCRYPT_LENGTH]
    try:
        return bcrypt.checkpw(raw, hashed.encode())
    except ValueError:  # a NUL among the characters, or a salt that is none
        return False
