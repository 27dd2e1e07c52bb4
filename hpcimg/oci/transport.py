"""HTTP to registries: connections, redirects, retries. Threads may share it.

It must not know what a manifest or a token is.
"""

from __future__ import annotations

import functools
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO
from urllib.parse import unquote

import urllib3
from urllib3.exceptions import HTTPError

from hpcimg.errors import NotListedError, RegistryError
from hpcimg.oci.answer import DEFAULT_TIMEOUTS, Answer, Timeouts, unreachable
from hpcimg.oci.diagnostics import shown_url
from hpcimg.oci.hosts import Hosts, Route, host_of, joined, origin, split_url

log = logging.getLogger(__name__)

REDIRECTS = frozenset({301, 302, 303, 307, 308})
REDIRECT_LIMIT = 5
_NEVER_BETTER = frozenset({501, 505})
_KEPT = 32
"""Connections to one host that are kept; a limit may give way, and none is thrown away then."""

Origin = tuple[str, str, int]


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


DEFAULT_PATIENCE = Patience()
ONE_TRY = Patience(attempts=1)
"""For a mirror: the next one is asked sooner than a broken one recovers."""


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


class Slots:
    """Bounds the connections of each host.

    It gives way when none of a host's connections brought a byte for `stall` seconds: then their
    readers wait for the one that waits here, as a merger of layers may.
    """

    def __init__(self, stall: float) -> None:
        self._stall = stall
        self._change = threading.Condition()
        self._used: dict[Origin, int] = {}
        self._moved: dict[Origin, float] = {}

    def take(self, host: Origin, limit: int) -> None:
        """Wait for a free connection."""
        with self._change:
            while self._used.get(host, 0) >= limit:
                left = self._moved[host] + self._stall - time.monotonic()
                if left <= 0:
                    break
                self._change.wait(left)
            self._used[host] = self._used.get(host, 0) + 1
            self.moved(host)

    def moved(self, host: Origin) -> None:
        """Note that something came from the host."""
        self._moved[host] = time.monotonic()

    def free(self, host: Origin) -> None:
        """Let the next one have the connection."""
        with self._change:
            self._used[host] -= 1
            self._change.notify()


class Transport:
    """The connections of one process; they are kept and used again."""

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
        self.timeouts = timeouts
        self.patience = patience
        self._sleep = sleep
        self._headers = {"User-Agent": user_agent, "Accept-Encoding": "identity"}
        self._slots = Slots(timeouts.read)
        self._lock = threading.Lock()
        self._routes: dict[Origin, Route] = {}
        self._pools: dict[Route, urllib3.PoolManager] = {}

    def send(self, request: Request, patience: Patience | None = None) -> Answer:
        """Send until there is an answer that no retry would better; redirects are followed.

        Raises RegistryError without one, AuthenticationError for a host that may not be asked.
        """
        patience = patience or self.patience
        attempt = 0
        while True:
            try:
                answer = self._follow(request)
            except RegistryError as error:
                wait = patience.wait(attempt, None)
                if wait is None or not (error.temporary and request.is_repeatable):
                    raise
            else:
                wait = patience.wait(attempt, retry_after(answer.headers, time.time()))
                if wait is None or not (may_pass(answer.status) and request.is_repeatable):
                    return answer
                answer.error_body()
            log.info("asking %s again in %.1f s", shown_url(request.url), wait)
            self._sleep(wait)
            attempt += 1

    def pause(self, attempt: int, patience: Patience | None = None) -> bool:
        """Wait before another try of a broken transfer; False when it is time to give up."""
        wait = (patience or self.patience).wait(attempt, None)
        if wait is None:
            return False
        self._sleep(wait)
        return True

    def _follow(self, request: Request) -> Answer:
        first = request.url
        for _ in range(REDIRECT_LIMIT + 1):
            try:
                self.hosts.check(request.url)
            except NotListedError as error:
                raise _led_away(first, request.url, error) from error
            answer = self._once(request)
            target = answer.headers.get("Location")
            if not request.is_read or answer.status not in REDIRECTS or not target:
                return answer
            answer.error_body()
            request = redirected(request, joined(request.url, target))
        raise RegistryError(f"{shown_url(request.url)} redirects more than {REDIRECT_LIMIT} times")

    def _once(self, request: Request) -> Answer:
        host = origin(request.url)
        route, pool = self._way_to(host, request.url)
        headers = {**self._headers, **request.headers}
        if request.body is not None and not isinstance(request.body, bytes):
            headers["Content-Length"] = str(request.body.seek(0, os.SEEK_END))
            request.body.seek(0)
        self._slots.take(host, route.connections)
        free = functools.partial(self._slots.free, host)
        try:
            response = pool.urlopen(
                request.method,
                request.url,
                body=request.body,
                headers=headers,
                preload_content=False,
                redirect=False,
                retries=False,
            )
        except (HTTPError, OSError, ValueError) as error:
            free()
            raise unreachable(request.url, error) from error
        except BaseException:
            free()
            raise
        moved = functools.partial(self._slots.moved, host)
        return Answer(response, request.url, on_bytes=moved, on_end=free)

    def _way_to(self, host: Origin, url: str) -> tuple[Route, urllib3.PoolManager]:
        with self._lock:
            if host not in self._routes:
                self._routes[host] = self.hosts.route(url)
            route = self._routes[host]
            alike = replace(route, connections=0)
            if alike not in self._pools:
                self._pools[alike] = _pool(route, self.timeouts, is_tls=host[0] == "https")
            return route, self._pools[alike]


def _pool(route: Route, timeouts: Timeouts, *, is_tls: bool) -> urllib3.PoolManager:
    """Make what opens connections the one way that a route says; it repeats and follows nothing."""
    words: dict[str, Any] = {
        "num_pools": _KEPT,
        "maxsize": _KEPT,
        "timeout": urllib3.Timeout(connect=timeouts.connect, read=timeouts.read),
    }
    if is_tls:
        words["ssl_context"] = route.trust.context()
        words["cert_reqs"] = "CERT_REQUIRED" if route.trust.verified else "CERT_NONE"
    if not route.trust.verified:
        # The administrator wrote "insecure"; to say so at each request would help nobody.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    if route.proxy is None:
        return urllib3.PoolManager(**words)
    parts = urllib3.util.parse_url(route.proxy)
    headers = urllib3.make_headers(proxy_basic_auth=unquote(parts.auth)) if parts.auth else None
    return urllib3.ProxyManager(parts._replace(auth=None).url, proxy_headers=headers, **words)


def may_pass(status: int) -> bool:
    """Tell whether a failure of this status may be gone at the next try."""
    return status in {408, 429} or (status >= 500 and status not in _NEVER_BETTER)


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


def _led_away(first: str, url: str, error: NotListedError) -> NotListedError:
    """Say who named a host that is not listed, since nobody wrote it into an image's name."""
    if url == first:
        return error
    host = host_of(split_url(first))
    message = f'{error.message}; "{host}" redirects there'
    return NotListedError(message, f'{error.hint}; it then may be asked as "{host}" is')
