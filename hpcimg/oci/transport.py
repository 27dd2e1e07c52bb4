"""HTTP to registries: redirects, retries, bodies as they come.

It must not know what a manifest or a token is.
"""

from __future__ import annotations

import contextlib
import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import BinaryIO

import requests
from urllib3.exceptions import HTTPError as Urllib3Error

from hpcimg.errors import RegistryError
from hpcimg.oci.diagnostics import BODY_LIMIT, NO_TLS, reason_of, shown_url
from hpcimg.oci.hosts import Hosts, host_of, joined, origin, split_url

log = logging.getLogger(__name__)

REDIRECTS = frozenset({301, 302, 303, 307, 308})
REDIRECT_LIMIT = 5
RETRY_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
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


@dataclass(frozen=True)
class Patience:
    """How often to try, how long to wait between tries, and the longest wait (seconds)."""

    attempts: int = 4
    first: float = 0.25
    longest: float = 30.0

    def wait(self, attempt: int, asked: float | None) -> float | None:
        """Seconds before the try after `attempt` (from 0), or None to give up."""
        if attempt + 1 >= self.attempts or (asked is not None and asked > self.longest):
            return None
        # Jitter: a thousand nodes that failed together must not come back together.
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - no secret hangs on it
        own = min(self.first * float(2**attempt), self.longest) * jitter
        return max(own, asked or 0.0)


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


DEFAULT_TIMEOUTS = Timeouts()
DEFAULT_PATIENCE = Patience()


@dataclass(frozen=True)
class Request:
    """One request; a body that is a stream is rewound before it is sent."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | BinaryIO | None = field(default=None, repr=False)

    @property
    def is_read(self) -> bool:
        """Whether a redirect may be followed without asking again."""
        return self.method in {"GET", "HEAD"}

    @property
    def is_repeatable(self) -> bool:
        """Whether it may be sent again after a failure; half an upload breaks its session."""
        return self.body is None or isinstance(self.body, bytes)


class _Session(requests.Session):
    """Leaves redirects alone; requests would read their bodies, endless ones too."""

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002 - requests' name
        return None


class Transport:
    """One session for one process; connections are kept and used again."""

    def __init__(
        self,
        hosts: Hosts,
        *,
        user_agent: str,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        patience: Patience = DEFAULT_PATIENCE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.hosts = hosts
        self._timeouts = timeouts
        self._sleep = sleep
        self.patience = patience
        self._session = _Session()
        # Cookies know no ports, so another service of the host would get them.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers.update({"User-Agent": user_agent, "Accept-Encoding": "identity"})
        # Else requests would put a ~/.netrc login into requests of ours.
        self._session.auth = _unchanged

    def send(self, request: Request) -> requests.Response:
        """Send until there is an answer that no retry would better; redirects are followed.

        Raises RegistryError without one, AuthenticationError for a host that may not be asked.
        """
        attempt = 0
        while True:
            try:
                response = self._follow(request)
            except RegistryError as error:
                wait = self.patience.wait(attempt, None)
                if wait is None or not (error.temporary and request.is_repeatable):
                    raise
            else:
                asked = retry_after(response.headers, time.time())
                wait = self.patience.wait(attempt, asked)
                retry = response.status_code in RETRY_STATUSES and request.is_repeatable
                if wait is None or not retry:
                    return response
                error_body(response)
            log.info("asking %s again in %.1f s", shown_url(request.url), wait)
            self._sleep(wait)
            attempt += 1

    def pause(self, attempt: int) -> bool:
        """Wait before another try of a broken transfer; False when it is time to give up."""
        wait = self.patience.wait(attempt, None)
        if wait is None:
            return False
        self._sleep(wait)
        return True

    def _follow(self, request: Request) -> requests.Response:
        for _ in range(REDIRECT_LIMIT + 1):
            response = self._once(request)
            target = response.headers.get("Location")
            if not request.is_read or response.status_code not in REDIRECTS or not target:
                return response
            error_body(response)
            request = redirected(request, joined(request.url, target))
        raise RegistryError(f"{shown_url(request.url)} redirects more than {REDIRECT_LIMIT} times")

    def _once(self, request: Request) -> requests.Response:
        verify = self.hosts.check(request.url)
        if request.body is not None and not isinstance(request.body, bytes):
            request.body.seek(0)
        try:
            return self._session.request(
                request.method,
                request.url,
                headers=dict(request.headers),
                data=request.body,
                timeout=(self._timeouts.connect, self._timeouts.read),
                allow_redirects=False,
                stream=True,
                verify=verify,
            )
        except (requests.RequestException, Urllib3Error, OSError, ValueError) as error:
            raise unreachable(request.url, error) from error


def redirected(request: Request, url: str) -> Request:
    """Point a request somewhere else, without its credentials unless the origin is the same."""
    headers = request.headers
    if origin(url) != origin(request.url):
        headers = {k: v for k, v in headers.items() if k.lower() != "authorization"}
    return replace(request, url=url, headers=headers)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that the server asks to wait, from a number or a date; None when it does not."""
    text = headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def stated_length(headers: Mapping[str, str]) -> int | None:
    """Read how many bytes an answer announces; None when it does not say, or nothing sensible."""
    text = headers.get("Content-Length", "")
    return int(text) if _LENGTH.fullmatch(text) else None


def chunks_of(response: requests.Response, timeouts: Timeouts) -> Iterator[bytes]:
    """Stream a body as it was sent.

    Raises a temporary RegistryError for one that breaks off, is short or only drips.
    """
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise RegistryError(f"{shown_url(response.url)} sends encoded content, unasked")
    expected, received = stated_length(response.headers), 0
    pace = Pace(timeouts)
    read = _reader_of(response)
    try:
        start = time.monotonic()
        while chunk := read():
            if pace.is_drip(len(chunk), time.monotonic() - start):
                raise _broken(response.url, f"it sends less than {timeouts.slowest:g} bytes/s")
            received += len(chunk)
            yield chunk
            start = time.monotonic()
    except (requests.RequestException, Urllib3Error, OSError) as error:
        raise unreachable(response.url, error) from error
    finally:
        response.close()
    # urllib3 before 2 does not tell a cut connection from the end of the body.
    if expected is not None and received < expected:
        raise _broken(response.url, f"the connection ended after {received} of {expected} bytes")


def _reader_of(response: requests.Response) -> Callable[[], bytes | None]:
    """Give what reads the next bytes, as they come; urllib3 before 2 only gathers whole chunks."""
    read = getattr(response.raw, "read1", response.raw.read)
    return lambda: read(CHUNK, decode_content=False)


def error_body(response: requests.Response) -> bytes:
    """Read the start of a body nobody waits for; the status alone must do when that fails."""
    with contextlib.suppress(requests.RequestException, Urllib3Error, OSError), response:
        return bytes(response.raw.read(BODY_LIMIT, decode_content=True))
    return b""


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
    elif not temporary:
        hint = 'a private certificate authority is set as "ca_file" under "registries:"'
    message = f"could not reach {shown_url(url)}: {reason}"
    return RegistryError(message, hint, temporary=temporary)


def _broken(url: str, why: str) -> RegistryError:
    return RegistryError(f"{shown_url(url)}: {why}", "try again", temporary=True)


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
