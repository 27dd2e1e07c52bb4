"""One HTTP answer: its status, its headers, and its body as it comes.

It must not know what was asked, nor ask again.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from urllib3.exceptions import HTTPError

from hpcimg.errors import RegistryError
from hpcimg.oci.diagnostics import BODY_LIMIT, NO_TLS, REFUSED_CERTIFICATE, reason_of, shown_url
from hpcimg.oci.hosts import host_of, split_url

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

CHUNK = 256 << 10
# More digits than any size has are no number to Python either.
_LENGTH = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True)
class Timeouts:
    """Seconds to wait for a connection, and for the next bytes on one.

    A body that brings fewer than `slowest` bytes a second over `window` seconds drips: it never
    ends, though the next byte always comes in time.
    """

    connect: float = 10.0
    read: float = 30.0
    window: float = 60.0
    slowest: float = 1000.0


DEFAULT_TIMEOUTS = Timeouts()


class Pace:
    """Watches how fast one body comes; the time that its reader takes does not count."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._bytes = 0
        self._seconds = 0.0

    def is_drip(self, count: int, seconds: float) -> bool:
        """Account for `count` bytes that took `seconds`; True when a whole window was too slow."""
        self._bytes += count
        self._seconds += seconds
        if self._seconds < self._timeouts.window:
            return False
        is_slow = self._bytes < self._timeouts.slowest * self._seconds
        self._bytes, self._seconds = 0, 0.0
        return is_slow


class Answer:
    """What a host answered; it holds a connection until its body is read or it is closed."""

    def __init__(
        self,
        response: BaseHTTPResponse,
        url: str,
        *,
        on_bytes: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers
        self.url = url
        self._response = response
        self._on_bytes = on_bytes
        self._on_end = on_end
        self._is_open = True

    def chunks(self, timeouts: Timeouts) -> Iterator[bytes]:
        """Stream the body as it was sent.

        Raises a temporary RegistryError for one that breaks off, is short or only drips.
        """
        if self.headers.get("Content-Encoding", "identity").lower() != "identity":
            self.close()
            raise RegistryError(f"{shown_url(self.url)} sends encoded content, unasked")
        pace = Pace(timeouts)
        try:
            start = time.monotonic()
            while chunk := self._response.read1(CHUNK, decode_content=False):
                self._on_bytes()
                if pace.is_drip(len(chunk), time.monotonic() - start):
                    raise _broken(self.url, f"it sends less than {timeouts.slowest:g} bytes/s")
                yield chunk
                start = time.monotonic()
        except (HTTPError, OSError) as error:
            raise unreachable(self.url, error) from error
        finally:
            self.close()

    def error_body(self) -> bytes:
        """Read the start of a body nobody waits for; the status alone must do when that fails."""
        try:
            with contextlib.suppress(HTTPError, OSError):
                return bytes(self._response.read(BODY_LIMIT, decode_content=True))
            return b""
        finally:
            self.close()

    def close(self) -> None:
        """Give the connection back where the body was read to its end, else hang up."""
        if self._is_open:
            self._is_open = False
            self._response.close()
            self._response.release_conn()
            self._on_end()


def stated_length(headers: Mapping[str, str]) -> int | None:
    """Read how many bytes an answer announces; None when it does not say, or nothing sensible."""
    text = headers.get("Content-Length", "")
    return int(text) if _LENGTH.fullmatch(text) else None


def unreachable(url: str, error: BaseException) -> RegistryError:
    """Say why there was no answer; the exception's own text may hold a signed URL."""
    reason, temporary = reason_of(error)
    hint = "is the registry up, and may this node reach it?"
    if NO_TLS in reason:
        host = host_of(split_url(url))
        hint = (
            f'does it speak TLS? if not, set "plain_http: true" for "{host}" under "registries:" '
            "in the settings"
        )
    elif REFUSED_CERTIFICATE in reason:
        hint = '"client_certificate" and "client_key" stand under "registries:" in the settings'
    elif not temporary:
        hint = 'a private certificate authority is set as "ca_file" under "registries:"'
    message = f"could not reach {shown_url(url)}: {reason}"
    return RegistryError(message, hint, temporary=temporary)


def _broken(url: str, why: str) -> RegistryError:
    return RegistryError(f"{shown_url(url)}: {why}", "try again", temporary=True)
