"""Reads how Apptainer is installed on this machine, and tries what it needs of the kernel.

It must not know what that means for a site.
"""

from __future__ import annotations

import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from hpcimg.errors import RuntimeFailure
from hpcimg.process import run
from hpcimg.runtime.packer import SEARCH_PATH

_SECONDS = 20.0
_PROGRAMS = {
    "squashfuse": ("squashfuse_ll", "squashfuse"),
    "mksquashfs": ("mksquashfs",),
    "fuse-overlayfs": ("fuse-overlayfs",),
}


@dataclass(frozen=True)
class Installation:
    """Where Apptainer has its own programs and its configuration, whose text is `text`."""

    programs: Path | None = None
    conf: str = ""
    text: str = ""
    is_setuid: bool = False


def read_installation(apptainer: str) -> Installation:
    """Ask Apptainer how it was built; raises RuntimeFailure where it does not say."""
    said = run([apptainer, "buildcfg"], timeout=_SECONDS).stdout.decode(errors="replace")
    built = dict(line.partition("=")[::2] for line in said.splitlines())
    folder = Path(built.get("LIBEXECDIR") or "/usr/libexec") / "apptainer/bin"
    conf = Path(built.get("APPTAINER_CONF_FILE") or "/etc/apptainer/apptainer.conf")
    try:
        text = conf.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return Installation(folder, str(conf), text, _is_setuid(folder / "starter-suid"))


def find_programs(installation: Installation, extra: str = "") -> dict[str, str]:
    """Find the programs that Apptainer and the conversion start; an empty path: not there.

    `extra` is the search path that Apptainer's configuration has, if any.
    """
    places = [str(installation.programs)] if installation.programs else []
    path = ":".join([*places, extra or SEARCH_PATH, SEARCH_PATH])
    return {
        name: next(filter(None, (shutil.which(one, path=path) for one in spellings)), "")
        for name, spellings in _PROGRAMS.items()
    }


def refusal_of_namespaces(account: str | None) -> str:
    """Make a user namespace as `account`, or as this user; empty where the kernel lets it."""
    program = shutil.which("unshare", path=SEARCH_PATH)
    if program is None:
        return ""
    argv = [program, "--user", "--map-root-user", "--mount", "true"]
    try:
        done = run(argv, cwd="/", timeout=_SECONDS, check=False, account=account)
    except RuntimeFailure as error:
        return error.message
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return "" if done.returncode == 0 else (said[-1] if said else f"code {done.returncode}")


def device_mode(path: Path) -> tuple[int | None, bool]:
    """Give a device's mode, None where it is not there, and whether it is a device at all."""
    try:
        found = path.stat()
    except OSError:
        return None, False
    return stat.S_IMODE(found.st_mode), stat.S_ISCHR(found.st_mode)


def _is_setuid(path: Path) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    return found.st_uid == 0 and bool(found.st_mode & stat.S_ISUID)
