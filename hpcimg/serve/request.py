"""What every handler needs of a request: from where it comes, who asks, and as which type."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aiohttp import web
from multidict import MultiDictProxy

from hpcimg.errors import HpcimgError, SettingsError, StoreError, UsageError
from hpcimg.hub.identity import Address, Asked, Identity, identify
from hpcimg.hub.refusal import Refusal, refusal_of, unauthorized
from hpcimg.serve.logins import LoginError, Proof

if TYPE_CHECKING:
    from hpcimg.serve.hub import Hub

log = logging.getLogger(__name__)

Facts = dict[str, str | float | None]

GONE = 499
"""What servers note for a client that did not wait for its answer."""
_WITH_PORT = re.compile(r"([0-9.]+):[0-9]+|\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?")


@dataclass(frozen=True)
class Caller:
    """Who asks: what was proven, and which type that means."""

    proof: Proof
    identity: Identity | None


class Noted:
    """What the audit log says of one request, and the kind that it counts as; who acts fills it."""

    def __init__(self, hub: Hub, request: web.Request, kind: str) -> None:
        self._hub = hub
        self._request = request
        self._begin = time.perf_counter()
        self.kind = kind
        self.facts: Facts = {"address": str(address_of(hub, request) or "")}

    def write(self, status: int) -> None:
        """Count the answer and write the line."""
        self._hub.metrics.count(self.kind, status, time.perf_counter() - self._begin)
        now = datetime.fromtimestamp(time.time(), timezone.utc)
        self._hub.audit.write(
            time=now.isoformat(timespec="milliseconds"),
            method=self._request.method,
            path=self._request.path_qs,
            status=status,
            **self.facts,
        )


class RefusedError(Exception):
    """A request that ends here, and how it is told."""

    def __init__(self, refusal: Refusal, login: str = "") -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.login = login


Act = Callable[[Noted], Awaitable[web.StreamResponse]]
Refuse = Callable[[Refusal], web.StreamResponse]


async def answered(
    hub: Hub, request: web.Request, kind: str, act: Act, refuse: Refuse
) -> web.StreamResponse:
    """Act, tell what went wrong as `refuse` does, and count and note it, whatever happens."""
    noted = Noted(hub, request, kind)
    try:
        response = await act(noted)
    except RefusedError as error:
        response, noted.facts["why"] = refuse(error.refusal), error.refusal.message
        noted.facts["login"] = error.login or noted.facts.get("login")
    except HpcimgError as error:
        response, noted.facts["why"] = refuse(refusal_of(error, noted.kind)), error.message
        if isinstance(error, StoreError | SettingsError):
            log.warning("%s", error.message)
    except web.HTTPException as error:
        noted.facts["why"] = error.reason
        noted.write(error.status)
        raise
    except ConnectionError:
        noted.facts["why"] = "the client has gone"
        noted.write(GONE)
        raise
    except Exception as error:  # a defect of ours is told and noted as well
        log.exception("%s %s", request.method, ascii(request.path))
        response = refuse(Refusal(500, "UNKNOWN", "the hub failed"))
        noted.facts["why"] = f"unexpected {type(error).__name__}"
    noted.write(response.status)
    return response


async def caller_of(hub: Hub, request: web.Request, *, path_type: str = "") -> Caller:
    """Prove and identify; raises RefusedError for a wrong login, AuthenticationError for a type."""
    address = address_of(hub, request)
    text = "" if address is None else str(address)
    header = request.headers.get("Authorization", "")
    try:
        proof = await hub.desk.prove(header, text, hub.directory)
    except LoginError as error:
        raise refused_login(hub, request, error) from error
    asked = Asked(
        login=proof.login,
        certificate=_certificate(request),
        header=request.headers.get(hub.settings.header, "") if hub.settings.header else "",
        path=path_type,
        host=request.host.rpartition(":")[0] or request.host if hub.settings.hosts else "",
        address=address,
    )
    return Caller(proof, identify(asked, hub.directory, hub.settings.rules))


def is_of_another_site(hub: Hub, request: web.Request) -> bool:
    """Tell whether a browser asks for a page of another site, with this one's login."""
    origin = request.headers.get("Origin", "")
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return True
    return bool(origin) and urlsplit(origin).netloc != urlsplit(base_url(hub, request)).netloc


async def read_form(hub: Hub, request: web.Request) -> MultiDictProxy[Any]:
    """Read a form within the time that a request may take; raises UsageError."""
    try:
        return await asyncio.wait_for(request.post(), hub.settings.limits.idle)
    except (ValueError, LookupError) as error:
        raise UsageError("the form cannot be read") from error
    except asyncio.TimeoutError as error:
        raise RefusedError(Refusal(408, "UNKNOWN", "the request took too long")) from error


async def read_body(hub: Hub, request: web.Request) -> bytes:
    """Read a body within the time that a request may take."""
    try:
        return await asyncio.wait_for(request.read(), hub.settings.limits.idle)
    except asyncio.TimeoutError as error:
        raise RefusedError(Refusal(408, "UNKNOWN", "the request took too long")) from error


def refused_login(hub: Hub, request: web.Request, error: LoginError) -> RefusedError:
    """Say that a login is wrong; to one who guesses, that it is not looked at."""
    if error.retry_after:
        headers = {"Retry-After": str(int(error.retry_after))}
        refusal = Refusal(429, "TOOMANYREQUESTS", str(error), headers=headers)
        return RefusedError(refusal, error.login)
    return RefusedError(unauthorized(str(error), challenge(hub, request)), error.login)


def challenge(hub: Hub, request: web.Request, repository: str = "") -> str:
    """Say how to log in: by a token of this hub, or with each request."""
    service = host_of(hub, request)
    if hub.settings.challenge == "basic":
        return f'Basic realm="{service}"'
    scope = f',scope="repository:{repository}:pull"' if repository else ""
    return f'Bearer realm="{base_url(hub, request)}/token",service="{service}"{scope}'


def base_url(hub: Hub, request: web.Request) -> str:
    """Give the URL that clients call this hub by."""
    if hub.settings.url:
        return hub.settings.url.rstrip("/")
    scheme = "https" if hub.settings.tls.certificate else "http"
    if _is_proxy(hub, _peer(request)):
        told = request.headers.get("X-Forwarded-Proto", "").lower()
        scheme = told if told in ("http", "https") else scheme
    return f"{scheme}://{host_of(hub, request)}"


def host_of(hub: Hub, request: web.Request) -> str:
    """Give the host that a client named, with nothing in it that could end a header's value."""
    if hub.settings.url:
        return hub.settings.url.partition("://")[2].partition("/")[0]
    return "".join(c for c in request.host if c.isascii() and (c.isalnum() or c in ".:-[]"))[:300]


def address_of(hub: Hub, request: web.Request) -> Address | None:
    """Give the client's address; what a header says of it counts from trusted proxies alone."""
    address = _peer(request)
    if not _is_proxy(hub, address):
        return address
    # Each proxy adds the one it was asked by at the end.
    for text in reversed(",".join(request.headers.getall("X-Forwarded-For", [])).split(",")):
        told = _parsed(text.strip())
        if told is None:
            return None  # not the proxy's own address, which a network's type may be for
        address = told
        if not _is_proxy(hub, address):
            return address
    return address


def _is_proxy(hub: Hub, address: Address | None) -> bool:
    return address is not None and any(address in one for one in hub.settings.proxies)


def _peer(request: web.Request) -> Address | None:
    found: Any = request.transport.get_extra_info("peername") if request.transport else None
    return _parsed(str(found[0])) if found else None


def _parsed(text: str) -> Address | None:
    # Some proxies add the port.
    if found_port := _WITH_PORT.fullmatch(text):
        text = found_port[1] or found_port[2]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    mapped = getattr(found, "ipv4_mapped", None)
    return mapped or found


def _certificate(request: web.Request) -> str:
    """Give the common name of the certificate that TLS has verified."""
    found: Any = request.transport.get_extra_info("peercert") if request.transport else None
    for part in (found or {}).get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return str(value)
    return ""
