"""Sizes, ages and times as people write them: `2T`, `30d`. Knows no setting and no option."""

from __future__ import annotations

import re
import time

_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,6})?)\s*([kmgtp]?)(i?)b?", re.IGNORECASE)
_AGE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhdw]?)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "": 86_400}


def parse_size(text: str) -> int:
    """Parse bytes, or a number with K, M, G, T or P, of 1000, with Ki and so on of 1024.

    Raises ValueError.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or (match[3] and not match[2]):
        raise ValueError("a size is a number of bytes, or a text such as 500G, 2T or 1.5Ti")
    power = " kmgtp".index(match[2].lower() or " ")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def parse_age(text: str) -> float:
    """Parse days, or a number with s, m, h, d or w, into seconds; raises ValueError."""
    match = _AGE.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError("an age is a number of days, or a text such as 12h, 30d or 8w")
    return float(match[1]) * _SECONDS[match[2]]


def utc_text(seconds: float) -> str:
    """Write a time, in seconds since 1970, as records have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
