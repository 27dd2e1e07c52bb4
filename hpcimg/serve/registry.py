"""The distribution API: each name answered with the image that fits the caller's type."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from aiohttp import web

from hpcimg.errors import UsageError
from hpcimg.hub.identity import Identity
from hpcimg.hub.refusal import Refusal, unauthorized, unsupported
from hpcimg.hub.route import Route, parse_route, upstream_reference
from hpcimg.oci.model import INDEX_TYPES, MANIFEST_TYPES, OCI_INDEX
from hpcimg.serve.blob_stream import send_blob
from hpcimg.serve.request import Caller, Facts, Noted, RefusedError, answered, caller_of, challenge

if TYPE_CHECKING:
    from hpcimg.oci.reference import Reference
    from hpcimg.serve.hub import Hub
    from hpcimg.workflow.hub_choose import Served

VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}
_YEAR = "private, max-age=31536000, immutable"
_READS = ("GET", "HEAD")
_PAGE = 1000
_PATH_KEPT = 500

routed = lru_cache(maxsize=20_000)(parse_route)


class Registry:
    """Handles what stands under /v2/, also behind /type/ACCOUNT/NAME."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        told_by = ("Authorization", "Accept", hub.settings.header)
        self._vary = ", ".join(filter(None, told_by))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request; every refusal is the specification's document."""

        async def act(noted: Noted) -> web.StreamResponse:
            route = _route(request.path)
            noted.kind = route.kind
            return await self._routed(route, request, noted.facts)

        return await answered(self._hub, request, "unknown", act, refusal_response)

    async def _routed(self, route: Route, request: web.Request, noted: Facts) -> web.StreamResponse:
        if request.method not in _READS or route.kind == "upload":
            raise RefusedError(unsupported(request.method))
        hub = self._hub
        caller = await caller_of(hub, request, path_type=route.machine_type)
        identity = self._admitted(caller, route, request)
        noted["login"], noted["how"] = identity.subject, identity.how
        if identity.machine_type is not None:
            noted["type"] = identity.machine_type.full_name
        if route.kind == "ping" and self._must_ask(request, identity):
            why = "log in, or ask for a token without a login"
            raise RefusedError(unauthorized(why, challenge(hub, request)))
        if route.kind == "ping":
            return web.json_response({}, headers=VERSION)
        if route.kind == "catalog":
            why = "the images of the upstreams are not listed: name what you want"
            raise RefusedError(Refusal(404, "UNSUPPORTED", why))
        reference = self._reference(route, request)
        hub.permit(reference, identity)
        if route.kind == "manifest":
            served = await self._served(reference, identity, request)
            noted["digest"], noted["stale"] = served.digest, served.is_stale or None
            if served.words is not None:
                noted["features"] = ",".join(served.words) or "generic"
            hub.metrics.count_identity(identity.how)
            hub.metrics.count_choice(served.words)
            return _manifest(served, request, self._vary, is_pinned=reference.digest is not None)
        if route.kind == "blob":
            return await send_blob(hub, reference, request, noted)
        if route.kind == "tags":
            return await self._tags(route, reference, request)
        return await self._referrers(reference)

    def _admitted(self, caller: Caller, route: Route, request: web.Request) -> Identity:
        """Let in who is somebody, and a token for what it was given for."""
        hub = self._hub
        if caller.identity is None:
            why = "log in as a machine type (ACCOUNT-TYPE) or as an account"
            raise RefusedError(unauthorized(why, challenge(hub, request, route.repository)))
        allowed = caller.proof.repositories
        if allowed is not None and route.repository and route.repository not in allowed:
            why = "the token is for other repositories"
            raise RefusedError(unauthorized(why, challenge(hub, request, route.repository)))
        return caller.identity

    def _must_ask(self, request: web.Request, identity: Identity) -> bool:
        """Tell whether a client has to be asked whether it has a login, before it is taken as told.

        Else one that has a login would never send it, and take a wrong password for a right one.
        A client without one is given a token for nobody.
        """
        is_silent = "Authorization" not in request.headers
        is_told = identity.how in ("network", "anonymous")
        return is_silent and is_told and self._hub.settings.challenge == "bearer"

    def _reference(self, route: Route, request: web.Request) -> Reference:
        settings = self._hub.settings
        return upstream_reference(
            route.repository,
            route.target or "latest",
            settings.hosts_of_upstreams,
            settings.first_upstream,
            request.query.get("ns", ""),
        )

    async def _served(
        self, reference: Reference, identity: Identity, request: web.Request
    ) -> Served:
        return await self._hub.answer(
            reference, identity.machine_type, wants_index=_wants_index(request)
        )

    async def _tags(
        self, route: Route, reference: Reference, request: web.Request
    ) -> web.StreamResponse:
        tags = await self._hub.ask(reference, self._hub.contents.tags, reference)
        tags, link = _page(tags, request)
        headers = {**VERSION, **({"Link": link} if link else {})}
        return web.json_response({"name": route.repository, "tags": list(tags)}, headers=headers)

    async def _referrers(self, reference: Reference) -> web.StreamResponse:
        """Pass on what is attached; where there is no such API, clients ask for the tag instead."""
        raw = await self._hub.ask(reference, self._hub.client.attached_index, reference)
        if raw is None:
            raise RefusedError(Refusal(404, "UNSUPPORTED", "the upstream lists no referrers"))
        return web.Response(body=raw, headers={**VERSION, "Content-Type": OCI_INDEX})


def _route(path: str) -> Route:
    # Before any login, long paths shall fill no memory.
    route = routed(path) if len(path) <= _PATH_KEPT else parse_route(path)
    if route is None:
        raise RefusedError(Refusal(404, "UNSUPPORTED", "the API has no such path"))
    return route


def refusal_response(refusal: Refusal) -> web.Response:
    """Send a refusal with the API's own document."""
    headers = {**VERSION, **refusal.headers, "Content-Type": "application/json"}
    return web.Response(status=refusal.status, body=refusal.body(), headers=headers)


def _manifest(served: Served, request: web.Request, vary: str, *, is_pinned: bool) -> web.Response:
    headers = {
        **VERSION,
        "Content-Type": served.media_type,
        "Docker-Content-Digest": served.digest,
        "ETag": f'"{served.digest}"',
        "Vary": vary,
        "Cache-Control": _YEAR if is_pinned else "private, no-cache",
    }
    if served.is_stale:
        headers["Warning"] = '110 - "the upstream registry does not answer"'
    if _is_known(request, served.digest):
        return web.Response(status=304, headers=headers)
    return web.Response(body=served.body, headers=headers)


def _is_known(request: web.Request, digest: str) -> bool:
    given = request.headers.get("If-None-Match", "")
    return bool(given) and (given.strip() == "*" or f'"{digest}"' in given or given == digest)


def _wants_index(request: web.Request) -> bool:
    """Tell whether a client takes an index and no manifest; Accept may come in many lines."""
    accepted = ",".join(request.headers.getall("Accept", []))
    types = {one.partition(";")[0].strip().lower() for one in accepted.split(",")}
    return bool(types & INDEX_TYPES) and not types & MANIFEST_TYPES


def _page(tags: tuple[str, ...], request: web.Request) -> tuple[tuple[str, ...], str]:
    """Cut the list as `n` and `last` ask, and give the Link to what follows."""
    last, number = request.query.get("last", ""), request.query.get("n", "")
    if number and not number.isdecimal():
        raise UsageError("n must be a number")
    rest = tuple(tag for tag in tags if tag > last)
    size = min(int(number[:9]), _PAGE) if number else len(rest)
    shown = rest[:size]
    if len(shown) == len(rest) or not shown:
        return shown, ""
    return shown, f'<{request.path}?n={size}&last={shown[-1]}>; rel="next"'
