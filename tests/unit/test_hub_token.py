"""Tokens say who, what and how long, and only this hub's are believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcimg.hub.token import Claims, sign, verify

KEY = b"k" * 32
CLAIMS = Claims("qnib-type1", "qnib/type1", ("qnib/bench",), 1000.0)


def test_what_was_signed_is_read():
    """All of it, until its time is over."""
    text = sign(KEY, CLAIMS)
    assert verify(KEY, text, 999.0) == CLAIMS
    assert verify(KEY, text, 1000.0) is None
    assert all(c.isalnum() or c in "-_." for c in text)


def test_another_key_is_not_believed():
    """Nor one that is empty."""
    assert verify(b"x" * 32, sign(KEY, CLAIMS), 0.0) is None
    assert verify(KEY, sign(b"", CLAIMS), 0.0) is None


@given(st.integers(0, 10_000), st.sampled_from("abcXYZ019-_.="))
def test_no_character_can_be_changed(at, character):
    """Not of what it says, and not of its seal."""
    text = sign(KEY, CLAIMS)
    at %= len(text)
    forged = text[:at] + character + text[at + 1 :]
    assert forged == text or verify(KEY, forged, 0.0) is None


@given(st.text())
def test_any_text_is_read_without_an_error(text):
    """It comes from anybody."""
    assert verify(KEY, text, 0.0) is None
    assert verify(KEY, f"{text}.{text}", 0.0) is None


@pytest.mark.parametrize("text", ["", ".", "a.b.c", "é.é", "a" * 9000])
def test_no_tokens(text):
    """What is not of the form is none."""
    assert verify(KEY, text, 0.0) is None


def test_another_use_of_the_key_makes_no_token():
    """The seal is of a text that only tokens begin with."""
    import base64
    import hashlib
    import hmac

    body = sign(KEY, CLAIMS).partition(".")[0]
    plain = hmac.new(KEY, body.encode(), hashlib.sha256).digest()
    seal = base64.urlsafe_b64encode(plain).rstrip(b"=").decode()
    assert verify(KEY, f"{body}.{seal}", 0.0) is None


@given(
    st.builds(
        Claims,
        subject=st.text(max_size=20),
        machine_type=st.text(max_size=20),
        repositories=st.lists(st.text(max_size=20), max_size=4).map(tuple),
        expires=st.floats(1, 2**40),
    )
)
def test_round_trip(claims):
    """Whatever the claims are."""
    assert verify(KEY, sign(KEY, claims), 0.0) == claims
