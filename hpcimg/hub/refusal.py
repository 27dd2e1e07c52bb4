"""Our errors as a registry tells them: an HTTP status and the specification's error document."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

from hpcimg.errors import (
    AuthenticationError,
    HpcimgError,
    NoCandidateError,
    NotFoundError,
    RegistryError,
    SettingsError,
    StoreError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNKNOWN = {
    "manifest": "MANIFEST_UNKNOWN",
    "blob": "BLOB_UNKNOWN",
    "tags": "NAME_UNKNOWN",
    "referrers": "NAME_UNKNOWN",
}
RETRY_SECONDS = 30.0
"""What a client is told to wait where an upstream is busy and does not say how long."""
LONGEST_RETRY = 86_400.0


@dataclass(frozen=True)
class Refusal:
    """One error as it is sent; `headers` are those beside the type and the length."""

    status: int
    code: str
    message: str
    detail: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)

    def body(self) -> bytes:
        """Write the specification's document."""
        error = {"code": self.code, "message": self.message}
        if self.detail:
            error["detail"] = self.detail
        return json.dumps({"errors": [error]}).encode()


def refusal_of(error: HpcimgError, kind: str) -> Refusal:
    """Tell an error in answer to a request of a kind, as in Route."""
    if isinstance(error, UsageError):
        code = "DIGEST_INVALID" if "digest" in error.message else "NAME_INVALID"
        return Refusal(400, code, error.message, error.hint)
    if isinstance(error, NoCandidateError):
        return Refusal(404, "MANIFEST_UNKNOWN", error.message)
    if isinstance(error, NotFoundError):
        return Refusal(404, _UNKNOWN.get(kind, "NAME_UNKNOWN"), error.message)
    if isinstance(error, AuthenticationError):
        return Refusal(403, "DENIED", error.message)
    if isinstance(error, RegistryError):
        return _of_upstream(error)
    if isinstance(error, StoreError | SettingsError):
        # It may name the database's host, or a folder of the hub's machine.
        later = {"Retry-After": str(ceil(RETRY_SECONDS))}
        return Refusal(503, "UNAVAILABLE", "the hub itself is not in order", headers=later)
    return Refusal(500, "UNKNOWN", "the hub failed")


def _of_upstream(error: RegistryError) -> Refusal:
    """An upstream that asks for patience is passed on as it is; its other failures are its own."""
    seconds = min(error.retry_after, LONGEST_RETRY) or RETRY_SECONDS
    later = {"Retry-After": str(ceil(seconds))}
    if error.status == 429:
        return Refusal(429, "TOOMANYREQUESTS", error.message, headers=later)
    if error.temporary:
        return Refusal(503, "UNAVAILABLE", error.message, headers=later)
    return Refusal(502, "UNKNOWN", error.message)


def unauthorized(why: str, challenge: str) -> Refusal:
    """Ask for a login."""
    return Refusal(401, "UNAUTHORIZED", why, headers={"WWW-Authenticate": challenge})


def unsupported(method: str) -> Refusal:
    """Refuse what only a registry that is written to can do."""
    why = f"{method} is not served here: push to the upstream registry itself"
    return Refusal(405, "UNSUPPORTED", why, headers={"Allow": "GET, HEAD"})
