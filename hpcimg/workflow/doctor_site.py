"""Reads what a doctor judges of a site as the store's account: the store, registries, room, clock.

It writes one mark among the store's temporary files, which says whether other machines share it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.doctor import machine, registry
from hpcimg.doctor.compare import MARK
from hpcimg.doctor.finding import FAIL, Finding
from hpcimg.errors import SettingsError
from hpcimg.settings import Settings
from hpcimg.store.account import is_account, uid_of
from hpcimg.store.faults import free_bytes, size_text
from hpcimg.store.store import user_store
from hpcimg.store.trial import scratch
from hpcimg.workflow.access import home_directory, site_surroundings
from hpcimg.workflow.doctor_store import confinement, look

if TYPE_CHECKING:
    from hpcimg.oci.credentials import FindCredential
    from hpcimg.oci.greeting import Greeting

_AT_ONCE = 8
_ANY = "hpcimg/doctor"


def examine_store(settings: Settings) -> list[Finding]:
    """Look at the store, and at what converts images into it."""
    root = Path(settings.store.path)
    converting = confinement(settings.merger)
    try:
        if root.is_dir():
            return [*look(root, settings.store), converting]
        why = "there is no store in it" if root.parent.is_dir() else "it is not there"
    except OSError as error:
        why = error.strerror or str(error)
    what = f'"{root}" cannot be used as the store: {why}'
    change = (
        f"mount the site's file system here, and once: install -d -m 755 -o "
        f"{settings.store.account} {root}; or correct store: {{path: ...}} in the settings"
    )
    return [Finding("store", FAIL, what, change), converting]


def examine_stage(settings: Settings) -> Iterator[Finding]:
    """Look where this node's own copies go, if the site wants any."""
    if not settings.stage.path:
        return
    try:
        owner = os.stat(settings.stage.path).st_uid  # noqa: PTH116 - a text, of the settings
    except OSError:
        owner = None
    yield machine.judge_stage(settings.stage.path, owner, uid_of(settings.store.account))


def leave_mark(settings: Settings, token: str, host: str) -> dict[str, str]:
    """Put this machine's mark into the store and see which others are there; nothing if it may not.

    Marks lie in a directory of the one doctor, named after the process that asks all machines.
    """
    if not (settings.store.shared and is_account(settings.store.account)):
        return {}
    folder = scratch(Path(settings.store.path), token)
    own = f"{host}.{os.urandom(4).hex()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / own).touch()
        with os.scandir(folder) as listing:
            seen = sorted(one.name for one in listing)
    except OSError:
        return {}
    return {MARK: json.dumps([own, *seen])}


def examine_room(settings: Settings) -> Iterator[Finding]:
    """Look where a user's own store goes; the site's is looked at with the store."""
    uid = os.geteuid()
    if uid == 0 or is_account(settings.store.account):
        return
    home = home_directory()
    own = user_store(home, uid, settings.store).root
    place = next(one for one in (own, *own.parents) if one.exists())
    if home.is_dir() and os.access(home, os.W_OK) and place.is_relative_to(home):
        free = free_bytes(place)
        yield machine.judge_space(machine.Space("own", str(place), free, size_text(free)))


def examine_registries(settings: Settings, environment: Mapping[str, str]) -> list[Finding]:
    """Ask each listed registry, as the one that fetches does, and compare the clock with one."""
    findings = list(registry.judge_listed(settings.default_registry, settings.registries))
    hosts = [host for host in settings.registries if "*" not in host]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        greetings = list(pool.map(lambda host: _greet(host, settings, environment), hosts))
    for one in greetings:
        answered = registry.Answered(one.host, one.status, one.failure, one.hint, one.has_login)
        findings.append(registry.judge_registry(answered))
    told = [one for one in greetings if one.apart is not None]
    if told:
        findings.append(machine.judge_clock(told[0].apart, told[0].host))
    return findings


def _greet(host: str, settings: Settings, environment: Mapping[str, str]) -> Greeting:
    from hpcimg.oci.greeting import Greeting, greet

    of_host = settings.registries[host]
    repository = of_host.readable[0].replace("*", _ANY) if of_host.readable else ""
    try:
        around = site_surroundings(settings, environment)
        return greet(host, settings.registries, _finder(settings), around, repository)
    except SettingsError as error:
        return Greeting(host, 0, error.message, error.hint)


def _finder(settings: Settings) -> FindCredential:
    from hpcimg.oci.credentials import no_credential, site_finder

    return site_finder(settings.registries) if is_account(settings.store.account) else no_credential
