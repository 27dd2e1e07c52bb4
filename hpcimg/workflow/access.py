"""Who asks: the registry client and the store of the site's account, or those of a user."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.errors import SettingsError
from hpcimg.store.documents import DOCUMENTS, DocumentCache, Place
from hpcimg.store.store import Store, site_store, user_store
from hpcimg.workflow.source import CachedSource

if TYPE_CHECKING:
    from hpcimg.oci.client import RegistryClient
    from hpcimg.oci.credentials import FindCredential
    from hpcimg.oci.hosts import Surroundings
    from hpcimg.oci.reference import Reference
    from hpcimg.settings import Settings


@dataclass(frozen=True)
class Access:
    """A source of documents and blobs, and the store that images go into.

    `listed_only` says that it is asked for a job, for which the settings list what may be asked.
    """

    source: CachedSource
    store: Store
    listed_only: bool = True

    @property
    def client(self) -> RegistryClient:
        """The registry client without any cache, for what is written."""
        return self.source.client


def site_access(settings: Settings) -> Access:
    """Ask as the site does: listed registries alone, without any user's credentials.

    Its account uses the site's own for what the settings call readable by all users.
    The site's documents are written by its account, so that all may read what it has read.
    """

    def find() -> FindCredential:
        from hpcimg.oci.credentials import no_credential, site_finder

        is_account = os.geteuid() == store.owner
        return site_finder(settings.registries) if is_account else no_credential

    store = site_store(settings.store)
    site = Place(store.root / DOCUMENTS, store.owner, lock=store.lock)
    if os.geteuid() == store.owner:
        documents = DocumentCache((site,), site)
    else:
        own = _own_place(os.environ)
        documents = DocumentCache((site, own), own)
    around = partial(_surroundings, settings, os.environ, None)
    return Access(_source(settings, find, documents, around, listed_only=True), store)


def own_access(
    settings: Settings, environment: Mapping[str, str], *, listed_only: bool = False
) -> Access:
    """Ask as this process's user does: own credentials, own store."""

    def find() -> FindCredential:
        from hpcimg.oci.credentials import credential_finder

        return credential_finder(environment, home)

    home = home_directory()
    own = _own_place(environment)
    documents = DocumentCache((*_site_place(settings), own), own)
    # What a job may ask is the administrator's word alone.
    around = partial(_surroundings, settings, environment, home, own_rules=not listed_only)
    source = _source(settings, find, documents, around, listed_only=listed_only)
    return Access(source, user_store(home, os.geteuid(), settings.store), listed_only)


def _source(
    settings: Settings,
    find: Callable[[], FindCredential],
    documents: DocumentCache,
    around: Callable[[], Surroundings],
    *,
    listed_only: bool,
) -> CachedSource:
    """Make a source whose cache, too, answers for no registry that may not be asked."""
    around = cache(around)

    def connect() -> RegistryClient:
        from hpcimg.oci.client import RegistryClient

        return RegistryClient(settings.registries, find(), listed_only=listed_only, around=around())

    def check(reference: Reference) -> None:
        from hpcimg.oci.hosts import Hosts

        Hosts(settings.registries, around(), listed_only=listed_only).endpoints(reference)

    return CachedSource(documents, connect, check)


def _surroundings(
    settings: Settings,
    environment: Mapping[str, str],
    home: Path | None,
    *,
    own_rules: bool = False,
) -> Surroundings:
    """Read what this machine says of registries, and what a user does where there is a home."""
    from hpcimg.oci import certificates, registries_conf
    from hpcimg.oci.hosts import Surroundings
    from hpcimg.oci.proxies import Proxies

    files = registries_conf.files_of(registries_conf.SYSTEM)
    folders: tuple[Path, ...] = certificates.SYSTEM
    if home is not None:
        folders = (home / ".config/containers/certs.d", *folders)
        if own_rules:
            files = registries_conf.user_files(environment, home, registries_conf.SYSTEM)
    proxies = Proxies(environment, settings.proxy, settings.no_proxy)
    return Surroundings(registries_conf.read_rules(files), folders, proxies)


def site_surroundings(settings: Settings, environment: Mapping[str, str]) -> Surroundings:
    """Read what this machine says of registries, as it counts for jobs."""
    return _surroundings(settings, environment, None)


def _site_place(settings: Settings) -> tuple[Place, ...]:
    try:
        store = site_store(settings.store)
    except SettingsError:
        return ()  # a machine without the store's account has no site store
    return (Place(store.root / DOCUMENTS, store.owner),)


def _own_place(environment: Mapping[str, str]) -> Place:
    """Find this user's cache; an XDG_CACHE_HOME that sudo may have left is not root's."""
    uid = os.geteuid()
    named = Path(environment.get("XDG_CACHE_HOME", ""))
    if uid == 0 or not named.is_absolute() or not _is_own(named, uid):
        named = home_directory() / ".cache"
    return Place(named / "hpcimg" / DOCUMENTS, uid, private=True)


def _is_own(path: Path, uid: int) -> bool:
    """Tell whether this is a directory, and no link to one, that `uid` alone may write."""
    try:
        status = path.lstat()
    except (OSError, ValueError):
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == uid and not status.st_mode & 0o022


def home_directory() -> Path:
    """Give the home of this process's user, whatever HOME says: secrets are read from there."""
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        return Path("/")


def become_account(settings: Settings) -> None:
    """Turn root into the store's account for good; anybody else stays who they are."""
    if os.geteuid() != 0:
        return
    try:
        account = pwd.getpwnam(settings.store.account)
    except KeyError:
        return  # whatever needs the account says so
    os.setgroups([])
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
