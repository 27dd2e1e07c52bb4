"""Runs a command on a node as one of its users, with a clean login environment."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import cgroups
import kernel
from fault import ClusterFault

_PATH = "/usr/local/bin:/usr/bin:/bin"
_ROOT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = ("TERM", "COLUMNS", "LINES", "NO_COLOR")


@dataclass(frozen=True)
class Account:
    """A user as the node's /etc/passwd and /etc/group know them."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str


def run(mark: str, node: str, init: int, user: str, command: Sequence[str]) -> int:
    """Enter the namespaces of process ``init`` and run the command; its exit code."""
    spaces = [
        Path(f"/proc/{init}/ns/{name}") for name in ("cgroup", "ipc", "uts", "net", "pid", "mnt")
    ]
    cgroups.join(mark, node)
    for space in spaces:
        kernel.setns(space)
    account = find_account(user)
    pid = os.fork()
    if pid == 0:
        _become(account, command)
    return _wait(pid)


def find_account(user: str) -> Account:
    """Read the account from the files of the root that this process now has."""
    rows = [line.split(":") for line in Path("/etc/passwd").read_text("utf-8").splitlines()]
    for row in rows:
        if row[0] == user:
            groups = [
                line.split(":") for line in Path("/etc/group").read_text("utf-8").splitlines()
            ]
            member = tuple(int(g[2]) for g in groups if user in g[3].split(","))
            return Account(user, int(row[2]), int(row[3]), (int(row[3]), *member), row[5], row[6])
    raise ClusterFault(f"the cluster has no user {user!r}")


def _become(account: Account, command: Sequence[str]) -> None:
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment |= {
        "HOME": account.home,
        "LANG": "C.UTF-8",
        "LOGNAME": account.name,
        "PATH": _ROOT_PATH if account.uid == 0 else _PATH,
        "SHELL": account.shell,
        "USER": account.name,
    }
    try:
        os.umask(0o022)
        os.setgroups(account.groups)
        os.setgid(account.gid)
        os.setuid(account.uid)
        os.chdir(account.home)
        # When the command outside is ended, so is the one inside, as by a lost connection.
        kernel.die_with_parent(signal.SIGHUP)
        os.execvpe(command[0], list(command), environment)
    except OSError as error:
        os.write(2, f"cluster: {command[0]}: {error.strerror}\n".encode())
    os._exit(127)


def _wait(pid: int) -> int:
    """Pass signals on, let the terminal's own ones reach the child directly, report its end."""

    def forward(number: int, _frame: FrameType | None) -> None:
        os.kill(pid, number)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, forward)
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
