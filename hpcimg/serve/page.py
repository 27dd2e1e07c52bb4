"""The page at /: images by machine types with the reasons, machine types, and accounts."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import jinja2
from aiohttp import web

from hpcimg.errors import HpcimgError, UsageError
from hpcimg.hub.account import may_manage_accounts, may_manage_types, may_see_types
from hpcimg.hub.identity import Identity, actor_of
from hpcimg.hub.refusal import Refusal, unauthorized
from hpcimg.oci.digest import is_digest
from hpcimg.oci.reference import Reference
from hpcimg.serve.forms import do_form
from hpcimg.serve.request import (
    Noted,
    RefusedError,
    answered,
    caller_of,
    host_of,
    is_of_another_site,
    read_form,
)

if TYPE_CHECKING:
    from hpcimg.hub.machine_type import MachineType
    from hpcimg.serve.hub import Hub
    from hpcimg.workflow.hub_grid import Row

HERE = Path(__file__).parent
IMAGES_SHOWN = 20
TYPES_SHOWN = 20
LIST_SHOWN = 100
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_PROOF_SECONDS = 86_400


class Visit:
    """One request for a page, by somebody who is let in."""

    def __init__(self, hub: Hub, request: web.Request, identity: Identity, noted: Noted) -> None:
        self.hub = hub
        self.request = request
        self.identity = identity
        self.noted = noted
        self.account = actor_of(identity.subject, hub.directory)

    @cached_property
    def types(self) -> tuple[MachineType, ...]:
        """The types that this visitor may see; a machine sees its own."""
        own = self.identity.machine_type
        if own is not None:
            return (own,)
        account = self.account
        return tuple(
            one
            for one in self.hub.directory.types.values()
            if account is not None and may_see_types(account, one.account)
        )

    @property
    def registries(self) -> tuple[str, ...]:
        """The upstreams that this visitor may pull from."""
        hosts = self.hub.settings.hosts_of_upstreams.values()
        return tuple(host for host in hosts if self._may_see(host))

    def _may_see(self, host: str) -> bool:
        try:
            self.hub.permit(Reference(host, "any"), self.identity)
        except HpcimgError:
            return False
        return True


Show = Callable[[Visit], Awaitable[web.StreamResponse]]


class Page:
    """Handles what a browser shows."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
        )

    async def images(self, request: web.Request) -> web.StreamResponse:
        """Show images by types, some at a time."""
        return await self._shown(request, self._images)

    async def explain(self, request: web.Request) -> web.StreamResponse:
        """Show one choice with the verdict on each entry."""
        return await self._shown(request, self._explained)

    async def types(self, request: web.Request) -> web.StreamResponse:
        """Show the machine types."""
        return await self._shown(request, self._types)

    async def accounts(self, request: web.Request) -> web.StreamResponse:
        """Show the accounts, to administrators."""
        return await self._shown(request, self._accounts)

    async def change(self, request: web.Request) -> web.StreamResponse:
        """Do what a form asks, if it is one of our own pages'."""
        return await self._shown(request, self._changed)

    async def _shown(self, request: web.Request, show: Show) -> web.StreamResponse:
        async def act(noted: Noted) -> web.StreamResponse:
            caller = await caller_of(self._hub, request)
            if caller.identity is None or caller.proof.repositories is not None:
                raise RefusedError(unauthorized("log in as an account or as a machine type", ""))
            noted.facts["login"] = caller.identity.subject
            return await show(Visit(self._hub, request, caller.identity, noted))

        def refuse(refusal: Refusal) -> web.StreamResponse:
            response = self._failed(refusal.status, refusal.message)
            if refusal.status == 401:
                # Whatever other clients are asked for, a browser knows this.
                realm = f'Basic realm="{host_of(self._hub, request)}"'
                response.headers["WWW-Authenticate"] = realm
            return response

        return await answered(self._hub, request, "page", act, refuse)

    async def _images(self, visit: Visit) -> web.Response:
        query, wanted, at, first = _asked(visit.request)
        types = [one for one in visit.types if wanted in one.full_name]
        names, number = await self._hub.in_thread(
            self._hub.database.tags, query, visit.registries, at, IMAGES_SHOWN
        )
        shown = [_reference(name, tag) for name, tag in names]
        if not number and query:
            shown = self._named(visit, query)
        columns = types[first : first + TYPES_SHOWN]
        rows = await self._rows(shown, columns)
        paging = _paging(visit.request, "at", at, IMAGES_SHOWN, number, "images")
        paging += _paging(visit.request, "first", first, TYPES_SHOWN, len(types), "types")
        return self._page(
            visit,
            "images",
            rows=rows,
            types=columns,
            query=query,
            type_query=wanted,
            paging=paging,
        )

    async def _rows(self, shown: list[Reference], columns: list[MachineType]) -> list[Row]:
        """Fill the rows, each by the threads of its own registry."""
        asked = (self._hub.ask(one, self._hub.grid.row, one, columns) for one in shown)
        return list(await asyncio.gather(*asked))

    async def _explained(self, visit: Visit) -> web.Response:
        name = visit.request.query.get("type", "")
        found = next((one for one in visit.types if one.full_name == name), None)
        if found is None:
            raise UsageError(f"there is no machine type {name!r} that you may see")
        references = self._named(visit, visit.request.query.get("image", ""))
        if not references:
            raise UsageError("there is no such image that you may see")
        explain = self._hub.grid.explain
        explained = await self._hub.ask(references[0], explain, references[0], found)
        return self._page(visit, "explain", explained=explained, type=found)

    async def _types(self, visit: Visit) -> web.Response:
        _, wanted, at, _ = _asked(visit.request)
        types = [one for one in visit.types if wanted in one.full_name]
        account = visit.account
        may_change = account is not None and may_manage_types(account, account.name)
        proposed = []
        if may_change:
            proposed = await self._hub.in_thread(self._hub.admin.proposals, actor=account)
        return self._page(
            visit,
            "types",
            proposals=proposed[:LIST_SHOWN],
            types=types[at : at + LIST_SHOWN],
            type_query=wanted,
            paging=_paging(visit.request, "at", at, LIST_SHOWN, len(types), "types"),
            may_change=may_change,
            proof=self._proof(visit),
        )

    async def _accounts(self, visit: Visit) -> web.Response:
        if visit.account is None or not may_manage_accounts(visit.account):
            return self._failed(403, "accounts are shown to administrators")
        types = [one.account for one in self._hub.directory.types.values()]
        accounts = [(one, types.count(one.name)) for one in self._hub.directory.accounts.values()]
        return self._page(visit, "accounts", accounts=accounts, proof=self._proof(visit))

    async def _changed(self, visit: Visit) -> web.Response:
        """Change something; a form of another site's page has no proof."""
        form = await read_form(self._hub, visit.request)
        if not self._is_ours(visit, str(form.get("proof", ""))):
            return self._failed(403, "the form is not of this page, or too old: load it again")
        words = {str(key): str(value) for key, value in form.items()}
        actor = visit.account
        if actor is None:
            return self._failed(403, "only accounts change something")
        path = visit.request.path
        visit.noted.facts["changed"] = words.get("name", "")
        await self._hub.in_thread(do_form, self._hub.admin, path, actor, words)
        await self._hub.refresh()
        return web.Response(status=303, headers={"Location": "/" + path.split("/")[1]})

    def _named(self, visit: Visit, name: str) -> list[Reference]:
        """Look a whole name up, where it is one that the visitor may see."""
        try:
            return [self._hub.named(name, visit.identity)]
        except HpcimgError:
            return []

    def _proof(self, visit: Visit, day: int = 0) -> str:
        """Make what proves that a form was on our own page for this visitor today."""
        today = int(time.time()) // _PROOF_SECONDS - day
        said = f"form {visit.identity.subject} {today}".encode()
        return hmac.new(self._hub.key, said, hashlib.sha256).hexdigest()

    def _is_ours(self, visit: Visit, proof: str) -> bool:
        if is_of_another_site(self._hub, visit.request):
            return False
        known = (self._proof(visit), self._proof(visit, 1))
        return any(hmac.compare_digest(one.encode(), proof.encode()) for one in known)

    def _page(self, visit: Visit, name: str, **facts: Any) -> web.Response:
        pages = [("Images", "/"), ("Machine types", "/types")]
        if visit.account is not None and may_manage_accounts(visit.account):
            pages.append(("Accounts", "/accounts"))
        return self._html(
            name, pages=pages, here=visit.request.path, who=visit.identity.subject, **facts
        )

    def _html(self, name: str, status: int = 200, **facts: Any) -> web.Response:
        text = self._templates.get_template(f"{name}.html").render(**facts)
        return web.Response(text=text, status=status, content_type="text/html", headers=HEADERS)

    def _failed(self, status: int, why: str) -> web.Response:
        what = "This cannot be shown"
        return self._html("error", status, what=what, why=why, pages=[], here="", who="")


def _reference(name: str, tag: str) -> Reference:
    registry, _, repository = name.partition("/")
    is_pinned = is_digest(tag)
    return Reference(registry, repository, None if is_pinned else tag, tag if is_pinned else None)


def _asked(request: web.Request) -> tuple[str, str, int, int]:
    """Read what is searched for, and from where on it is shown."""
    words = request.query
    at, first = (int(n) if (n := words.get(k, "")[:6]).isdecimal() else 0 for k in ("at", "first"))
    return words.get("q", "").strip()[:300], words.get("type", "").strip()[:130], at, first


def _paging(
    request: web.Request, key: str, at: int, size: int, number: int, what: str
) -> list[tuple[str, str]]:
    """Make the links to what is before and after."""
    found = []
    for text, start in ((f"Earlier {what}", at - size), (f"More {what}", at + size)):
        if -size < start < at or at < start < number:
            words = {**request.query, key: str(max(start, 0))}
            found.append((text, f"{request.path}?{urlencode(words)}"))
    return found
