"""The hub's own YAML file of accounts, their machine types and hashed passwords; MetaHub's also.

What is written here is read here, byte for byte the same again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpcimg.document import MistakeError, compose, construct, has_aliases
from hpcimg.errors import UsageError
from hpcimg.hub.account import ROLES, Account, Role
from hpcimg.hub.listing import HINT, ListedAccount, ListedType, ListingReader, Secret
from hpcimg.hub.machine_type import MachineType
from hpcimg.hub.metahub import MetaHubReader
from hpcimg.hub.password import is_hash
from hpcimg.sections import WrongSettingError

if TYPE_CHECKING:
    from hpcimg.hub.directory import Directory

_LIMIT = 16 << 20
_HEAD = "# Accounts and machine types of a hub; `hpcimg hub import` reads it.\n"
_NO_HASH = (
    '"password" must be a hash of scrypt or bcrypt',
    "`hpcimg hub account password` sets one, and `hpcimg hub export` writes its hash",
)


@dataclass(frozen=True)
class _File:
    accounts: tuple[Any, ...] = ()


@dataclass(frozen=True)
class _Account:
    name: str = ""
    role: str = "owner"
    disabled: bool = False
    password: str = field(default="", repr=False)
    types: tuple[Any, ...] = ()


@dataclass(frozen=True)
class _Type:
    name: str = ""
    features: tuple[str, ...] = ()
    answer: str = "manifest"
    policy: str = ""
    description: str = ""
    password: str = field(default="", repr=False)


def parse_accounts(raw: bytes, source: str) -> tuple[ListedAccount, ...]:
    """Read a file of ours or of MetaHub, which has a `user`; raises UsageError with its line."""
    if len(raw) > _LIMIT:
        raise UsageError(f"{source} is longer than {_LIMIT} bytes", HINT)
    try:
        root = compose(raw.decode(), source)
        if has_aliases(root):
            raise UsageError(f"{source} uses YAML's aliases", "write each value out")
        document = construct(root)
        if document is None:
            raise UsageError(f"{source} is empty", "list accounts, or at least `accounts: []`")
        if isinstance(document, dict) and "user" in document:
            return (MetaHubReader(root).account(document),)
        return _Reader(root).accounts(document)
    except UnicodeDecodeError as error:
        raise UsageError(f"{source} is not UTF-8 text", HINT) from error
    except MistakeError as error:
        raise UsageError(f"{source}:{error.line}: {error.what}", HINT) from error
    except WrongSettingError as error:
        raise UsageError(error.message, error.hint) from error


def accounts_text(directory: Directory) -> str:
    """Write all accounts with their types, in the order of their names."""
    import yaml

    accounts = [_account_row(one, directory) for _, one in sorted(directory.accounts.items())]
    rows = {"accounts": accounts}
    text = yaml.safe_dump(rows, sort_keys=False, allow_unicode=True, width=1 << 20)
    return _HEAD + text


class _Reader(ListingReader):
    def accounts(self, document: Any) -> tuple[ListedAccount, ...]:
        top = self.section(document, _File, ())
        listed = self.sequence(top.get("accounts"), ("accounts",))
        found = [self.account(one, ("accounts", at)) for at, one in enumerate(listed)]
        self.refuse_twins([one.name for one in found], ("accounts",), "account")
        return tuple(found)

    def account(self, value: Any, at: tuple[object, ...]) -> ListedAccount:
        row = self.section(value, _Account, at)
        name, role = row.get("name", ""), row.get("role")
        self.made((*at, "name"), Account, name, Role.OWNER)
        if role is not None and role not in ROLES:
            known = ", ".join(ROLES)
            raise self.error((*at, "role"), f'"role" is one of {known}, not {role!r}')
        types = self.sequence(row.get("types"), (*at, "types"))
        kinds = tuple(self.type(one, name, (*at, "types", n)) for n, one in enumerate(types))
        self.refuse_twins([k.machine_type.name for k in kinds], (*at, "types"), "type")
        return ListedAccount(
            name,
            None if role is None else Role(role),
            row.get("disabled", False),
            self.secret(row, at),
            kinds,
        )

    def type(self, value: Any, account: str, at: tuple[object, ...]) -> ListedType:
        row = self.section(value, _Type, at)
        words = self.words(row.get("features"), (*at, "features"))
        more = {key: row[key] for key in ("answer", "policy", "description") if key in row}
        name = row.get("name", "")
        kind = self.made(at, MachineType, account, name, words, **more)
        return ListedType(kind, self.secret(row, at))

    def secret(self, row: dict[str, Any], at: tuple[object, ...]) -> Secret:
        hashed = row.get("password", "")
        if hashed and not is_hash(hashed):
            raise self.error((*at, "password"), *_NO_HASH)
        return Secret(hashed)


def _account_row(account: Account, directory: Directory) -> dict[str, Any]:
    row: dict[str, Any] = {"name": account.name, "role": account.role.value}
    if account.disabled:
        row["disabled"] = True
    if account.password_hash:
        row["password"] = account.password_hash
    types = sorted(
        (one for one in directory.types.values() if one.account == account.name),
        key=lambda one: one.name,
    )
    if types:
        row["types"] = [dict(_type_row(one, directory)) for one in types]
    return row


def _type_row(kind: MachineType, directory: Directory) -> Iterator[tuple[str, Any]]:
    plain = MachineType(kind.account, kind.name)
    yield "name", kind.name
    yield "features", list(kind.words)
    for key in ("answer", "policy", "description"):
        if getattr(kind, key) != getattr(plain, key):
            yield key, getattr(kind, key)
    login = directory.logins.get(kind.login_name)
    if login is not None and login.machine_type == kind.full_name:
        yield "password", login.password_hash
