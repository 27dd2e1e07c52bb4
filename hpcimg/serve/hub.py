"""Everything one running hub holds: who may what, what is behind names, and threads to ask."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hpcimg.errors import AuthenticationError, HpcimgError
from hpcimg.hub.account import may_manage_accounts
from hpcimg.hub.blobs import BlobCache
from hpcimg.hub.contents import Contents
from hpcimg.hub.database import Database
from hpcimg.hub.identity import Identity, account_of, actor_of
from hpcimg.hub.route import upstream_reference
from hpcimg.oci.client import RegistryClient
from hpcimg.oci.reference import Reference
from hpcimg.policy import PolicyRule
from hpcimg.serve.audit import AuditLog
from hpcimg.serve.logins import LoginDesk
from hpcimg.serve.metrics import Metrics
from hpcimg.serve.upstreams import UpstreamThreads
from hpcimg.settings import Settings
from hpcimg.workflow.access import site_surroundings
from hpcimg.workflow.hub_admin import HubAdmin
from hpcimg.workflow.hub_choose import Chooser, Served
from hpcimg.workflow.hub_grid import Grid
from hpcimg.workflow.hub_source import HubSource

if TYPE_CHECKING:
    from hpcimg.hub.machine_type import MachineType
    from hpcimg.hub.settings import HubSettings

log = logging.getLogger(__name__)

Result = TypeVar("Result")
_Question = tuple[Reference, "MachineType | None", bool]

WATCH_SECONDS = 1.0
"""How often the database is asked whether types or accounts have changed."""
PRUNE_SECONDS = 3600.0
DOCUMENTS_KEPT = 200_000
BYTES_KEPT = 4 << 30
"""Manifests, indexes and configs that the database keeps, and their bytes."""
_THREADS = 16


class Hub:
    """One copy of the hub; made inside its event loop."""

    def __init__(self, settings: HubSettings, database: Database, cache: Path) -> None:
        self.settings = settings
        self.database = database
        self.directory = database.directory()
        self.metrics = Metrics()
        self.audit = AuditLog(settings.audit)
        self._threads = ThreadPoolExecutor(_THREADS, "hub")
        self._upstreams = UpstreamThreads(settings.hosts_of_upstreams.values())
        self._hashing = ThreadPoolExecutor(os.cpu_count() or 1, "hash")
        self.key = database.signing_key()
        self.desk = LoginDesk(self.key, settings.limits.logins, self._in_hashing, time.time)
        client = _client(settings)
        self.contents = Contents(
            client, database, tag_seconds=settings.tag_seconds, stale_age=settings.stale_age
        )
        self.blobs = BlobCache(cache, settings.cache.bytes, client)
        self.client = client
        source = HubSource(self.contents, database, client)
        self.chooser = Chooser(self.contents, source, database, _rules(settings))
        self.grid = Grid(self.chooser)
        self.admin = HubAdmin(database)
        self._asking: dict[_Question, asyncio.Future[Served]] = {}
        self.seen = time.monotonic()
        self._watcher = asyncio.ensure_future(self._watch())

    async def in_thread(
        self, call: Callable[..., Result], *words: object, **named: object
    ) -> Result:
        """Run what waits for a disk or the database beside the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(call, *words, **named))

    async def ask(
        self, reference: Reference, call: Callable[..., Result], *words: object
    ) -> Result:
        """Run what may wait for the registry of a reference."""
        return await self._upstreams.run(reference.registry, call, *words)

    async def answer(
        self, reference: Reference, machine_type: MachineType | None, *, wants_index: bool
    ) -> Served:
        """Answer for a name: from memory while it is fresh, and asked for once for all who wait."""
        served = self.chooser.at_hand(reference, machine_type, wants_index=wants_index)
        if served is not None:
            return served
        question = (reference, machine_type, wants_index)
        asking = self._asking.get(question)
        if asking is None:
            asking = asyncio.ensure_future(self._ask(question))
            self._asking[question] = asking
            asking.add_done_callback(lambda _: self._asking.pop(question, None))
        return await asyncio.shield(asking)

    def named(self, name: str, identity: Identity) -> Reference:
        """Read an image's name as a client writes it after the hub's own, or with its upstream's.

        Raises UsageError for what is no name, AuthenticationError for what this one may not see.
        """
        hosts = self.settings.hosts_of_upstreams
        host, slash, rest = name.partition("/")
        namespace = host if slash and host in hosts.values() else ""
        written = rest if namespace else name
        repository, at, digest = written.partition("@")
        if not at:
            repository, _, digest = written.partition(":")
        found = upstream_reference(
            repository, digest or "latest", hosts, self.settings.first_upstream, namespace
        )
        self.permit(found, identity)
        return found

    def permit(self, reference: Reference, identity: Identity) -> None:
        """Refuse what an upstream gives to some accounts only; raises AuthenticationError."""
        for one in self.settings.upstreams.values():
            if one.registry == reference.registry and one.accounts is not None:
                account = account_of(identity.subject, self.directory)
                actor = actor_of(identity.subject, self.directory)
                is_admin = actor is not None and may_manage_accounts(actor)
                if not is_admin and (account is None or account.name not in one.accounts):
                    raise AuthenticationError(
                        f'"{reference.name}" is not for this login',
                        "its upstream lists the accounts that may pull from it",
                    )

    def is_ready(self) -> bool:
        """Tell whether the database answered lately."""
        return time.monotonic() - self.seen < 10 * WATCH_SECONDS

    async def close(self) -> None:
        """End what runs beside the loop."""
        self._watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watcher
        self.blobs.close()
        self._upstreams.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._hashing.shutdown(wait=False, cancel_futures=True)
        self.audit.close()
        self.database.close()

    async def refresh(self) -> None:
        """Read types and accounts anew, if they are others than those in memory."""
        generation = await self.in_thread(self.database.generation)
        if generation != self.directory.generation:
            found = await self.in_thread(self.database.directory)
            # Another reader may have been quicker, and later.
            if found.generation > self.directory.generation:
                self.directory = found
        self.seen = time.monotonic()

    async def _watch(self) -> None:
        pruned = 0.0
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await self.refresh()
                if time.monotonic() - pruned > PRUNE_SECONDS:
                    pruned = time.monotonic()
                    age = time.time() - self.settings.stale_age
                    await self.in_thread(self.database.prune, DOCUMENTS_KEPT, BYTES_KEPT, age)
            except HpcimgError as error:
                log.warning("%s", error.message)
            except Exception:  # the next look may find it mended; without one nothing ever would
                log.exception("the database's content is not understood")

    async def _ask(self, question: _Question) -> Served:
        reference, machine_type, wants_index = question
        call = partial(self.chooser.answer, wants_index=wants_index)
        return await self.ask(reference, call, reference, machine_type)

    async def _in_hashing(self, call: Callable[..., bool], *words: object) -> bool:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._hashing, partial(call, *words))


def _client(settings: HubSettings) -> RegistryClient:
    """Make the client of the upstreams; a host that the settings do not list is never asked."""
    from hpcimg.oci.credentials import site_finder

    site = Settings(registries=settings.registries, proxy=settings.proxy)
    return RegistryClient(
        settings.registries,
        site_finder(settings.registries),
        listed_only=True,
        around=site_surroundings(site, os.environ),
    )


def _rules(settings: HubSettings) -> tuple[PolicyRule, ...]:
    return (PolicyRule(policy=settings.policy), *settings.policies)
