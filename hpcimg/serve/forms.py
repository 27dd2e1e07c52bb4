"""What the page's forms do, by their path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from hpcimg.errors import NotFoundError, UsageError
from hpcimg.hub.account import Account, Role
from hpcimg.hub.machine_type import MachineType, split_name

if TYPE_CHECKING:
    from hpcimg.workflow.hub_admin import HubAdmin

Words = Mapping[str, str]


def do_form(admin: HubAdmin, path: str, actor: Account, words: Words) -> None:
    """Do what a form asks for; raises the errors of HubAdmin."""
    do = FORMS.get(path)
    if do is None:
        raise NotFoundError(f"there is no form {path}")
    do(admin, actor, words)


def _add_type(admin: HubAdmin, actor: Account, words: Words) -> None:
    account, name = split_name(words.get("name", ""))
    kind = MachineType(account, name, tuple(words.get("words", "").replace(",", " ").split()))
    admin.add_type(kind, words.get("password", ""), actor=actor)


def _remove_type(admin: HubAdmin, actor: Account, words: Words) -> None:
    admin.remove_type(words.get("name", ""), actor=actor)


def _forget(admin: HubAdmin, actor: Account, words: Words) -> None:
    admin.remove_proposal(*split_name(words.get("name", "")), actor=actor)


def _add_account(admin: HubAdmin, actor: Account, words: Words) -> None:
    role = words.get("role", "")
    if role not in {one.value for one in Role}:
        raise UsageError(f"{role!r} is no role")
    admin.add_account(
        Account(words.get("name", ""), Role(role)), words.get("password", ""), actor=actor
    )


def _disable(admin: HubAdmin, actor: Account, words: Words) -> None:
    admin.change_account(words.get("name", ""), {"disabled": True}, actor=actor)


def _enable(admin: HubAdmin, actor: Account, words: Words) -> None:
    admin.change_account(words.get("name", ""), {"disabled": False}, actor=actor)


FORMS: Mapping[str, Callable[[HubAdmin, Account, Words], None]] = {
    "/types/add": _add_type,
    "/types/remove": _remove_type,
    "/types/forget": _forget,
    "/accounts/add": _add_account,
    "/accounts/disable": _disable,
    "/accounts/enable": _enable,
}
