"""The probe for the host's software and cores: kernel, C library, distribution, SMT.

What the GPU libraries that are bound into containers need of a C library is `injected`'s matter.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.features import distribution
from hpcimg.node.probe import Finding, entries, read_text

if TYPE_CHECKING:
    from collections.abc import Iterable

_OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
_SMT = "sys/devices/system/cpu/smt"
_CPUS = "sys/devices/system/cpu"
_LIBC = ("lib*/libc.so.6", "lib/*/libc.so.6", "usr/lib*/libc.so.6", "usr/lib/*/libc.so.6")
_LIBC_VERSION = re.compile(rb"GNU C Library [^\n]{0,200}?version ([0-9]+\.[0-9]+)")
_LIBC_LIMIT = 16 * 1024 * 1024
_PERSONALITY, _PER_LINUX32 = 0xFF, 0x08


def read_kernel(root: Path) -> str:
    """Read the release of the kernel that runs."""
    release = read_text(root / "proc/sys/kernel/osrelease")
    words = read_text(root / "proc/version").split()
    return release or (words[2] if len(words) > 2 else "")


def read_machine(root: Path) -> str:
    """Read the kernel's own word for its architecture, empty where it is not told.

    uname tells a process of another personality (`setarch i686`) what that one wants to hear.
    """
    if word := read_text(root / "proc/sys/kernel/arch"):
        return word
    # Before Linux 6.1. Of a recorded machine uname knows nothing.
    personality = read_text(root / "proc/self/personality")
    is_own = root == Path("/") and int(personality or "0", 16) & _PERSONALITY != _PER_LINUX32
    return os.uname().machine if is_own else ""


def find_glibc(root: Path | None) -> tuple[str, Finding]:
    """Tell the host's GNU C library: this process's own, or the one under a recorded `root`."""
    if root is None:
        if own := _own_glibc():
            return own, Finding("confstr")
        root = Path("/")
    for path in (found for pattern in _LIBC for found in sorted(root.glob(pattern))):
        with contextlib.suppress(OSError), path.open("rb") as file:
            if match := _LIBC_VERSION.search(file.read(_LIBC_LIMIT)):
                return match[1].decode(), Finding(f"/{path.relative_to(root)}")
    return "", Finding("", unknowns=("glibc: no GNU C library was found",))


def _own_glibc() -> str:
    with contextlib.suppress(ValueError, OSError):
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        return version if name == "glibc" else ""
    return ""


def find_os(root: Path) -> Finding:
    """Tell the distribution, as `os:debian:12`."""
    for name in _OS_RELEASE:
        if word := parse_os_release(read_text(root / name)):
            return Finding(f"/{name}", (f"os:{word}",))
    return Finding("", unknowns=(f"os: there is no /{_OS_RELEASE[0]} with an ID",))


def parse_os_release(text: str) -> str:
    """Parse os-release into ID and release."""
    pairs = (line.partition("=") for line in text.splitlines())
    fields = {key.strip(): value.strip().strip("\"'").lower() for key, mark, value in pairs if mark}
    return distribution(fields.get("ID", ""), fields.get("VERSION_ID", ""))


def find_smt(root: Path | None, threads: int = 0) -> Finding:
    """Tell whether cores run several threads; `threads` is what the CPU's text says of a core.

    Without `root` only that text counts: it is of another machine.
    """
    found = Finding("") if root is None else _smt_of_kernel(root)
    if found.traits:
        return found
    if threads:
        return Finding("the CPU's text", (f"smt:{'on' if threads > 1 else 'off'}",))
    return Finding("", unknowns=("smt: the kernel tells neither its state nor thread siblings",))


def _smt_of_kernel(root: Path) -> Finding:
    control, active = read_text(root / _SMT / "control"), read_text(root / _SMT / "active")
    if state := parse_smt(control, active):
        return Finding(f"/{_SMT}", (f"smt:{state}",))
    siblings = [
        read_text(cpu / "topology/thread_siblings_list")
        for cpu in entries(root / _CPUS)
        if re.fullmatch(r"cpu[0-9]+", cpu.name)
    ]
    if not any(siblings):
        return Finding("")
    state = "on" if any(map(_is_several, siblings)) else "off"
    return Finding(f"/{_CPUS}/cpu*/topology", (f"smt:{state}",))


def parse_smt(control: str, active: str) -> str:
    """Parse the kernel's control files into on, off or nothing.

    A number is POWER's threads for each core: 4 and 8 are on as 2 is. `notimplemented` says
    nothing of the cores, whatever `active` has.
    """
    if control.isdecimal():
        return "on" if int(control) > 1 else "off"
    if control in {"off", "forceoff", "notsupported"}:
        return "off"
    if control == "on":
        # Single siblings may have been taken offline.
        return "off" if active == "0" else "on"
    return ""


def _is_several(cpus: str) -> bool:
    return "," in cpus or "-" in cpus


def highest(versions: Iterable[str]) -> str:
    """Pick the highest of versions such as 2.28, empty when there are none."""
    numbers = [tuple(int(part) for part in version.split(".")) for version in versions]
    return ".".join(map(str, max(numbers))) if numbers else ""
