"""Who builds an entry: one process, named so that others can tell whether it still lives.

Knows /proc; nothing of locks, entries or images.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PROC = Path("/proc")
_TOKEN = re.compile(
    r"(?P<host>.+)\.(?P<boot_id>[0-9a-f-]+)\.(?P<pid_namespace>\d+)\.(?P<pid>\d+)"
    r"\.(?P<start_time>\d+)\.[0-9a-f]+"
)
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True)
class Owner:
    """A process on a node; a pid alone would be taken over by the next process of that number.

    `start_time` is in clock ticks since boot, `since` in seconds since 1970, for people only.
    """

    host: str
    boot_id: str
    pid_namespace: int
    pid: int
    start_time: int
    job: str = ""
    since: float = 0.0

    def __str__(self) -> str:
        job = f", job {self.job}" if self.job else ""
        return f"{self.host} (pid {self.pid}{job})"

    def token(self, random: str) -> str:
        """Name a file of this process alone, on every node; `random` is hexadecimal."""
        host = _UNSAFE.sub("_", self.host)
        return f"{host}.{self.boot_id}.{self.pid_namespace}.{self.pid}.{self.start_time}.{random}"

    def is_gone(self, here: Owner, proc: Path = PROC) -> bool:
        """Tell whether this process surely ended, as `here` sees it; False where it cannot know."""
        return self._is_there(here, proc) is False

    def is_alive(self, here: Owner, proc: Path = PROC) -> bool:
        """Tell whether this process surely lives, as `here` sees it; False where it cannot know."""
        return self._is_there(here, proc) is True

    def _is_there(self, here: Owner, proc: Path) -> bool | None:
        """Look for the process: another host's, or pid namespace's, cannot be seen from here."""
        if _UNSAFE.sub("_", self.host) != _UNSAFE.sub("_", here.host):
            return None
        if self.boot_id != here.boot_id:
            return False
        if self.pid_namespace != here.pid_namespace:
            return None
        try:
            return _start_time(proc / str(self.pid)) == self.start_time
        except OSError:
            return None

    def to_fields(self) -> dict[str, Any]:
        """Give the fields as a JSON object."""
        return asdict(self)


def current_owner(job: str = "", proc: Path = PROC) -> Owner:
    """Describe this very process."""
    return Owner(
        host=os.uname().nodename,
        boot_id=(proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
        pid_namespace=(proc / "self/ns/pid").stat().st_ino,
        pid=os.getpid(),
        start_time=_start_time(proc / "self") or 0,
        job=job,
        since=time.time(),
    )


def owner_of_token(token: str) -> Owner | None:
    """Read an owner back from `token()`; None for a name that it did not make."""
    found = _TOKEN.fullmatch(token)
    if found is None:
        return None
    return Owner(
        host=found["host"],
        boot_id=found["boot_id"],
        pid_namespace=int(found["pid_namespace"]),
        pid=int(found["pid"]),
        start_time=int(found["start_time"]),
    )


def owner_of_fields(fields: Mapping[str, Any]) -> Owner | None:
    """Read an owner back from `to_fields()`; None when a field is missing or of a wrong kind."""
    try:
        return Owner(
            host=str(fields["host"]),
            boot_id=str(fields["boot_id"]),
            pid_namespace=int(fields["pid_namespace"]),
            pid=int(fields["pid"]),
            start_time=int(fields["start_time"]),
            job=str(fields["job"]),
            since=float(fields["since"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _start_time(process: Path) -> int | None:
    """Read field 22 of /proc/PID/stat; None when there is no such process, or only its zombie."""
    try:
        stat = (process / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name, which may hold spaces and brackets.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
