"""Everything about who and what a hub knows, in memory: accounts, logins and machine types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpcimg.hub.account import Account, Login
from hpcimg.hub.machine_type import MachineType


@dataclass(frozen=True)
class Directory:
    """What the database said at once; `generation` is another after each change."""

    generation: int
    accounts: Mapping[str, Account]
    logins: Mapping[str, Login]
    types: Mapping[str, MachineType]
