"""Registry authentication: challenges, token requests, and the tokens that still live.

It must not know what is asked for beyond its scopes, nor how a request is sent.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from hpcimg.errors import AuthenticationError, RegistryError
from hpcimg.oci.credentials import Credential, FindCredential
from hpcimg.quoting import quoted

CLIENT_ID = "hpcimg"

SHORTEST_LIFE = 60.0
"""Seconds a token lives when its service says less or nothing (the token specification)."""

LONGEST_LIFE = 1e9
"""Seconds from which on what a service says of a token's life is taken for nonsense."""

EXPIRY_MARGIN = 5.0
"""Seconds before its end that a token counts as dead; a later 401 is answered anyhow."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r'\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([!#$%&\'*+.^_`|~0-9A-Za-z:/?=-]+))')
_TOKEN68 = re.compile(r"\s+[A-Za-z0-9._~+/-]+=*\s*(?=,|$)")
_SEPARATOR = re.compile(r"[\s,]*")
_ACTION_ORDER = ("pull", "push")


@dataclass(frozen=True)
class Challenge:
    """One way in that a registry offers; scheme and parameter names in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenRequest:
    """One request to a token service: GET, or POST when there is a form."""

    url: str
    authorization: str | None = field(default=None, repr=False)
    form: str | None = field(default=None, repr=False)


SendTokenRequest = Callable[[TokenRequest], bytes]
"""Sends a request to the token service and returns the body of a 200; raises for all others."""


@dataclass(frozen=True)
class Access:
    """What a request needs: the registry, the repository it is about, and all scopes."""

    registry: str
    repository: str
    scopes: tuple[str, ...]


def pull_access(registry: str, repository: str) -> Access:
    """Ask to read one repository."""
    return Access(registry, repository, (f"repository:{repository}:pull",))


def push_access(registry: str, repository: str, source: str | None = None) -> Access:
    """Ask to write one repository, and to read `source`, which blobs are mounted from."""
    wanted = [f"repository:{repository}:pull,push"]
    if source is not None:
        wanted.append(f"repository:{source}:pull")
    return Access(registry, repository, merge_scopes(wanted))


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Parse WWW-Authenticate, several joined by commas included; stop at what is no challenge."""
    challenges: list[tuple[str, dict[str, str]]] = []
    at = _skip(header, 0)
    while word := _TOKEN.match(header, at):
        value = _VALUE.match(header, word.end())
        if value and challenges:
            text = re.sub(r"\\(.)", r"\1", value[1]) if value[1] is not None else value[2]
            challenges[-1][1].setdefault(word[0].lower(), text)
            at = value.end()
        else:
            challenges.append((word[0].lower(), {}))
            credentials = _TOKEN68.match(header, word.end())
            at = credentials.end() if credentials else word.end()
        at = _skip(header, at)
    return tuple(Challenge(scheme, parameters) for scheme, parameters in challenges)


def _skip(header: str, at: int) -> int:
    match = _SEPARATOR.match(header, at)
    return match.end() if match else at


def merge_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """Unite scopes of the same resource: `repository:a:pull` + `…:push` → `…:pull,push`."""
    merged: dict[str, set[str]] = {}
    for scope in scopes:
        resource, colon, actions = scope.rpartition(":")
        if colon:
            merged.setdefault(resource, set()).update(filter(None, actions.split(",")))
    return tuple(
        f"{resource}:{','.join(sorted(actions, key=_action_rank))}"
        for resource, actions in merged.items()
    )


def _action_rank(action: str) -> tuple[int, str]:
    known = _ACTION_ORDER.index(action) if action in _ACTION_ORDER else len(_ACTION_ORDER)
    return known, action


def basic(credential: Credential) -> str:
    """Write the Authorization value of the Basic scheme."""
    pair = f"{credential.username}:{credential.secret}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def token_request(
    challenge: Challenge, scopes: tuple[str, ...], credential: Credential | None
) -> TokenRequest:
    """Build the request for a Bearer token; the challenge's own scopes are asked for as well."""
    realm = challenge.parameters.get("realm", "")
    parts = _split_realm(realm)
    asked = merge_scopes([*scopes, *challenge.parameters.get("scope", "").split()])
    service = challenge.parameters.get("service")
    fields = [("service", service)] if service else []
    fields.append(("client_id", CLIENT_ID))
    if credential is not None and credential.is_identity_token:
        form = [
            ("grant_type", "refresh_token"),
            *fields,
            ("scope", " ".join(asked)),
            ("refresh_token", credential.secret),
        ]
        return TokenRequest(realm, form=urlencode(form))
    if credential is not None:
        fields.append(("account", credential.username))
    query = urlencode([*parse_qsl(parts.query), *fields, *(("scope", scope) for scope in asked)])
    url = parts._replace(query=query, fragment="").geturl()
    return TokenRequest(url, authorization=basic(credential) if credential else None)


def _split_realm(realm: str) -> SplitResult:
    try:
        parts = urlsplit(realm)
        if parts.scheme in {"http", "https"} and parts.hostname and realm.isascii():
            return parts
    except ValueError:
        pass
    raise RegistryError(f"the registry names {quoted(realm)} as its token service")


@dataclass(frozen=True)
class Token:
    """A Bearer token and its life in seconds; its text never shows."""

    text: str = field(repr=False)
    life: float = SHORTEST_LIFE


def parse_token(raw: bytes) -> Token:
    """Read a token service's answer; nothing of it may get into an error's text."""
    try:
        answer: Any = json.loads(raw)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise RegistryError("the token service answered with something else than a JSON object")
    text = answer.get("token") or answer.get("access_token")
    if not isinstance(text, str) or not text.isascii() or not text.isprintable():
        raise RegistryError("the token service answered without a usable token")
    life = answer.get("expires_in")
    if not isinstance(life, int | float) or not life < LONGEST_LIFE:
        return Token(text)
    return Token(text, max(float(life), SHORTEST_LIFE))


class Authenticator:
    """Keeps, for one client, the Authorization value of each registry and set of scopes.

    Threads may share it: of those that are refused at once, one asks for a new token.
    """

    def __init__(
        self, find: FindCredential, send: SendTokenRequest, clock: Callable[[], float]
    ) -> None:
        self._find = find
        self._send = send
        self._clock = clock
        self._values: dict[Access, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def value(self, access: Access) -> str | None:
        """Return the Authorization value that is known to fit, or None to try without."""
        value, end = self._values.get(access, (None, 0.0))
        return value if end > self._clock() else None

    def answer(
        self, access: Access, header: str, refused: str | None = None, said: str = ""
    ) -> str:
        """Answer a 401 with `header` as its WWW-Authenticate; the value is kept for the next time.

        `refused` is the value that was sent. Raises AuthenticationError when no challenge can be
        answered, with what the registry `said`.
        """
        with self._lock:
            known = self.value(access)
            if known is not None and known != refused:
                return known
            self._values.pop(access, None)
            return self._answer(access, header, said)

    def _answer(self, access: Access, header: str, said: str) -> str:
        challenges = parse_challenges(header)
        credential = self._find(access.registry, access.repository)
        for challenge in challenges:
            if challenge.scheme == "bearer":
                token = parse_token(self._send(token_request(challenge, access.scopes, credential)))
                return self._keep(access, f"Bearer {token.text}", token.life - EXPIRY_MARGIN)
        offered = {challenge.scheme for challenge in challenges}
        if "basic" in offered and credential is not None and not credential.is_identity_token:
            return self._keep(access, basic(credential), float("inf"))
        raise _cannot_answer(access, offered, said)

    def _keep(self, access: Access, value: str, life: float) -> str:
        self._values[access] = (value, self._clock() + life)
        return value


def _cannot_answer(access: Access, offered: set[str], said: str) -> AuthenticationError:
    if "basic" in offered:
        return AuthenticationError(
            f'registry "{access.registry}" wants a login for "{access.repository}"',
            f"log in with `podman login {access.registry}` or `docker login {access.registry}`",
        )
    ways = ", ".join(quoted(scheme) for scheme in sorted(offered)) or "no way to log in"
    return AuthenticationError(
        f'registry "{access.registry}" refuses "{access.repository}" and offers {ways}'
        + (f": {said}" if said else ""),
        "hpcimg speaks Bearer and Basic",
    )
