"""How a value that came from outside is shown in a message: on one line, escaped, bounded.

And whether one can stand among the words of a line that a program reads.
"""

from __future__ import annotations

_LIMIT = 80


def quoted(value: object, limit: int = _LIMIT) -> str:
    """Quote a foreign value so that it can neither forge a line nor flood or drive a terminal."""
    text = value if isinstance(value, str) else str(value)
    return ascii(cut(text, limit))


def is_one_word(text: str) -> bool:
    """Tell whether a text stays one word where tabs part words, and line ends lines."""
    return not any(c in text for c in "\t\n\r\0")


def cut(text: str, limit: int = _LIMIT) -> str:
    """Cut words that are printable already, and whose number nobody bounds."""
    return text if len(text) <= limit else text[:limit] + "..."
