"""Changes of accounts, logins and types within one transaction, and reading them all at once.

It must not know how a transaction begins or ends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sqlalchemy import Table, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from hpcimg.hub.account import Account, Login, Role
from hpcimg.hub.directory import Directory
from hpcimg.hub.machine_type import MachineType
from hpcimg.hub.tables import ACCOUNTS, LOGINS, STATE, TYPES

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Change:
    """Changes within one transaction, and what there is before and after each."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.is_changed = False

    def directory(self) -> Directory:
        """Read what is there now."""
        return directory_of(self._connection)

    def put_account(self, account: Account) -> None:
        """Add or change an account."""
        row = {
            "name": account.name,
            "role": account.role.value,
            "password_hash": account.password_hash,
            "disabled": account.disabled,
        }
        self._put(ACCOUNTS, row)

    def remove_account(self, name: str) -> None:
        """Remove an account with its types and logins."""
        self._remove(ACCOUNTS, name)

    def put_type(self, machine_type: MachineType) -> None:
        """Add or change a machine type of an account that is there."""
        row = {
            "full_name": machine_type.full_name,
            "account": machine_type.account,
            "name": machine_type.name,
            "words": json.dumps(machine_type.words),
            "answer": machine_type.answer,
            "policy": machine_type.policy,
            "description": machine_type.description,
        }
        self._put(TYPES, row)

    def remove_type(self, full_name: str) -> None:
        """Remove a machine type with its login."""
        self._remove(TYPES, full_name)

    def put_login(self, login: Login) -> None:
        """Add or change a login."""
        row = {
            "name": login.name,
            "password_hash": login.password_hash,
            "account": login.account,
            "machine_type": login.machine_type or None,
        }
        self._put(LOGINS, row)

    def remove_login(self, name: str) -> None:
        """Remove a login."""
        self._remove(LOGINS, name)

    def _put(self, table: Table, row: Mapping[str, object]) -> None:
        put_row(self._connection, table, row)
        self.is_changed = True

    def _remove(self, table: Table, name: str) -> None:
        key = next(iter(table.primary_key))
        removed = self._connection.execute(delete(table).where(key == name)).rowcount
        self.is_changed = self.is_changed or removed > 0


def directory_of(connection: Connection) -> Directory:
    """Read all accounts, logins and types."""
    generation = connection.execute(select(STATE.c.generation)).scalar_one()
    accounts = {
        row.name: Account(row.name, Role(row.role), row.password_hash, row.disabled)
        for row in connection.execute(select(ACCOUNTS).order_by(ACCOUNTS.c.name))
    }
    types = {row.full_name: _type(row) for row in connection.execute(select(TYPES))}
    logins = {
        row.name: Login(row.name, row.password_hash, row.account, row.machine_type or "")
        for row in connection.execute(select(LOGINS).order_by(LOGINS.c.name))
    }
    in_order = {name: types[name] for name in sorted(types)}
    return Directory(
        int(generation),
        MappingProxyType(accounts),
        MappingProxyType(logins),
        MappingProxyType(in_order),
    )


def _type(row: Any) -> MachineType:
    return MachineType(
        row.account,
        row.name,
        tuple(json.loads(row.words)),
        row.answer,
        row.policy,
        row.description,
    )


def put_row(connection: Connection, table: Table, row: Mapping[str, object]) -> None:
    """Insert a row, or change the one of the same key."""
    keys = [column.name for column in table.primary_key]
    insert = inserting(connection)(table).values(dict(row))
    changed = {name: insert.excluded[name] for name in row if name not in keys}
    connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=changed))


def inserting(connection: Connection) -> Any:
    """Give the dialect's own INSERT, which alone knows what to do on a conflict."""
    is_sqlite = connection.dialect.name == "sqlite"
    return sqlite.insert if is_sqlite else postgresql.insert
