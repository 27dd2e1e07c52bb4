"""Runs commands inside a tree under construction, in mount namespaces that leave nothing behind."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import kernel
from fault import ClusterFault

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CLEAN = {
    "PATH": _PATH,
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}


@dataclass(frozen=True)
class Workshop:
    """A tree under construction: ``lowers`` (top first) stay as they are, ``upper`` changes.

    Without lowers, ``upper`` is the whole tree. Everything is run by root, in the host's network.
    """

    upper: Path
    lowers: tuple[Path, ...]
    log: Path

    def run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        shows: Mapping[Path, str] | None = None,
    ) -> None:
        """Run a command chrooted into the tree; ``shows`` binds host paths at tree paths."""
        self._supervise(lambda: self._enter(shows or {}), command, environment or {})

    def run_on_host(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run a command of the host that works on ``upper`` from outside."""
        self._supervise(
            lambda: None, command, {"PATH": os.environ.get("PATH", _PATH), **environment}
        )

    def _supervise(
        self, prepare: Callable[[], None], command: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        with self.log.open("ab") as log:
            log.write(f"$ {' '.join(command)}\n".encode())
            log.flush()
            child = subprocess.Popen(
                list(command),
                env={**_CLEAN, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=prepare,  # noqa: PLW1509 - one thread; its namespaces are its own
            )
            try:
                code = child.wait()
            except BaseException:
                child.kill()
                child.wait()
                raise
        if code != 0:
            raise ClusterFault(
                f"{' '.join(command)[:120]!r} failed with code {code}; the end of {self.log}:\n"
                + last_lines(self.log)
            )

    def _enter(self, shows: Mapping[Path, str]) -> None:
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.keep_mounts_private()
        root = self.upper
        if self.lowers:
            root = self.upper.with_name(self.upper.name + ".root")
            work = self.upper.with_name(self.upper.name + ".work")
            stack(root, self.lowers, self.upper, work)
        for path, place in shows.items():
            target = root / place.lstrip("/")
            if path.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            elif not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch()
            kernel.bind(path, target)
        kernel.mount("proc", root / "proc", "proc")
        kernel.bind("/dev", root / "dev")
        os.chroot(root)
        os.chdir("/")


def stack(root: Path, lowers: Sequence[Path], upper: Path, work: Path) -> None:
    """Mount an overlay at ``root``; names are relative so that no character needs quoting."""
    for folder in (root, upper, work):
        folder.mkdir(parents=True, exist_ok=True)
    top = os.path.commonpath([*lowers, upper, work])
    names = [os.path.relpath(path, top) for path in lowers]
    back = Path.cwd()
    os.chdir(top)
    options = f"lowerdir={':'.join(names)},upperdir={os.path.relpath(upper, top)}"
    kernel.mount("overlay", root, "overlay", 0, f"{options},workdir={os.path.relpath(work, top)}")
    os.chdir(back)


def last_lines(path: Path, count: int = 15) -> str:
    """The end of a log, for the person who must find out why."""
    return "\n".join(path.read_text("utf-8", "replace").splitlines()[-count:])


def scrap(upper: Path) -> None:
    """Remove an unfinished tree and its side folders."""
    for path in (
        upper,
        upper.with_name(upper.name + ".root"),
        upper.with_name(upper.name + ".work"),
    ):
        if path.exists():
            shutil.rmtree(path)
