"""What settings mean that are well written: files that are not there, names that lead nowhere.

It looks at this machine as whoever runs it, and changes nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.bind import OPTIONAL, TMPFS
from hpcimg.container_settings import words_in
from hpcimg.errors import SettingsError
from hpcimg.oci.reference import check_alias, is_registry
from hpcimg.store.account import is_account, uid_of

if TYPE_CHECKING:
    from hpcimg.registry_settings import RegistrySettings
    from hpcimg.settings import Settings

Places = Mapping[tuple[object, ...], str]
_FILES = ("ca_file", "client_certificate", "client_key", "credentials")


@dataclass(frozen=True)
class Mistake:
    """What is wrong, where it stands, and what to write; a warning may be right elsewhere."""

    place: str
    what: str
    hint: str = ""
    severity: str = "error"


def meaning(settings: Settings, places: Places) -> Iterator[Mistake]:
    """Look at all that can be wrong though each word is known."""
    for host, about in settings.registries.items():
        yield from _registry(host, about, places, settings)
    yield from _default_registry(settings, places)
    yield from _aliases(settings, places)
    yield from _policies(settings, places)
    yield from _store(settings, places)
    yield from _mounts(settings, places)
    if shutil.which(settings.apptainer) is None:
        what = f'"{settings.apptainer}" is no program on this machine'
        hint = "write its path, or install Apptainer here"
        yield Mistake(_place(places, "apptainer"), what, hint, "warning")


def _place(places: Places, *way: object) -> str:
    """Find where a key stands, or the nearest one above it that was written."""
    while way and way not in places:
        way = way[:-1]
    return places.get(way, "default")


def _registry(
    host: str, about: RegistrySettings, places: Places, settings: Settings
) -> Iterator[Mistake]:
    if not is_registry(host):
        what = f'"{host}" is no registry\'s host'
        yield Mistake(_place(places, "registries", host), what, "write HOST.DOMAIN or HOST:PORT")
    for key in _FILES:
        path = getattr(about, key)
        if path:
            yield from _file(key, path, _place(places, "registries", host, key), settings)
    place = _place(places, "registries", host, "signatures")
    for path in dict.fromkeys(path for rule in about.signatures for path in rule.files):
        yield from _key(path, place)


def _file(key: str, path: str, place: str, settings: Settings) -> Iterator[Mistake]:
    """Try to read a file as the account does, or as this user, who may have less right to it."""
    account = settings.store.account
    try:
        with Path(path).open("rb"):
            return
    except PermissionError:
        if is_account(account):
            hint = f"as root: chown {account} {path} && chmod 0400 {path}"
            yield Mistake(place, f'"{key}": {account} cannot read "{path}"', hint)
        else:
            what = f'"{key}": you may not read "{path}"'
            yield Mistake(place, what, f"check as root whether {account} may", "warning")
    except OSError as error:
        what = f'"{key}": could not read "{path}": {error.strerror}'
        yield Mistake(place, what, "name a file that is on every node")


def _key(path: str, place: str) -> Iterator[Mistake]:
    from hpcimg.oci.key import read_key

    try:
        read_key(path).check_kind()
    except SettingsError as error:
        yield Mistake(place, error.message, error.hint)


def _default_registry(settings: Settings, places: Places) -> Iterator[Mistake]:
    name, place = settings.default_registry, _place(places, "default_registry")
    if not is_registry(name):
        yield Mistake(place, f'"{name}" is no registry', "write HOST.DOMAIN or HOST:PORT")
    elif places and name.lower() not in settings.registries:
        what = f'"{name}" is not under "registries": jobs may use no name without a registry'
        yield Mistake(place, what, f"add {name}: {{}} there, or name one that is", "warning")


def _aliases(settings: Settings, places: Places) -> Iterator[Mistake]:
    for key, value in settings.aliases.items():
        place = _place(places, "aliases", key)
        try:
            registry = check_alias(key, value, settings.default_registry)
        except SettingsError as error:
            yield Mistake(place, error.message, error.hint)
            continue
        if registry not in settings.registries:
            what = f'alias "{key}" leads to "{registry}", which is not under "registries"'
            yield Mistake(place, what, f"add {registry}: {{}} there, or jobs are refused")


def _policies(settings: Settings, places: Places) -> Iterator[Mistake]:
    for at, rule in enumerate(settings.policies):
        registry = rule.repository.partition("/")[0]
        is_pattern = any(c in registry for c in "*?[")
        if not is_pattern and registry not in settings.registries:
            what = f'"{rule.repository}" is of "{registry}", which is not under "registries"'
            place = _place(places, "policies", at)
            yield Mistake(place, what, "jobs may use nothing that this rule is for", "warning")


def _store(settings: Settings, places: Places) -> Iterator[Mistake]:
    account, path = settings.store.account, settings.store.path
    if uid_of(account) is None:
        what = f'account "{account}" does not exist on this machine'
        hint = f"useradd --system {account}, with the same uid on all nodes"
        yield Mistake(_place(places, "store", "account"), what, hint)
    if not Path(path).is_dir():
        what = f'the store "{path}" is no directory on this machine'
        yield Mistake(_place(places, "store", "path"), what, "make or mount it", "warning")


def _mounts(settings: Settings, places: Places) -> Iterator[Mistake]:
    for at, bind in enumerate(settings.mounts):
        if bind.source == TMPFS or OPTIONAL in bind.flags or words_in(bind.source):
            continue
        try:
            Path(bind.source).lstat()
        except (FileNotFoundError, NotADirectoryError):
            what = f'"{bind.source}" is not on this machine: its containers fail'
            hint = f'make it, or add the flag "{OPTIONAL}"'
            yield Mistake(_place(places, "mounts", at), what, hint, "warning")
        except OSError:
            continue  # hidden from whoever looks, which says nothing of the job's user
