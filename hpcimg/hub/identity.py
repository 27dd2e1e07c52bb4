"""Which machine type a request is of, in a fixed order, and how it was told.

Believes only what was proven before: a login by its password or token, a certificate by TLS.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING

from hpcimg.errors import AuthenticationError
from hpcimg.hub.account import may_see_types
from hpcimg.quoting import quoted

if TYPE_CHECKING:
    from hpcimg.hub.account import Account
    from hpcimg.hub.directory import Directory
    from hpcimg.hub.machine_type import MachineType

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_KIND = re.compile(r"([^/#]+)/type#([^/#]+)")


@dataclass(frozen=True)
class NetworkType:
    """Requests from these addresses are of this type, if nothing else tells one."""

    network: Network
    machine_type: str


@dataclass(frozen=True)
class Rules:
    """What the administrator lets tell a type: networks, patterns of names, and for nobody.

    `open_types` are shell patterns of the types that need no password; `host` is a pattern
    of host names with `{account}` and `{type}`; `anonymous` is a type, or "" for none.
    """

    open_types: tuple[str, ...] = ()
    host: str = ""
    networks: tuple[NetworkType, ...] = ()
    anonymous: str = ""


@dataclass(frozen=True)
class Asked:
    """What a request says: `login` and `certificate` are proven, the others are its words."""

    login: str = ""
    certificate: str = ""
    header: str = ""
    path: str = ""
    host: str = ""
    address: Address | None = None


@dataclass(frozen=True)
class Identity:
    """Who asks, for which type (None: the whole index), and how that was told."""

    subject: str = ""
    machine_type: MachineType | None = None
    how: str = ""


def identify(asked: Asked, directory: Directory, rules: Rules) -> Identity | None:
    """Find the type by login, header, certificate, path, host name, network, or for nobody.

    None where a login is wanted. Raises AuthenticationError for a type that is not, or that this
    login may not have: a request never falls through to what it did not ask for. An account that
    names no type sees the whole index.
    """
    # A certificate stands for a machine: for an account its password is asked.
    shown = asked.certificate if asked.certificate in directory.logins else ""
    subject = asked.login or shown
    bound, account = _bound(subject, directory), actor_of(subject, directory)
    if bound is not None and (asked.login or not asked.header):
        return Identity(subject, bound, "login" if asked.login else "certificate")
    how, name = _named(asked, rules)
    if name:
        if account is None and not subject and not _is_open(name, rules):
            return None
        return Identity(subject, _permitted(name, how, account, directory, rules), how)
    if account is not None:
        return Identity(subject, None, "login" if asked.login else "certificate")
    how, name = _given(asked, rules)
    # The administrator's own word may be of a type that is gone: a login may still be right.
    found = directory.types.get(name)
    return Identity("", found, how) if found is not None else None


def login_name(written: str) -> str:
    """Bring `ACCOUNT/type#NAME` to the login `ACCOUNT-NAME`; other names stay."""
    found = _KIND.fullmatch(written)
    return f"{found[1]}-{found[2]}" if found else written


def account_of(subject: str, directory: Directory) -> Account | None:
    """Find the account that a login is of, unless it is disabled."""
    login = directory.logins.get(subject)
    account = directory.accounts.get(login.account if login else subject)
    return None if account is None or account.disabled else account


def actor_of(subject: str, directory: Directory) -> Account | None:
    """Find the account that acts itself: a machine's login has none of its account's rights."""
    return None if subject in directory.logins else account_of(subject, directory)


def _bound(subject: str, directory: Directory) -> MachineType | None:
    login = directory.logins.get(subject)
    if login is None or not login.machine_type or account_of(subject, directory) is None:
        return None
    return _type(login.machine_type, "login", directory)


def _named(asked: Asked, rules: Rules) -> tuple[str, str]:
    """Say how the request itself names a type, and which, if it does."""
    if asked.header:
        return "header", asked.header
    if asked.path:
        return "path", asked.path
    return "host", host_type(asked.host, rules.host)


def host_type(host: str, pattern: str) -> str:
    """Read `ACCOUNT/NAME` from a host name by the pattern; "" where it does not match."""
    if not pattern or not host:
        return ""
    parts = re.split(r"(\{account\}|\{type\})", pattern.lower())
    known = {"{account}": r"(?P<account>[a-z0-9_]+)", "{type}": r"(?P<type>[a-z0-9._-]+)"}
    form = "".join(known.get(part) or re.escape(part) for part in parts)
    found = re.fullmatch(form, host.lower())
    return f"{found['account']}/{found['type']}" if found else ""


def _permitted(
    name: str, how: str, account: Account | None, directory: Directory, rules: Rules
) -> MachineType:
    """Give a type by its name alone: to its own account, or where it needs no password."""
    owner = name.partition("/")[0]
    if not _is_open(name, rules) and (account is None or not may_see_types(account, owner)):
        raise AuthenticationError(
            f"machine type {quoted(name)} (by {how}) needs its login",
            "log in as ACCOUNT-TYPE, or let the administrator list it under open_types",
        )
    return _type(name, how, directory)


def _is_open(name: str, rules: Rules) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in rules.open_types)


def _given(asked: Asked, rules: Rules) -> tuple[str, str]:
    """Say which type the administrator gives to who says nothing."""
    for one in rules.networks:
        if asked.address is not None and asked.address in one.network:
            return "network", one.machine_type
    return "anonymous", rules.anonymous


def _type(name: str, how: str, directory: Directory) -> MachineType:
    found = directory.types.get(name)
    if found is None:
        raise AuthenticationError(
            f"there is no machine type {quoted(name)} (by {how})",
            "see the types with `hpcimg hub type list`",
        )
    return found
