"""How a value that came from outside is shown in a message: on one line, escaped, bounded."""

from __future__ import annotations

_LIMIT = 80


def quoted(value: object, limit: int = _LIMIT) -> str:
    """Quote a foreign value so that it can neither forge a line nor flood or drive a terminal."""
    text = value if isinstance(value, str) else str(value)
    return ascii(cut(text, limit))


def cut(text: str, limit: int = _LIMIT) -> str:
    """Cut words that are printable already, and whose number nobody bounds."""
    return text if len(text) <= limit else text[:limit] + "..."
