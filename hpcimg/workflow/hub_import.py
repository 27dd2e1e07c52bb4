"""Bringing a hub's accounts and machine types to what a file lists, and saying what changed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hpcimg.errors import UsageError
from hpcimg.hub.account import Account, Login, Role
from hpcimg.hub.directory import Directory
from hpcimg.hub.password import hash_password, verify_password
from hpcimg.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hpcimg.hub.change import Change
    from hpcimg.hub.listing import ListedAccount, ListedType, Secret
    from hpcimg.hub.machine_type import MachineType


def notes_on(machine_type: MachineType) -> list[str]:
    """Say which words of a type match nothing, or only an image that writes just the same."""
    never = machine_type.useless_words()
    notes = [f"{quoted(word)} never matches: no machine can offer it" for word in never]
    unknown = machine_type.unknown_words()
    return [*notes, *(f"{quoted(word)} is unknown: it matches only itself" for word in unknown)]


def put_login(
    change: Change, directory: Directory, machine_type: MachineType, hashed: str
) -> Login:
    """Give a type its login, unless it would be taken for that of another."""
    name = machine_type.login_name
    found = directory.logins.get(name)
    is_taken = found is not None and found.machine_type != machine_type.full_name
    if name in directory.accounts or is_taken:
        other = f"machine type {found.machine_type}" if found else f"account {name}"
        raise UsageError(
            f"machine type {machine_type.full_name} cannot have the login {name}: {other} has it",
            "give it another name",
        )
    login = Login(name, hashed, machine_type.account, machine_type.full_name)
    change.put_login(login)
    return login


def refuse_name_of_login(directory: Directory, name: str) -> None:
    """Raise UsageError for an account that would be taken for a machine type's login."""
    found = directory.logins.get(name)
    if found is not None:
        raise UsageError(
            f"account {name} would have the login of machine type {found.machine_type}",
            "give it another name",
        )


class Importer:
    """Brings what is there to what is listed, within one change of the database."""

    def __init__(self, change: Change) -> None:
        found = change.directory()
        self._change = change
        self._accounts = dict(found.accounts)
        self._types = dict(found.types)
        self._logins = dict(found.logins)
        # The same things, for who only looks.
        self._now = Directory(found.generation, self._accounts, self._logins, self._types)
        self._lines: list[str] = []
        self._hashes: dict[str, str] = {}
        self._verified: dict[tuple[str, str], bool] = {}

    def run(self, listed: Iterable[ListedAccount], *, remove_others: bool = False) -> list[str]:
        """Do it; returns a line for each thing that changed."""
        accounts = tuple(listed)
        if remove_others:
            self._remove_others(accounts)
        for one in accounts:
            self._account(one)
            for each in one.types:
                self._type(each)
        return self._lines

    def _remove_others(self, accounts: tuple[ListedAccount, ...]) -> None:
        names = {one.name for one in accounts}
        kinds = {kind.machine_type.full_name for one in accounts for kind in one.types}
        for name in sorted({*self._accounts} - names):
            self._change.remove_account(name)
            theirs = [one for one, kind in self._types.items() if kind.account == name]
            del self._accounts[name]
            self._say(f"account {name}", "removed")
            self._forget(theirs)
        for name in sorted({*self._types} - kinds):
            self._change.remove_type(name)
            self._forget([name])

    def _forget(self, kinds: list[str]) -> None:
        for name in kinds:
            kind = self._types.pop(name)
            login = self._logins.get(kind.login_name)
            if login is not None and login.machine_type == name:
                del self._logins[kind.login_name]
            self._say(f"machine type {name}", "removed")

    def _account(self, listed: ListedAccount) -> None:
        before = self._accounts.get(listed.name)
        if before is None:
            refuse_name_of_login(self._now, listed.name)
        start = before or Account(listed.name, Role.OWNER)
        after = Account(
            listed.name,
            listed.role or start.role,
            self._hash(listed.secret, start.password_hash),
            start.disabled if listed.disabled is None else listed.disabled,
        )
        if after == before:
            return
        self._change.put_account(after)
        self._accounts[after.name] = after
        what = f"account {listed.name}"
        if before is None:
            self._say(what, f"added as {after.role.value}")
            before = replace(after, disabled=False)
        if after.role is not before.role:
            self._say(what, f"role {after.role.value}, was {before.role.value}")
        if after.disabled is not before.disabled:
            self._say(what, "disabled" if after.disabled else "enabled")
        if after.password_hash != before.password_hash:
            self._say(what, "password changed")

    def _type(self, listed: ListedType) -> None:
        after = listed.machine_type
        before = self._types.get(after.full_name)
        what = f"machine type {after.full_name}"
        if after != before:
            self._change.put_type(after)
            self._types[after.full_name] = after
            if before is None:
                self._say(what, f"added: {_shown(after.words)}")
            else:
                self._tell_changes(what, before, after)
            for note in notes_on(after):
                self._say(what, note)
        self._login(listed)

    def _tell_changes(self, what: str, before: MachineType, after: MachineType) -> None:
        if after.words != before.words:
            self._say(what, f"features {_shown(after.words)}, were {_shown(before.words)}")
        for name in ("answer", "policy", "description"):
            new, old = getattr(after, name), getattr(before, name)
            if new != old:
                self._say(what, f"{name} {new or 'none'}, was {old or 'none'}")

    def _login(self, listed: ListedType) -> None:
        kind = listed.machine_type
        found = self._logins.get(kind.login_name)
        is_own = found is not None and found.machine_type == kind.full_name
        before = found.password_hash if found is not None and is_own else ""
        after = self._hash(listed.secret, before)
        if after != before:
            login = put_login(self._change, self._now, kind, after)
            self._logins[login.name] = login
            self._say(f"login {login.name}", "password changed" if is_own else "added")

    def _hash(self, secret: Secret, before: str) -> str:
        """Give the hash that a secret asks for; the present one, where that is of its password."""
        if not secret.plain:
            return secret.hashed or before
        if before and self._is_of(secret.plain, before):
            return before
        if secret.plain not in self._hashes:
            self._hashes[secret.plain] = hash_password(secret.plain)
        return self._hashes[secret.plain]

    def _is_of(self, plain: str, hashed: str) -> bool:
        """Compare them, once: a file may have one password for a thousand types."""
        if (plain, hashed) not in self._verified:
            self._verified[plain, hashed] = verify_password(plain, hashed)
        return self._verified[plain, hashed]

    def _say(self, what: str, happened: str) -> None:
        self._lines.append(f"{what}: {happened}")


def _shown(words: tuple[str, ...]) -> str:
    return ", ".join(words) or "nothing"
