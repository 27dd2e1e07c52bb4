"""Start and stop one hub: settings, database, sockets, signals."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from hpcimg.errors import SettingsError
from hpcimg.hub.database import Database
from hpcimg.serve.api import Api
from hpcimg.serve.forms import FORMS
from hpcimg.serve.guard import Guard
from hpcimg.serve.hub import Hub
from hpcimg.serve.page import HERE, Page
from hpcimg.serve.registry import Registry
from hpcimg.serve.tokens import Tokens

if TYPE_CHECKING:
    from hpcimg.hub.settings import HubSettings, TlsSettings

log = logging.getLogger(__name__)

HUB = web.AppKey("hub", Hub)
GUARD = web.AppKey("guard", Guard)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Say = Callable[[str], None]
_DRAIN_SECONDS = 30.0
_LINE_LIMIT = 8190
_FIELD_LIMIT = 8190
_BACKLOG = 1024
_HANDSHAKE_SECONDS = 10.0


def serve(settings: HubSettings, database: Database, cache: Path, say: Say) -> None:
    """Run until SIGTERM or SIGINT; answers under way are finished first."""
    _open_many_files()
    asyncio.run(_run(settings, database, cache, say))


def _open_many_files() -> None:
    """Take as many connections as the machine allows; the usual limit is for other programs."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _run(settings: HubSettings, database: Database, cache: Path, say: Say) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    hub = Hub(settings, database, cache)
    app = application(hub)
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=settings.limits.idle,
        max_line_size=_LINE_LIMIT,
        max_field_size=_FIELD_LIMIT,
        shutdown_timeout=_DRAIN_SECONDS,
    )
    await runner.setup()
    try:
        listening = await _listen(settings, runner, app, say)
        await ended.wait()
        log.info("stopping")
        listening.close()
    finally:
        await runner.cleanup()
        await hub.close()


async def _listen(
    settings: HubSettings, runner: web.AppRunner, app: web.Application, say: Say
) -> asyncio.Server:
    assert runner.server is not None  # noqa: S101 - setup() has made it
    context = _tls(settings.tls)
    guard = app[GUARD]
    guard.inner, guard.is_plain = runner.server, context is None
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(
            guard,
            *settings.address,
            ssl=context,
            backlog=_BACKLOG,
            reuse_address=True,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS if context else None,
        )
    except OSError as error:
        raise SettingsError(
            f'could not listen on "{settings.listen}": {error.strerror or error}',
            "choose another address with --listen",
        ) from error
    scheme = "https" if context else "http"
    for socket in server.sockets:
        host, port = socket.getsockname()[:2]
        say(f"hpcimg hub: {scheme}://{host}:{port}")
    return server


@web.middleware
async def _watched(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let the guard wait for our answers as long as they take, and not for requests."""
    guard = request.app[GUARD]
    guard.begin(request.transport)
    try:
        return await handler(request)
    finally:
        guard.end(request.transport)


def application(hub: Hub) -> web.Application:
    """Make the application: the registry, its tokens, the REST interface, the page, health."""
    app = web.Application(client_max_size=hub.settings.limits.body, middlewares=[_watched])
    app[HUB] = hub
    app[GUARD] = Guard(hub.settings.limits.clients, hub.settings.limits.idle)
    registry, tokens = Registry(hub), Tokens(hub)
    app.router.add_get("/health/live", _live)
    app.router.add_get("/health/ready", _ready)
    app.router.add_get("/metrics", _metrics)
    app.router.add_route("GET", "/token", tokens.handle)
    app.router.add_route("POST", "/token", tokens.handle)
    app.router.add_get("/api/v1/openapi.json", _openapi)
    api, page = Api(hub), Page(hub)
    for method, path, act in api.routes():
        app.router.add_route(method, path, api.handler(act))
    app.router.add_get("/", page.images)
    app.router.add_get("/explain", page.explain)
    app.router.add_get("/types", page.types)
    app.router.add_get("/accounts", page.accounts)
    for path in FORMS:
        app.router.add_post(path, page.change)
    app.router.add_get(r"/static/{name:hub\.(?:css|js)}", _static)
    app.router.add_route("*", "/v2{rest:(?:/.*)?}", registry.handle)
    app.router.add_route("*", "/type/{rest:.*}", registry.handle)
    return app


async def _live(_: web.Request) -> web.Response:
    return web.Response(text="alive\n")


async def _ready(request: web.Request) -> web.Response:
    is_ready = request.app[HUB].is_ready()
    text = "ready\n" if is_ready else "the database does not answer\n"
    return web.Response(text=text, status=200 if is_ready else 503)


async def _openapi(_: web.Request) -> web.Response:
    text = (HERE / "static/openapi.json").read_text("utf-8")
    return web.Response(text=text, content_type="application/json")


async def _static(request: web.Request) -> web.FileResponse:
    path = HERE / "static" / request.match_info["name"]
    return web.FileResponse(path, headers={"X-Content-Type-Options": "nosniff"})


async def _metrics(request: web.Request) -> web.Response:
    hub = request.app[HUB]
    directory = hub.directory
    gauges = {
        "machine_types": ("Machine types that are known.", float(len(directory.types))),
        "audit_lost": ("Lines of the audit log that were lost.", float(hub.audit.lost)),
        "ready": ("Whether the database answers.", float(hub.is_ready())),
    }
    text = hub.metrics.text(gauges)
    return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4"})


def _tls(tls: TlsSettings) -> ssl.SSLContext | None:
    """Make TLS of the hub's own, which looks at a client's certificate where one is shown."""
    if not tls.certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        if tls.client_ca:
            context.load_verify_locations(tls.client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(filter(None, (tls.certificate, tls.key, tls.client_ca)))
        raise SettingsError(f"could not use the TLS files {files}: {error}", "see tls:") from error
    return context


def cache_folder(settings: HubSettings) -> Path:
    """Say where blobs are kept: as the settings say, or in this user's own cache."""
    if settings.cache.path:
        return Path(settings.cache.path)
    if os.geteuid() == 0:
        return Path("/var/cache/hpcimg/hub")
    named = os.environ.get("XDG_CACHE_HOME", "")
    own = Path(named) if Path(named).is_absolute() else Path.home() / ".cache"
    return own / "hpcimg/hub"
