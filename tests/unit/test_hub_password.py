"""Passwords are kept as hashes, and compared with them."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcimg.errors import UsageError
from hpcimg.hub.password import hash_password, is_hash, verify_password

METAHUBS = "$2a$14$gb2QajF6cioofNOFzEVjguCVbxVbn1Pez/nJ69IVd98iHi3s/3Mc."
QUICK = "$2b$04$PpFuYHgmnChxBJ4sLnHCKeGMhBGO65TNIKu2hYmKUbj1uV5e7HQsO"


def test_a_hash_is_of_its_salt():
    """The same password is another hash each time, and the same for the same salt."""
    assert hash_password("secret") != hash_password("secret")
    once, twice = (hash_password("secret", b"0123456789abcdef") for _ in range(2))
    assert once == twice
    assert re.fullmatch(r"scrypt\$16384\$8\$1\$[0-9a-f]{32}\$[0-9a-f]{64}", once)
    assert "secret" not in once


@settings(max_examples=10, deadline=None)
@given(st.text(min_size=1, max_size=30))
def test_any_text_can_be_a_password(text):
    """It is right for its own hash, and no other one is."""
    hashed = hash_password(text)
    assert is_hash(hashed)
    assert verify_password(text, hashed)
    assert not verify_password(text + "x", hashed)


@pytest.mark.parametrize("text", ["", "x" * 1025])
def test_passwords_that_cannot_be(text):
    """None would let everybody in, and a long one costs time."""
    with pytest.raises(UsageError, match="a password has 1 to 1024 characters"):
        hash_password(text)


def test_bcrypt_of_others():
    """MetaHub's own example, and what htpasswd makes."""
    import bcrypt

    assert is_hash(METAHUBS)
    hashed = bcrypt.hashpw(b"qnib-type1", bcrypt.gensalt(4)).decode()
    assert verify_password("qnib-type1", hashed)
    assert verify_password("qnib-type1", hashed.replace("$2b$", "$2y$"))
    assert not verify_password("qnib-type2", hashed)
    assert not verify_password("a\0b", hashed)
    assert not verify_password("x" * 100, hashed)


@pytest.mark.parametrize(
    "hashed",
    [
        "",
        "plain",
        "scrypt$",
        "scrypt$16384$8$1$00$00",
        "scrypt$16383$8$1$" + "00" * 16 + "$" + "00" * 32,
        "scrypt$1$8$1$" + "00" * 16 + "$" + "00" * 32,
        "scrypt$9999999$99$99$" + "00" * 16 + "$" + "00" * 32,
        "scrypt$16384$8$1$" + "00" * 16 + "$" + "00" * 32 + "\n",
        "$2a$31$" + "a" * 53,
        "$2a$14$short",
        "$1$abc$def",
    ],
)
def test_what_is_no_hash_lets_nobody_in(hashed, monkeypatch):
    """It is no error, and costs what a hash costs, so that nobody learns which names there are."""
    made = []
    scrypt = hashlib.scrypt
    monkeypatch.setattr(
        "hashlib.scrypt",
        lambda raw, **how: made.append((how["n"], how["r"], how["p"])) or scrypt(raw, **how),
    )
    assert not is_hash(hashed)
    assert not verify_password("", hashed)
    assert not verify_password(hashed, hashed)
    assert made == [(16384, 8, 1)] * 2


def test_a_surrogate_is_no_error():
    """What base64 brings need not be text."""
    assert not verify_password("\udcff", hash_password("x"))
    assert not verify_password("\udcff", QUICK)
