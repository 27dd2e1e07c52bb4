"""Accounts, their roles and what each may do, and the logins of machine types."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from hpcimg.hub.machine_type import check_name


class Role(str, Enum):
    """What an account may do: all, manage its own machine types, or pull."""

    ADMIN = "admin"
    OWNER = "owner"
    PULLER = "puller"


ROLES = tuple(role.value for role in Role)
"""Their words."""


@dataclass(frozen=True)
class Account:
    """Who may log in to the hub and have machine types; without a hash nobody can log in as it."""

    name: str
    role: Role
    password_hash: str = field(default="", repr=False)
    disabled: bool = False

    def __post_init__(self) -> None:
        check_name(self.name, "account")


@dataclass(frozen=True)
class Login:
    """A name and a password that machines use; `machine_type` is the type's full name."""

    name: str
    password_hash: str = field(repr=False)
    account: str
    machine_type: str = ""


def may_manage_accounts(actor: Account) -> bool:
    """Tell whether an account may add, change and remove accounts."""
    return actor.role is Role.ADMIN and not actor.disabled


def may_manage_types(actor: Account, account: str) -> bool:
    """Tell whether an account may add, change and remove the machine types of `account`."""
    is_own = actor.role is Role.OWNER and actor.name == account
    return not actor.disabled and (actor.role is Role.ADMIN or is_own)


def may_see_types(actor: Account, account: str) -> bool:
    """Tell whether an account may see the machine types of `account`."""
    return not actor.disabled and (actor.role is Role.ADMIN or actor.name == account)


def may_set_password(actor: Account, account: str) -> bool:
    """Tell whether an account may set the password of `account`."""
    return not actor.disabled and (actor.role is Role.ADMIN or actor.name == account)
