"""A room on this machine for daemons and clients of images, which leave nothing behind in it.

It has a network, mounts, processes and control groups of its own (room.sh); the loopback is all of
its network. What runs in it ends with it, and it ends with the tests, however those end.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PATIENCE = 60.0
"""Seconds after which a daemon that does not answer is taken as broken."""


class Room:
    """One room, whose programs keep their files in ``folder``; use it as a context."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"hpcimg-hub-{os.getpid()}-{folder.name}"
        self._outer: subprocess.Popen[str] | None = None
        self._pid = 0
        self._groups: list[Path] = []

    def __enter__(self):
        self._outer = subprocess.Popen(
            ["sh", str(Path(__file__).with_name("room.sh")), self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        said = self._outer.stdout.readline().strip()
        if not said:
            self.__exit__()
            raise RuntimeError("the room could not be made; what it said is above")
        self._pid = int(said)
        self._groups = [mount / self.name for mount in _hierarchies()]
        return self

    def __exit__(self, *_: object) -> None:
        self._outer.stdin.close()
        self._outer.wait(PATIENCE)
        self._outer.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(
        self, *command: str | Path, check: bool = True, timeout: float = 120, entered: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the room; ``entered`` is its standard input."""
        done = subprocess.run(
            self._inside(command),
            env=self.environment(),
            input=entered,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        if check and done.returncode != 0:
            words = " ".join(map(str, command))
            raise AssertionError(f"{words!r}: code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def start(self, *command: str | Path, log: Path) -> Daemon:
        """Start a daemon in the room."""
        with log.open("a") as output:
            process = subprocess.Popen(
                self._inside(command),
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return Daemon(process, log)

    def is_answering(self, port: int) -> bool:
        """Tell whether somebody listens on a port of the room's loopback."""
        probe = f"exec 3<>/dev/tcp/127.0.0.1/{port}"
        return self.run("bash", "-c", probe, check=False).returncode == 0

    def environment(self) -> dict[str, str]:
        """Give programs Debian's own path and a home in the folder, and nothing of the user's."""
        paths = {"HOME": str(self.folder), "TMPDIR": str(self.folder)}
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **paths}

    def _inside(self, command: Sequence[str | Path]) -> list[str]:
        spaces = ["--net", "--mount", "--ipc", "--uts", "--pid", "--cgroup"]
        entry = ["nsenter", f"--target={self._pid}", *spaces, f"--wd={self.folder}", "--"]
        joining = "".join(f"echo $$ >{group}/cgroup.procs; " for group in self._groups)
        return ["sh", "-c", f'{joining}exec "$@"', "sh", *entry, *map(str, command)]


class Daemon:
    """A program that runs in the room until it is stopped."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Return when it is ready; fail with the end of its log if it ends before that."""
        deadline = time.monotonic() + PATIENCE
        while not is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                end = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
                raise AssertionError(f"{self._process.args}: not ready\n{end}")
            time.sleep(0.05)

    def stop(self) -> int:
        """Ask it to end, wait until it has and give its code; what does not end is killed."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self._children():
                os.kill(pid, number)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                continue
            break
        return self._process.returncode

    def _children(self) -> list[int]:
        """The program itself: nsenter waits for it, and passes on no signal."""
        pid = self._process.pid
        try:
            return [
                int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            ]
        except OSError:
            return []


def _hierarchies() -> list[Path]:
    """Where control groups are mounted on this machine, as room.sh finds them."""
    lines = Path("/proc/self/mountinfo").read_text("utf-8").splitlines()
    return [
        Path(line.split(" ")[4])
        for line in lines
        if line.partition(" - ")[2].split(" ")[0] in {"cgroup", "cgroup2"}
    ]
