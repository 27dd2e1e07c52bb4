"""The REST interface: machine types, accounts, choices and what they lack, for programs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from hpcimg.errors import AuthenticationError, NotFoundError, UsageError
from hpcimg.hub.account import Account, Role, may_see_types
from hpcimg.hub.identity import Identity, account_of, actor_of
from hpcimg.hub.machine_type import MachineType
from hpcimg.hub.refusal import Refusal, unauthorized
from hpcimg.node.words import profile_from_words
from hpcimg.serve.registry import refusal_response
from hpcimg.serve.request import (
    Noted,
    RefusedError,
    answered,
    caller_of,
    challenge,
    is_of_another_site,
    read_body,
)

if TYPE_CHECKING:
    from hpcimg.serve.hub import Hub
    from hpcimg.workflow.hub_admin import TypeView

_JSON = "application/json"
_YAML = "application/yaml"
_COVERED = 50
_CELLS = 5000
_KEYS = {
    "types": {"account", "name", "features", "answer", "policy", "description", "password"},
    "accounts": {"name", "role", "disabled", "password"},
    "proposals": {"account", "name", "features", "node"},
}
"""Choices that one question may take."""


@dataclass(frozen=True)
class Call:
    """One request by somebody: `actor` is the account, None for a machine's login."""

    request: web.Request
    identity: Identity
    actor: Account | None
    body: dict[str, Any]

    def acting(self) -> Account:
        """Give the account; a machine may change nothing."""
        if self.actor is None:
            raise AuthenticationError("log in as an account, not as a machine type")
        return self.actor

    @property
    def name(self) -> str:
        """The full name of a type, or an account, of the path."""
        return "/".join(self.request.match_info.values())

    def words(self, key: str) -> tuple[str, ...]:
        """Read a list of texts of the body."""
        found = self.body.get(key, [])
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise UsageError(f'"{key}" must be a list of texts')
        return tuple(found)

    def text(self, key: str, default: str = "") -> str:
        """Read a text of the body."""
        found = self.body.get(key, default)
        if not isinstance(found, str):
            raise UsageError(f'"{key}" must be a text')
        return found


Handler = Callable[[Call], Awaitable[object]]


class Api:
    """Handles what stands under /api/v1; all of it wants a login."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def routes(self) -> list[tuple[str, str, Handler]]:
        """List method, path and handler; openapi.json says the same in words."""
        return [
            ("GET", "/api/v1/types", self._types),
            ("POST", "/api/v1/types", self._add_type),
            ("GET", "/api/v1/types/{account}/{name}", self._type),
            ("PATCH", "/api/v1/types/{account}/{name}", self._change_type),
            ("DELETE", "/api/v1/types/{account}/{name}", self._remove_type),
            ("GET", "/api/v1/accounts", self._accounts),
            ("POST", "/api/v1/accounts", self._add_account),
            ("PATCH", "/api/v1/accounts/{account}", self._change_account),
            ("DELETE", "/api/v1/accounts/{account}", self._remove_account),
            ("POST", "/api/v1/import", self._import),
            ("GET", "/api/v1/export", self._export),
            ("GET", "/api/v1/explain", self._explain),
            ("GET", "/api/v1/coverage", self._coverage),
            ("GET", "/api/v1/proposals", self._proposals),
            ("POST", "/api/v1/proposals", self._propose),
            ("DELETE", "/api/v1/proposals/{account}/{name}", self._remove_proposal),
        ]

    def handler(self, act: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Make what aiohttp calls: log in, act, answer in JSON, note it."""

        async def handle(request: web.Request) -> web.StreamResponse:
            async def respond(noted: Noted) -> web.StreamResponse:
                call = await self._call(request, noted)
                found = await act(call)
                if request.method != "GET":
                    await self._hub.refresh()
                status = {"POST": 201, "DELETE": 204}.get(request.method, 200)
                return _answer(status, found)

            return await answered(self._hub, request, "api", respond, _refused)

        return handle

    async def _call(self, request: web.Request, noted: Noted) -> Call:
        caller = await caller_of(self._hub, request)
        identity = caller.identity
        if identity is None:
            why = "log in as an account"
            raise RefusedError(unauthorized(why, challenge(self._hub, request)))
        noted.facts["login"] = identity.subject
        if caller.proof.repositories is not None:
            raise RefusedError(Refusal(403, "DENIED", "a token is for pulling alone"))
        if request.method != "GET" and is_of_another_site(self._hub, request):
            raise RefusedError(Refusal(403, "DENIED", "another site's page may change nothing"))
        body: dict[str, Any] = {}
        if request.can_read_body:
            # No other site's form can send these types, so that a browser's login is safe.
            wanted = _YAML if request.path.endswith("/import") else _JSON
            if request.content_type not in (wanted, _JSON):
                raise RefusedError(Refusal(415, "UNSUPPORTED", f"send {wanted}"))
        if request.can_read_body and not request.path.endswith("/import"):
            try:
                body = json.loads(await read_body(self._hub, request))
            except (ValueError, RecursionError) as error:
                raise UsageError("the body is not JSON") from error
            if not isinstance(body, dict):
                raise UsageError("the body is not a JSON object")
        _refuse_unknown(request, body)
        if "name" in body:
            noted.facts["changed"] = f"{body.get('account', '')}/{body['name']}".lstrip("/")
        actor = actor_of(identity.subject, self._hub.directory)
        return Call(request, identity, actor, body)

    def _seen(self, call: Call) -> list[MachineType]:
        """List the types that somebody may see: a machine sees those of its account alone."""
        types = self._hub.directory.types.values()
        return [one for one in types if self._may_see(call, one.account)]

    def _may_see(self, call: Call, account: str) -> bool:
        if call.actor is not None:
            return may_see_types(call.actor, account)
        own = account_of(call.identity.subject, self._hub.directory)
        return own is not None and own.name == account

    async def _types(self, call: Call) -> object:
        return [_type_json(one) for one in self._seen(call)]

    async def _type(self, call: Call) -> object:
        view = await self._do(self._hub.admin.type, call.name, actor=call.acting())
        return _view_json(view)

    async def _add_type(self, call: Call) -> object:
        kind = MachineType(
            call.text("account"),
            call.text("name"),
            call.words("features"),
            call.text("answer", "manifest"),
            call.text("policy"),
            call.text("description"),
        )
        password = call.text("password")
        notes = await self._do(self._hub.admin.add_type, kind, password, actor=call.acting())
        return {**_type_json(kind), "notes": notes}

    async def _change_type(self, call: Call) -> object:
        changes = {key: call.text(key) for key in call.body if key not in {"features", "password"}}
        changed: dict[str, Any] = dict(changes)
        if "features" in call.body:
            changed["words"] = call.words("features")
        password = call.text("password")
        actor = call.acting()
        await self._do(self._hub.admin.change_type, call.name, changed, password, actor=actor)
        return await self._type(call)

    async def _remove_type(self, call: Call) -> object:
        await self._do(self._hub.admin.remove_type, call.name, actor=call.acting())
        return None

    async def _accounts(self, call: Call) -> object:
        found = await self._do(self._hub.admin.accounts, actor=call.acting())
        return [_account_json(one) for one in found]

    async def _add_account(self, call: Call) -> object:
        account = Account(call.text("name"), _role(call.text("role", "puller")))
        password = call.text("password")
        await self._do(self._hub.admin.add_account, account, password, actor=call.acting())
        return _account_json(account)

    async def _change_account(self, call: Call) -> object:
        actor = call.acting()
        changes: dict[str, Any] = {k: v for k, v in call.body.items() if k != "password"}
        if "role" in changes:
            changes["role"] = _role(call.text("role"))
        if not isinstance(changes.get("disabled", False), bool):
            raise UsageError('"disabled" must be true or false')
        if changes:
            await self._do(self._hub.admin.change_account, call.name, changes, actor=actor)
        if password := call.text("password"):
            await self._do(self._hub.admin.set_password, call.name, password, actor=actor)
        return {"name": call.name}

    async def _remove_account(self, call: Call) -> object:
        await self._do(self._hub.admin.remove_account, call.name, actor=call.acting())
        return None

    async def _import(self, call: Call) -> object:
        raw = await read_body(self._hub, call.request)
        query = call.request.query
        lines = await self._do(
            self._hub.admin.import_file,
            raw,
            "the body",
            actor=call.acting(),
            dry_run="dry_run" in query,
            remove_others="remove_others" in query,
        )
        return {"changes": lines}

    async def _export(self, call: Call) -> object:
        text = await self._do(self._hub.admin.export, actor=call.acting())
        return web.Response(text=text, content_type="application/yaml")

    async def _explain(self, call: Call) -> object:
        """Tell a choice for a type, or for words that no type has."""
        query = call.request.query
        reference = self._hub.named(query.get("image", ""), call.identity)
        if "platform" in query:
            profile = profile_from_words(query["platform"])
            explain_for = self._hub.grid.explain_for
            found = await self._hub.ask(reference, explain_for, reference, profile)
        else:
            name = query.get("type", "")
            if not name:
                raise UsageError("say for what: &type=ACCOUNT/NAME or &platform=WORDS")
            kind = next((one for one in self._seen(call) if one.full_name == name), None)
            if kind is None:
                raise NotFoundError("there is no such machine type that you may see")
            found = await self._hub.ask(reference, self._hub.grid.explain, reference, kind)
        return found.to_json()

    async def _coverage(self, call: Call) -> object:
        """Tell which types can run images, which lack a build, and what to build next."""
        names = call.request.query.getall("image", [])[:_COVERED]
        if not names:
            raise UsageError("say which: ?image=NAME, once or more")
        references = [self._hub.named(name, call.identity) for name in names]
        types = self._seen(call)
        if len(types) * len(references) > _CELLS:
            raise UsageError(
                f"{len(references)} images for {len(types)} types are too many at once"
            )
        asked = (self._hub.ask(one, self._hub.grid.row, one, types) for one in references)
        rows = await asyncio.gather(*asked)
        return [row.to_json(types) for row in rows]

    async def _proposals(self, call: Call) -> object:
        return await self._do(self._hub.admin.proposals, actor=call.acting())

    async def _propose(self, call: Call) -> object:
        """Keep what a node proposes, for the account that it has a login of."""
        kind = MachineType(call.text("account"), call.text("name"), call.words("features"))
        if not self._may_see(call, kind.account):
            raise AuthenticationError(f"this login may propose nothing for {kind.account}")
        await self._do(self._hub.admin.propose, kind, call.text("node"))
        return {"account": kind.account, "name": kind.name}

    async def _remove_proposal(self, call: Call) -> object:
        account, _, name = call.name.partition("/")
        actor = call.acting()
        await self._do(self._hub.admin.remove_proposal, account, name, actor=actor)
        return None

    async def _do(self, act: Callable[..., Any], *words: object, **named: object) -> Any:
        return await self._hub.in_thread(act, *words, **named)


def _refuse_unknown(request: web.Request, body: dict[str, Any]) -> None:
    """Refuse a misspelt key: a type without its features would get the generic image."""
    for part, known in _KEYS.items():
        if f"/{part}" in request.path:
            for key in body:
                if key not in known:
                    raise UsageError(f"{key!r} is no key; known: {', '.join(sorted(known))}")


def _type_json(kind: MachineType) -> dict[str, Any]:
    return {
        "account": kind.account,
        "name": kind.name,
        "features": list(kind.words),
        "answer": kind.answer,
        "policy": kind.policy,
        "description": kind.description,
    }


def _view_json(view: TypeView) -> dict[str, Any]:
    kind = view.machine_type
    login = kind.login_name if view.has_login else None
    return {**_type_json(kind), "login": login, "notes": list(view.notes)}


def _account_json(account: Account) -> dict[str, Any]:
    return {"name": account.name, "role": account.role.value, "disabled": account.disabled}


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        known = ", ".join(role.value for role in Role)
        raise UsageError(f"a role is {known}, not {text!r}") from None


def _answer(status: int, found: object) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    if isinstance(found, web.Response):
        return found
    if found is None:
        return web.Response(status=status, headers=headers)
    return web.json_response(found, status=status, headers=headers)


def _refused(refusal: Refusal) -> web.Response:
    response = refusal_response(refusal)
    response.headers["Cache-Control"] = "no-store"
    return response
