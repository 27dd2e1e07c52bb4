"""The token service: short tokens, bound to a login, its machine type and some repositories."""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from aiohttp import web

from hpcimg.hub.refusal import Refusal, unauthorized
from hpcimg.hub.token import Claims, sign
from hpcimg.serve.logins import LoginError, Proof
from hpcimg.serve.registry import refusal_response
from hpcimg.serve.request import (
    Facts,
    Noted,
    RefusedError,
    address_of,
    answered,
    caller_of,
    challenge,
    read_form,
    refused_login,
)

if TYPE_CHECKING:
    from hpcimg.serve.hub import Hub

_SCOPE = re.compile(r"repository(?:\([^)]*\))?:([^:,\s]{1,255}):([a-z,*]{1,64})")
_SCOPES = 16


class Tokens:
    """Handles /token, by GET and by POST."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Give a token for a login, or to nobody where nobody needs a login."""

        async def act(noted: Noted) -> web.StreamResponse:
            return await self._given(request, noted.facts)

        return await answered(self._hub, request, "token", act, refusal_response)

    async def _given(self, request: web.Request, noted: Facts) -> web.Response:
        form = await read_form(self._hub, request) if request.method == "POST" else None
        scopes = [str(one) for one in (form or request.query).getall("scope", [])]
        if form is not None and form.get("username"):
            name = str(form["username"])
            proof = await self._of_form(request, name, str(form.get("password", "")))
        else:
            caller = await caller_of(self._hub, request)
            if caller.identity is None:
                why = "log in as a machine type or an account"
                raise RefusedError(unauthorized(why, challenge(self._hub, request)))
            proof = caller.proof
        if proof.repositories is not None:
            why = "a token is given for a password, not for another token"
            raise RefusedError(Refusal(403, "DENIED", why))
        noted["login"] = proof.login
        return self._token(proof, scopes)

    async def _of_form(self, request: web.Request, name: str, password: str) -> Proof:
        address = str(address_of(self._hub, request) or "")
        try:
            return await self._hub.desk.check(name, password, address, self._hub.directory)
        except LoginError as error:
            raise refused_login(self._hub, request, error) from error

    def _token(self, proof: Proof, scopes: list[str]) -> web.Response:
        hub = self._hub
        login = hub.directory.logins.get(proof.login)
        now = time.time()
        seconds = hub.settings.token_seconds
        claims = Claims(
            subject=proof.login,
            machine_type=login.machine_type if login else "",
            repositories=_repositories(scopes),
            expires=now + seconds,
        )
        text = sign(hub.key, claims)
        issued = datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        answer = {"token": text, "access_token": text, "expires_in": int(seconds)}
        headers = {"Cache-Control": "no-store"}
        return web.json_response({**answer, "issued_at": issued}, headers=headers)


def _repositories(scopes: list[str]) -> tuple[str, ...]:
    """Read for which repositories to pull a token is wanted; a scope may come in one or many."""
    words = [word for scope in scopes for word in scope.split()][:_SCOPES]
    found = (_SCOPE.fullmatch(word) for word in words)
    return tuple(dict.fromkeys(one[1] for one in found if one and "pull" in one[2].split(",")))
