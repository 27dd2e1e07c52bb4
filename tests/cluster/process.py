"""Starts processes that outlive this command, remembers them in files, and ends them for good."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fault import ClusterFault


@dataclass(frozen=True)
class Process:
    """A process named so that a later one with the same number is not mistaken for it."""

    pid: int
    start: str

    def is_alive(self) -> bool:
        """Whether it runs; one that only waits to be collected does not."""
        return _start_time(self.pid) == self.start

    def kill(self) -> None:
        """SIGKILL, then wait until it is gone."""
        if not self.is_alive():
            return
        os.kill(self.pid, signal.SIGKILL)
        for _ in range(1000):
            if not self.is_alive():
                return
            time.sleep(0.01)
        raise ClusterFault(f"process {self.pid} does not end")


def _start_time(pid: int) -> str:
    """Start time in clock ticks, empty for no process or a dead one."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def write(path: Path, pid: int) -> Process:
    """Remember a process in a file."""
    process = Process(pid, _start_time(pid))
    path.write_text(f"{process.pid} {process.start}\n")
    return process


def read(path: Path) -> Process | None:
    """The process that the file names, if it is still alive."""
    try:
        pid, start = path.read_text("utf-8").split()
    except (OSError, ValueError):
        return None
    process = Process(int(pid), start)
    return process if process.is_alive() else None


def detach(isolate: Callable[[], None], become: Callable[[], None], log: Path) -> int:
    """Fork twice and return the second child's host process id.

    The first child calls ``isolate`` (which may unshare namespaces, the process one too) and
    leaves; the second, in those namespaces and in nobody's session, calls ``become``, which execs.
    """
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        _run_middle(isolate, become, log, writer)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        pid = pipe.read()
    os.waitpid(middle, 0)
    if not pid:
        raise ClusterFault(f"a process of the cluster did not start; see {log}")
    return int(pid)


def _run_middle(
    isolate: Callable[[], None], become: Callable[[], None], log: Path, writer: int
) -> None:
    try:
        os.setsid()
        _redirect(log)
        isolate()
        pid = os.fork()
        if pid == 0:
            os.close(writer)
            become()
        os.write(writer, str(pid).encode())
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 - nothing of this child may return to the caller
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    os._exit(1)


def _redirect(log: Path) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    # A pipe that the caller's reader waits on must not live on in a daemon.
    for fd in {int(path.name) for path in Path("/proc/self/fd").iterdir()} - {0, 1, 2}:
        if _is_inherited(fd):
            os.set_inheritable(fd, False)


def _is_inherited(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False  # the descriptor that listed the folder
