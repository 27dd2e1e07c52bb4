"""Stands before the HTTP server on each connection: how many there may be, and for how long idle.

Also answers what speaks TLS to a plain port, so that clients which try both go on in plain http.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakKeyDictionary

_TLS_HELLO = 0x16
_PLAIN_ANSWER = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"this port speaks plain HTTP, not HTTPS\n"
)


class Guard:
    """Makes the guarded connections of one server; `clients` may be open at once."""

    def __init__(self, clients: int, idle: float) -> None:
        self.inner: Callable[[], asyncio.Protocol] = asyncio.Protocol
        self.is_plain = True
        self.clients = clients
        self.idle = idle
        self.open = 0
        self._by_transport: WeakKeyDictionary[asyncio.BaseTransport, GuardedConnection] = (
            WeakKeyDictionary()
        )

    def __call__(self) -> GuardedConnection:
        """Make one connection's protocol."""
        return GuardedConnection(self, self.inner())

    def admit(self, connection: GuardedConnection, transport: asyncio.BaseTransport) -> bool:
        """Count a connection; False where there are too many."""
        self.open += 1
        self._by_transport[transport] = connection
        return self.open <= self.clients

    def begin(self, transport: asyncio.BaseTransport | None) -> None:
        """Be told that a request's head has come; its body has a time of its own."""
        found = self._by_transport.get(transport) if transport is not None else None
        if found is not None:
            found.hurry(None)

    def end(self, transport: asyncio.BaseTransport | None) -> None:
        """Be told that it has its answer: the time for the next one begins."""
        found = self._by_transport.get(transport) if transport is not None else None
        if found is not None:
            found.hurry(self.idle)


class GuardedConnection(asyncio.Protocol):
    """Passes everything on to the HTTP server's own protocol."""

    def __init__(self, guard: Guard, inner: asyncio.Protocol) -> None:
        self._guard = guard
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_new = True
        self._is_begun = False
        self._is_refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; what drips its request is given up after the idle time, bytes or not."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - sockets' transports are
        self._transport = transport
        if not self._guard.admit(self, transport):
            self._is_refused = True
            transport.abort()
            return
        self._is_begun = True
        self._inner.connection_made(transport)
        self.hurry(self._guard.idle)

    def data_received(self, data: bytes) -> None:
        """Pass on what came; the first byte says whether it is HTTP."""
        if self._is_refused:
            return
        if self._is_new and self._guard.is_plain and data[:1] == bytes((_TLS_HELLO,)):
            self._is_refused = True
            if self._transport is not None:
                self._transport.write(_PLAIN_ANSWER)
                self._transport.close()
            return
        self._is_new = False
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass on the end of what the client says."""
        return None if self._is_refused else self._inner.eof_received()

    def pause_writing(self) -> None:
        """Pass on that the client is slower than we are; one that takes nothing is given up."""
        self.hurry(self._guard.idle)
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that it has caught up."""
        self.hurry(None)
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._guard.open -= 1
        self.hurry(None)
        if self._is_begun:
            self._inner.connection_lost(exc)

    def hurry(self, seconds: float | None) -> None:
        """Give the client so long for its next request; None while it waits for us."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None and self._transport is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(seconds, self._transport.abort)
