"""Who asks: the registry client and the store of the site's account, or those of a user."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.store.store import Store, site_store, user_store

if TYPE_CHECKING:
    from hpcimg.oci.client import RegistryClient
    from hpcimg.settings import Settings


@dataclass(frozen=True)
class Access:
    """A client and the store that its images go into."""

    client: RegistryClient
    store: Store


def site_access(settings: Settings) -> Access:
    """Ask as the site does: listed registries alone, without anybody's credentials."""
    from hpcimg.oci.client import RegistryClient
    from hpcimg.oci.credentials import no_credential

    client = RegistryClient(settings.registries, no_credential, listed_only=True)
    return Access(client, site_store(settings.store))


def own_access(
    settings: Settings, environment: Mapping[str, str], *, listed_only: bool = False
) -> Access:
    """Ask as this process's user does: own credentials, own store."""
    from hpcimg.oci.client import RegistryClient
    from hpcimg.oci.credentials import credential_finder

    home = home_directory()
    client = RegistryClient(
        settings.registries, credential_finder(environment, home), listed_only=listed_only
    )
    return Access(client, user_store(home, os.geteuid(), settings.store))


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
