"""MetaHub's file, read as it is: one user with a password, and the features of machine types."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hpcimg.hub.account import Account, Role
from hpcimg.hub.listing import ListedAccount, ListedType, ListingReader, Secret
from hpcimg.hub.machine_type import MachineType
from hpcimg.hub.password import is_bcrypt

_STATIC = (
    ("type1", ("cpu:broadwell",)),
    ("type2", ("cpu:skylake",)),
    ("type3", ("cpu:coffelake",)),  # as MetaHub writes it
    ("type4", ("cpu:broadwell", "nvcap:5.2")),
)


@dataclass(frozen=True)
class _File:
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    types: tuple[Any, ...] = ()


@dataclass(frozen=True)
class _Type:
    name: str | None = None
    features: tuple[str, ...] = ()


class MetaHubReader(ListingReader):
    """Reads the parsed file; keys that MetaHub does not know are refused."""

    def account(self, document: Any) -> ListedAccount:
        """Read the user, who logs in machines as USER-TYPE with the one password for all."""
        top = self.section(self._as_texts(document, (), ("user", "password")), _File, ())
        name = top.get("user") or ""
        self.made(("user",), Account, name, Role.OWNER)
        password = top.get("password") or ""
        is_hashed = is_bcrypt(password)
        secret = Secret(password) if is_hashed else Secret(plain=password)
        listed = self.sequence(top.get("types"), ("types",))
        kinds = [self._type(one, name, ("types", at)) for at, one in enumerate(listed)]
        self.refuse_twins([kind.name for kind in kinds], ("types",), "type")
        types = tuple(ListedType(kind, secret) for kind in kinds)
        return ListedAccount(name, secret=secret, types=types)

    def _type(self, value: Any, account: str, at: tuple[object, ...]) -> MachineType:
        row = self.section(self._as_texts(value, at, ("name",)), _Type, at)
        features = self.sequence(row.get("features"), (*at, "features"))
        words = (self._text(one, (*at, "features", n)) for n, one in enumerate(features))
        return self.made((*at, "name"), MachineType, account, row.get("name") or "", tuple(words))

    def _as_texts(
        self, value: Any, at: tuple[object, ...], keys: tuple[str, ...]
    ) -> dict[Any, Any]:
        """Take plain values as they are written: a password of digits is one."""
        found = dict(self.mapping(value, at))
        for key in keys:
            if found.get(key) is not None:
                found[key] = self._text(found[key], (*at, key))
        return found

    def _text(self, value: Any, at: tuple[object, ...]) -> str:
        if isinstance(value, str):
            return value
        if value is None or isinstance(value, dict | list):
            raise self.error(at, f'"{at[-1]}" must be a text')
        return self.written(value, at)


def static_machines() -> tuple[ListedAccount, ...]:
    """List the types of the announcement; each one's password is its login."""
    kinds = [MachineType("qnib", name, words) for name, words in _STATIC]
    types = tuple(ListedType(kind, Secret(plain=kind.login_name)) for kind in kinds)
    return (ListedAccount("qnib", types=types),)
