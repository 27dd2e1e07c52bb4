"""What the in-process registry is told to do wrong, and what it keeps and has seen."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Fault:
    """What goes wrong for the next `times` requests whose "METHOD PATH" contains `match`."""

    match: str
    times: int = 1
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    keep: int | None = None
    """Send only so many bytes of the body, then cut the connection."""
    corrupt: bool = False
    """Change the first byte of the body."""
    cut: bool = False
    """Cut the connection before any answer."""


@dataclass(frozen=True)
class Seen:
    """One request as it arrived, and the status it got."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    status: int

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.status}"


@dataclass(frozen=True)
class Document:
    """A manifest or an index as it was put."""

    media_type: str
    raw: bytes
