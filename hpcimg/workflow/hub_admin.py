"""Managing a hub's accounts and machine types, for the command line and REST alike.

Every method takes who asks, `actor`; None is the command line on the machine, which may all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hpcimg.errors import AuthenticationError, NotFoundError, UsageError
from hpcimg.hub.account import (
    Account,
    may_manage_accounts,
    may_manage_types,
    may_see_types,
    may_set_password,
)
from hpcimg.hub.accounts_file import accounts_text, parse_accounts
from hpcimg.hub.machine_type import split_name
from hpcimg.hub.metahub import static_machines
from hpcimg.hub.password import hash_password, verify_password
from hpcimg.quoting import quoted
from hpcimg.workflow.hub_import import Importer, notes_on, put_login, refuse_name_of_login

if TYPE_CHECKING:
    from hpcimg.hub.database import Database
    from hpcimg.hub.directory import Directory
    from hpcimg.hub.machine_type import MachineType

_PROPOSALS = 100
_NODE_LIMIT = 255
TYPE_CHANGES = ("words", "answer", "policy", "description")
"""What may be changed of a machine type, besides its password."""
ACCOUNT_CHANGES = ("role", "disabled")
"""What may be changed of an account, besides its password."""


@dataclass(frozen=True)
class TypeView:
    """A machine type as it is shown: whether it has a login, and what is to be said of it."""

    machine_type: MachineType
    has_login: bool
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Give an object for programs."""
        kind = self.machine_type
        return {
            "name": kind.full_name,
            "account": kind.account,
            "features": list(kind.words),
            "answer": kind.answer,
            "policy": kind.policy,
            "description": kind.description,
            "login": kind.login_name if self.has_login else None,
            "notes": list(self.notes),
        }


class HubAdmin:
    """Changes over one database; each is a transaction, in which its conditions are seen.

    Its methods raise UsageError, NotFoundError, AuthenticationError, and the database's errors.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def proposals(self, *, actor: Account | None = None) -> list[dict[str, Any]]:
        """List what nodes propose for the accounts whose types the actor may see."""
        found = self._database.proposals()
        return [one for one in found if actor is None or may_see_types(actor, one["account"])]

    def propose(self, kind: MachineType, node: str) -> None:
        """Keep what a node proposes for an account that is there."""
        kind.check()
        _account(self._database.directory(), kind.account)
        said = {"features": list(kind.words), "node": node[:_NODE_LIMIT]}
        self._database.put_proposal(kind.account, kind.name, said, _PROPOSALS)

    def remove_proposal(self, account: str, name: str, *, actor: Account | None = None) -> None:
        """Remove a proposal."""
        _permit_types(actor, account)
        self._database.remove_proposal(account, name)

    def accounts(self, *, actor: Account | None = None) -> list[Account]:
        """List the accounts that the actor may see: all, or the own one."""
        found = self._database.directory().accounts.values()
        if actor is None or may_manage_accounts(actor):
            return list(found)
        return [one for one in found if one.name == actor.name]

    def types(self, account: str = "", *, actor: Account | None = None) -> list[TypeView]:
        """List the machine types that the actor may see, of one account or of all."""
        directory = self._database.directory()
        if account:
            _account(directory, account)
        return [
            _view(one, directory)
            for one in directory.types.values()
            if account in {"", one.account} and (actor is None or may_see_types(actor, one.account))
        ]

    def type(self, full_name: str, *, actor: Account | None = None) -> TypeView:
        """Find one machine type."""
        account, _ = split_name(full_name)
        _permit(actor is None or may_see_types(actor, account), f"see the types of {account}")
        directory = self._database.directory()
        return _view(_type(directory, full_name), directory)

    def add_type(
        self, machine_type: MachineType, password: str = "", *, actor: Account | None = None
    ) -> list[str]:
        """Add a machine type, with a login if there is a password; returns what is to be noted."""
        _permit_types(actor, machine_type.account)
        machine_type.check()
        hashed = hash_password(password) if password else ""
        name = machine_type.full_name
        with self._database.change() as change:
            directory = change.directory()
            _account(directory, machine_type.account)
            if name in directory.types:
                raise UsageError(
                    f"there is a machine type {name} already", "`hpcimg hub type change` changes it"
                )
            change.put_type(machine_type)
            if hashed:
                put_login(change, directory, machine_type, hashed)
        self._database.remove_proposal(machine_type.account, machine_type.name)
        return notes_on(machine_type)

    def change_type(
        self,
        full_name: str,
        changes: Mapping[str, Any],
        password: str = "",
        *,
        actor: Account | None = None,
    ) -> list[str]:
        """Change what TYPE_CHANGES names, and the login's password; returns what is to be noted."""
        account, _ = split_name(full_name)
        _permit_types(actor, account)
        _refuse_unknown(changes, TYPE_CHANGES)
        hashed = hash_password(password) if password else ""
        with self._database.change() as change:
            directory = change.directory()
            before = _type(directory, full_name)
            after = replace(before, **changes)
            if "words" in changes:
                after.check()
            if after != before:
                change.put_type(after)
            if hashed:
                put_login(change, directory, after, hashed)
        return notes_on(after)

    def remove_type(self, full_name: str, *, actor: Account | None = None) -> None:
        """Remove a machine type with its login."""
        account, _ = split_name(full_name)
        _permit_types(actor, account)
        with self._database.change() as change:
            _type(change.directory(), full_name)
            change.remove_type(full_name)

    def remove_login(self, full_name: str, *, actor: Account | None = None) -> None:
        """Remove the login of a machine type, which stays."""
        account, _ = split_name(full_name)
        _permit_types(actor, account)
        with self._database.change() as change:
            directory = change.directory()
            view = _view(_type(directory, full_name), directory)
            if not view.has_login:
                raise NotFoundError(f"machine type {full_name} has no login")
            change.remove_login(view.machine_type.login_name)

    def add_account(
        self, account: Account, password: str = "", *, actor: Account | None = None
    ) -> None:
        """Add an account; without a password nobody can log in as it."""
        _permit_accounts(actor)
        if password:
            account = replace(account, password_hash=hash_password(password))
        with self._database.change() as change:
            directory = change.directory()
            if account.name in directory.accounts:
                raise UsageError(
                    f"there is an account {account.name} already",
                    "`hpcimg hub account change` and `hpcimg hub account password` change it",
                )
            refuse_name_of_login(directory, account.name)
            change.put_account(account)

    def change_account(
        self, name: str, changes: Mapping[str, Any], *, actor: Account | None = None
    ) -> None:
        """Change what ACCOUNT_CHANGES names."""
        _permit_accounts(actor)
        _refuse_unknown(changes, ACCOUNT_CHANGES)
        with self._database.change() as change:
            directory = change.directory()
            before = _account(directory, name)
            after = replace(before, **changes)
            if not may_manage_accounts(after):
                _refuse_last(directory, name, actor)
            if after != before:
                change.put_account(after)

    def set_password(self, name: str, password: str, *, actor: Account | None = None) -> None:
        """Set the password of an account; one that is not an administrator sets its own."""
        allowed = actor is None or may_set_password(actor, name)
        _permit(allowed, f"set the password of {quoted(name)}")
        hashed = hash_password(password)
        with self._database.change() as change:
            found = _account(change.directory(), name)
            change.put_account(replace(found, password_hash=hashed))

    def remove_account(self, name: str, *, actor: Account | None = None) -> None:
        """Remove an account with its types and their logins."""
        _permit_accounts(actor)
        with self._database.change() as change:
            directory = change.directory()
            _account(directory, name)
            _refuse_last(directory, name, actor)
            change.remove_account(name)

    def import_file(
        self,
        raw: bytes,
        source: str,
        *,
        actor: Account | None = None,
        dry_run: bool = False,
        remove_others: bool = False,
    ) -> list[str]:
        """Add and change what a file lists, all of it or nothing; returns what changed, in lines.

        `remove_others` also removes the accounts and types that it does not list.
        """
        _permit_accounts(actor)
        listed = parse_accounts(raw, source)
        with _undone_if(dry_run), self._database.change() as change:
            lines = Importer(change).run(listed, remove_others=remove_others)
            if dry_run:
                raise _DryRunError
        return lines

    def export(self, *, actor: Account | None = None) -> str:
        """Write the file that `import_file` reads, with the hashes of passwords."""
        _permit_accounts(actor)
        return accounts_text(self._database.directory())

    def make_static_machines(self) -> list[str]:
        """Have the types of the announcement, with their known passwords."""
        with self._database.change() as change:
            return Importer(change).run(static_machines())

    def remove_static_logins(self) -> list[str]:
        """Remove the logins that still have a password which everybody knows; returns them."""
        logins = self._database.directory().logins
        known = [kind.machine_type.login_name for one in static_machines() for kind in one.types]
        found = [
            name
            for name in known
            if name in logins and verify_password(name, logins[name].password_hash)
        ]
        if found:
            with self._database.change() as change:
                for name in found:
                    change.remove_login(name)
        return found


class _DryRunError(Exception):
    """Undoes what was only to be told."""


@contextmanager
def _undone_if(dry_run: bool) -> Iterator[None]:  # noqa: FBT001 - it is its name
    try:
        yield
    except _DryRunError:
        if not dry_run:
            raise


def _view(kind: MachineType, directory: Directory) -> TypeView:
    login = directory.logins.get(kind.login_name)
    has_login = login is not None and login.machine_type == kind.full_name
    return TypeView(kind, has_login, tuple(notes_on(kind)))


def _account(directory: Directory, name: str) -> Account:
    found = directory.accounts.get(name)
    if found is None:
        raise NotFoundError(f"there is no account {quoted(name)}", "see `hpcimg hub account list`")
    return found


def _type(directory: Directory, full_name: str) -> MachineType:
    found = directory.types.get(full_name)
    if found is None:
        raise NotFoundError(
            f"there is no machine type {quoted(full_name)}", "see `hpcimg hub type list`"
        )
    return found


def _refuse_last(directory: Directory, name: str, actor: Account | None) -> None:
    """Keep an administrator, without whom only the command line could help."""
    left = (one for one in directory.accounts.values() if one.name != name)
    if actor is not None and not any(map(may_manage_accounts, left)):
        raise UsageError(
            f"account {quoted(name)} is the last administrator", "make another one before"
        )


def _permit(allowed: bool, what: str) -> None:  # noqa: FBT001 - it is its name
    if not allowed:
        raise AuthenticationError(f"this account may not {what}", "ask an administrator of the hub")


def _permit_accounts(actor: Account | None) -> None:
    _permit(actor is None or may_manage_accounts(actor), "manage accounts")


def _permit_types(actor: Account | None, account: str) -> None:
    allowed = actor is None or may_manage_types(actor, account)
    _permit(allowed, f"manage the types of {quoted(account)}")


def _refuse_unknown(changes: Mapping[str, Any], known: tuple[str, ...]) -> None:
    unknown = sorted(set(changes) - {*known})
    if unknown:
        raise UsageError(f"{quoted(unknown[0])} cannot be changed", f"known: {', '.join(known)}")
