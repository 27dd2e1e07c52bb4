"""Sizes and ages as people write them."""

from __future__ import annotations

import pytest

from hpcimg.amounts import parse_age, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1500", 1500),
        ("2T", 2 * 10**12),
        ("1.5 GB", 1_500_000_000),
        ("1Ki", 1024),
        ("2TiB", 2 << 40),
        ("10m", 10_000_000),
    ],
)
def test_a_size_is_bytes(text, size):
    """Powers of 1000, or of 1024 where an i says so."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "T", "2X", "-1", "1i", "1e3", "2 T T", "9" * 19])
def test_what_is_no_size_is_refused(text):
    """The error shows how one is written."""
    with pytest.raises(ValueError, match=r"500G, 2T or 1\.5Ti"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90 * 86_400), ("12h", 43_200), ("0.5d", 43_200), ("2W", 1_209_600)]
)
def test_an_age_is_seconds(text, seconds):
    """A number alone is days."""
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "1y", "-1d", "1d2h"])
def test_what_is_no_age_is_refused(text):
    """The error shows how one is written."""
    with pytest.raises(ValueError, match="12h, 30d or 8w"):
        parse_age(text)
