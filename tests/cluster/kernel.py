"""Thin typed doors to the Linux calls that Python 3.10 lacks: namespaces, mounts, root."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_RDONLY = 0x1
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 0x2

_SYS_PIVOT_ROOT = 155  # amd64; libc has no wrapper
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)} ({what})")


def unshare(flags: int) -> None:
    """Leave the namespaces named by ``flags`` for new ones."""
    _check(_libc.unshare(flags), f"unshare {flags:#x}")


def can_mount_images() -> bool:
    """Tell whether this machine's kernel has squashfs and loop devices."""
    known = Path("/proc/filesystems").read_text("ascii").split()
    return "squashfs" in known and Path("/dev/loop-control").exists()


def setns(path: Path) -> None:
    """Enter the namespace that a /proc/PID/ns file names."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(fd, 0), f"setns {path}")
    finally:
        os.close(fd)


def mount(
    source: str, target: str | Path, fstype: str = "", flags: int = 0, options: str = ""
) -> None:
    """Mount; empty strings stand for no file system type and no options."""
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        fstype.encode() or None,
        ctypes.c_ulong(flags),
        os.fsencode(options) or None,
    )
    _check(result, f"mount {fstype or 'bind'} {source} on {target}")


def bind(source: str | Path, target: str | Path) -> None:
    """Show one file or folder at a second place, with all that is mounted below it."""
    mount(os.fspath(source), target, flags=MS_BIND | MS_REC)


def keep_mounts_private() -> None:
    """Let no mount of this namespace travel to the one it came from."""
    mount("none", "/", flags=MS_REC | MS_PRIVATE)


def pivot_to(root: str | Path) -> None:
    """Make a mounted folder the root of this mount namespace and forget the old one."""
    os.chdir(root)
    _check(_libc.syscall(_SYS_PIVOT_ROOT, b".", b"."), f"pivot_root {root}")
    _check(_libc.umount2(b".", MNT_DETACH), "umount of the old root")
    os.chdir("/")


def die_with_parent(signal_number: int) -> None:
    """Ask the kernel to send this process a signal when its parent ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl")
