"""What a file lists for the hub, accounts with their machine types, and how such a file is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hpcimg.errors import UsageError
from hpcimg.hub.account import Role
from hpcimg.hub.machine_type import MachineType
from hpcimg.sections import SectionReader, WrongSettingError

Made = TypeVar("Made")

HINT = "correct the file"


@dataclass(frozen=True)
class Secret:
    """A password as a file has it: its hash, or plain; neither where the file says nothing."""

    hashed: str = field(default="", repr=False)
    plain: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.hashed or self.plain)


@dataclass(frozen=True)
class ListedType:
    """A machine type with the password of its login."""

    machine_type: MachineType
    secret: Secret = Secret()


@dataclass(frozen=True)
class ListedAccount:
    """An account; what is None, or no secret, stays as it is."""

    name: str
    role: Role | None = None
    disabled: bool | None = None
    secret: Secret = Secret()
    types: tuple[ListedType, ...] = ()


class ListingReader(SectionReader):
    """Reads such files; what a type or an account refuses is told with its line."""

    def error(self, at: tuple[object, ...], message: str, hint: str = HINT) -> WrongSettingError:
        """Make the error for what stands at `at`, with its file and line."""
        return super().error(at, message, hint)

    def made(
        self, at: tuple[object, ...], make: Callable[..., Made], *words: Any, **named: Any
    ) -> Made:
        """Make a thing of what stands at `at`."""
        try:
            return make(*words, **named)
        except UsageError as error:
            raise self.error(at, error.message, error.hint or HINT) from error

    def refuse_twins(self, names: list[str], at: tuple[object, ...], what: str) -> None:
        """Raise an error for the second thing of a name."""
        for number, name in enumerate(names):
            if name in names[:number]:
                raise self.error((*at, number, "name"), f"{what} {name} stands twice")
