"""What a registry's failure means, said in one line that holds no secret and no control character.

It must not send requests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from hpcimg.errors import AuthenticationError, HpcimgError, NotFoundError, RegistryError

BODY_LIMIT = 16 << 10
"""Bytes of an error's body that are read."""

NO_TLS = "no TLS connection"
"""How the reason begins where the other side perhaps speaks plain http."""

REFUSED_CERTIFICATE = "it wants another client certificate"
"""How the reason begins where we have shown none, or a wrong one."""

_CERTIFICATE_ALERT = re.compile(
    r"ALERT_(CERTIFICATE_(REQUIRED|UNKNOWN|EXPIRED|REVOKED)|BAD_CERTIFICATE|UNKNOWN_CA"
    r"|HANDSHAKE_FAILURE|ACCESS_DENIED)"
)
_TUNNEL = re.compile(r"Tunnel connection failed: ([0-9]{3})\b")
_TEXT_LIMIT = 200
_ERROR_LIMIT = 3


def shown_url(url: str) -> str:
    """Write a URL for a message: no user, no password, no query, since those hold secrets."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "a malformed URL"
    return escaped(f"{parts.scheme}://{host}{parts.path}")


def escaped(text: str) -> str:
    """Bound a foreign text and take the control characters out of it."""
    line = " ".join(text.split())
    safe = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
    return safe if len(safe) <= _TEXT_LIMIT else safe[:_TEXT_LIMIT] + "..."


def diagnostics(body: bytes) -> str:
    """Read the registry's own codes and messages out of an error's body; "" when it has none."""
    try:
        errors: Any = json.loads(body)["errors"]
        said = [f"{entry['code']}: {entry.get('message') or 'no message'}" for entry in errors]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""
    return escaped("; ".join(said[:_ERROR_LIMIT]))


def failure(what: str, host: str, status: int, body: bytes) -> HpcimgError:
    """Turn an answer nobody wanted into the error of who must act; `what` is quoted as it is."""
    said = diagnostics(body)
    because = f": {said}" if said else f": HTTP status {status}"
    if status == 404:
        return NotFoundError(
            f'"{what}" is not in the registry{because}',
            "check the name and the tag; a name without a registry goes to the site's default",
        )
    if status in {401, 403}:
        return AuthenticationError(
            f'registry "{host}" refuses access to "{what}"{because}',
            f"does it exist, and may you read it? log in with `podman login {host}`",
        )
    return _broken(f'registry "{host}" failed for "{what}"', status, said)


def token_failure(host: str, status: int, body: bytes, *, anonymous: bool) -> HpcimgError:
    """Turn a token service's refusal or failure into an error."""
    said = diagnostics(body)
    if status not in {400, 401, 403}:
        return _broken(f'token service "{host}" failed', status, said)
    who = "an anonymous request" if anonymous else "the login that is stored for this user"
    because = f": {said}" if said else f": HTTP status {status}"
    return AuthenticationError(
        f'token service "{host}" refuses {who}{because}',
        "log in again with `podman login` or `docker login`",
    )


def _broken(message: str, status: int, said: str) -> RegistryError:
    temporary = status in {408, 429} or status >= 500
    hint = "try again later" if temporary else "tell the registry's administrator"
    if status == 429:
        hint = "the registry limits requests: wait, or log in for a higher limit"
    detail = f": {said} (HTTP status {status})" if said else f": HTTP status {status}"
    return RegistryError(message + detail, hint, status=status, temporary=temporary)


def reason_of(error: BaseException) -> tuple[str, bool]:
    """Name the root of a failed connection, and tell whether another try may help."""
    import socket
    import ssl

    chain = list(_causes(error))
    for cause in chain:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({escaped(cause.verify_message)})", False
        if isinstance(cause, socket.gaierror):
            return "the host's name does not resolve", True
    return next(filter(None, map(_reason, chain)), None) or _without_cause(error)


def _reason(cause: BaseException) -> tuple[str, bool] | None:
    import ssl

    if isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__:
        return "it did not answer in time", True
    if isinstance(cause, ssl.SSLEOFError):
        # In TLS 1.3 a server may be gone before its refusal of our certificate is read.
        return "it hung up in the middle of TLS", True
    if isinstance(cause, ssl.SSLError):
        word = escaped(cause.reason or "unknown")
        is_refusal = _CERTIFICATE_ALERT.search(word)
        return f"{REFUSED_CERTIFICATE if is_refusal else NO_TLS} ({word})", False
    if isinstance(cause, OSError):
        refused = _TUNNEL.match(str(cause))
        if refused:
            return f"the proxy answers with HTTP status {refused[1]}", refused[1] >= "500"
        if cause.strerror:
            return escaped(cause.strerror.lower()), True
    return None


def _without_cause(error: BaseException) -> tuple[str, bool]:
    if isinstance(error, ValueError):  # a URL or a header that cannot be sent
        return "the request cannot be sent", False
    return "the connection broke", True


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Walk to the root; urllib3 keeps it in args and `reason` as well as in causes."""
    queue, seen = [error], set()
    while queue:
        current = queue.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        linked = (current.__cause__, current.__context__, getattr(current, "reason", None))
        queue += [link for link in (*linked, *current.args) if isinstance(link, BaseException)]
