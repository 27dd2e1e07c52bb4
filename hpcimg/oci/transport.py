"""HTTP to registries: which hosts may be talked to and how, redirects, retries.

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
from pathlib import Path
from typing import BinaryIO
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
from urllib3.exceptions import HTTPError as Urllib3Error

from hpcimg.errors import NotListedError, RegistryError, SettingsError
from hpcimg.oci.diagnostics import BODY_LIMIT, NO_TLS, reason_of, shown_url
from hpcimg.quoting import quoted
from hpcimg.settings import RegistrySettings, has_site_file

log = logging.getLogger(__name__)

API_HOSTS = {"docker.io": "registry-1.docker.io"}
"""Registries whose API is not at the host that their images are named after."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})
REDIRECT_LIMIT = 5
RETRY_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
CHUNK = 256 << 10
_PORTS = {"http": 80, "https": 443}
# More digits than any size has are no number to Python either.
_LENGTH = re.compile(r"[0-9]{1,19}")
# Stricter than any URL parser: where two of them would read two hosts, neither is asked.
_URL = re.compile(
    r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{0,5})?([/?#].*)?",
    re.IGNORECASE | re.DOTALL,
)


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
        registries: Mapping[str, RegistrySettings],
        *,
        listed_only: bool,
        user_agent: str,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        patience: Patience = DEFAULT_PATIENCE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._registries = registries
        self._listed_only = listed_only
        self._timeouts = timeouts
        self._sleep = sleep
        self.patience = patience
        self._session = _Session()
        # Cookies know no ports, so another service of the host would get them.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers.update({"User-Agent": user_agent, "Accept-Encoding": "identity"})
        # Else requests would put a ~/.netrc login into requests of ours.
        self._session.auth = _unchanged

    def base(self, registry: str) -> str:
        """The URL that a registry's API stands under, plain http only where the site says so."""
        host = API_HOSTS.get(registry, registry)
        scheme = "http" if self._settings(registry).plain_http else "https"
        return f"{scheme}://{host}/v2/"

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
        verify = self._check_host(request.url)
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

    def _check_host(self, url: str) -> str | bool:
        """Refuse a URL that may not be asked; return what its certificate is checked with."""
        parts = split_url(url)
        settings = self._settings_of(parts)
        if settings is None and self._listed_only:
            raise self._not_listed(parts)
        if parts.scheme == "http" and not (settings and settings.plain_http):
            raise RegistryError(
                f"{shown_url(url)} uses plain http, which the site does not allow for this host",
                f'to allow it set "plain_http: true" for "{host_of(parts)}" under "registries:"',
            )
        return checked_ca_file(settings.ca_file) if settings and settings.ca_file else True

    def _not_listed(self, parts: SplitResult) -> NotListedError:
        """Name the registry as images are named after it, which is what the settings list."""
        host = host_of(parts)
        host = next((name for name, api in API_HOSTS.items() if api == host), host)
        hint = f'the administrator can add "{host}" under "registries:" in the settings file'
        if not self._registries and not has_site_file():
            hint = f"there is no settings file on this node: {hint}"
        return NotListedError(f'registry host "{host}" is not listed in the site\'s settings', hint)

    def _settings_of(self, parts: SplitResult) -> RegistrySettings | None:
        """Find what the settings say of a host; a default port may be written or left out."""
        port = parts.port or _PORTS[parts.scheme]
        names = [f"{_bare_host(parts)}:{port}"]
        if port == _PORTS[parts.scheme]:
            names.insert(0, _bare_host(parts))
        names += [name for name, host in API_HOSTS.items() if host in names]
        return next((self._registries[name] for name in names if name in self._registries), None)

    def _settings(self, registry: str) -> RegistrySettings:
        return self._registries.get(registry, RegistrySettings())


def split_url(url: str) -> SplitResult:
    """Split an http or https URL of HOST[:PORT]; raise RegistryError for all else."""
    try:
        parts = urlsplit(url)
        if _URL.fullmatch(url) and parts.port != 0:
            return parts
    except ValueError:
        pass
    raise RegistryError(f"{quoted(shown_url(url))} is no http or https address")


def joined(url: str, target: str) -> str:
    """Resolve a Location header against the URL that was asked."""
    try:
        return urljoin(url, target)
    except ValueError as error:
        raise RegistryError(f"{shown_url(url)} points to {quoted(target)}, no URL") from error


def checked_ca_file(path: str) -> str:
    """Refuse a certificate file that is not there, which requests reports as a lost connection."""
    if not Path(path).is_file():
        raise SettingsError(
            f'ca_file "{path}" is not a file', 'correct "ca_file" under "registries:"'
        )
    return path


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what credentials are bound to."""
    parts = split_url(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme]


def host_of(parts: SplitResult) -> str:
    """The host as the settings list it."""
    host = _bare_host(parts)
    return host if parts.port in {None, _PORTS.get(parts.scheme)} else f"{host}:{parts.port}"


def _bare_host(parts: SplitResult) -> str:
    """Give the host without its port; an IPv6 address in its brackets, as names have it."""
    host = parts.hostname or ""
    return f"[{host}]" if ":" in host else host


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
