"""Judges one machine: user namespaces, FUSE, tools, Apptainer, kernel mounts, space, its clock.

It must not know how anything was read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hpcimg.doctor.finding import FAIL, NOTE, OK, UNKNOWN, WARN, Finding
from hpcimg.quoting import quoted

SWITCHES = {
    "user/max_user_namespaces": ("0", "sysctl -w user.max_user_namespaces=15000"),
    "kernel/unprivileged_userns_clone": ("0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    "kernel/apparmor_restrict_unprivileged_userns": (
        "1",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give Apptainer a profile",
    ),
}
"""The kernel's switches under /proc/sys: the value that forbids, and what allows."""

_FUSE_RULE = 'KERNEL=="fuse", MODE="0666"'
_OLDEST = (1, 1)
_KERNEL = (6, 2)
_WANTED = {
    "squashfuse": ("Apptainer mounts images with it", "squashfuse"),
    "mksquashfs": ("images are converted with it", "squashfs-tools"),
}
_DIRECTIVES = {
    "allow user ns": ("no", FAIL, "containers start in user namespaces"),
    "allow container sif": ("no", FAIL, "images are SIF files"),
    "mount proc": ("no", FAIL, "programs and MPI look at /proc"),
    "mount dev": ("no", FAIL, "GPUs and fabrics are devices"),
    "mount sys": ("no", WARN, "MPI and GPU libraries look at /sys"),
    "user bind control": ("no", FAIL, "mounts for users are bound"),
    "mount tmp": ("no", WARN, "containers then have no /tmp of the job's"),
}
_RUN_BYTES = 32 << 20
_FEW_BYTES = 1 << 30
_SOME_BYTES = 50 * 10**9
_APART, _FAR_APART = 5.0, 60.0


@dataclass(frozen=True)
class ApptainerFacts:
    """What was read of Apptainer; `failure` says why it could not be started."""

    path: str = ""
    version: str = ""
    failure: str = ""
    is_setuid: bool = False
    conf: str = ""
    directives: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Space:
    """A file system's free bytes, also as `shown` to people, and its free files if it counts them.

    `what` is run, store or own, which is a user's own store.
    """

    what: str
    path: str
    free: int
    shown: str
    files: int | None = None


def judge_namespaces(switches: Mapping[str, str], refusal: str, *, is_setuid: bool) -> Finding:
    """Say whether users may make user namespaces; `refusal` is how a real one failed."""
    # Where a try went well, the others have an exception.
    if not refusal and switches.get("user/max_user_namespaces") != "0":
        return Finding("namespaces", OK, "users may make user namespaces")
    off = [
        (name, SWITCHES[name][1]) for name, value in switches.items() if value == SWITCHES[name][0]
    ]
    why = ", ".join(f"{name.replace('/', '.')}={switches[name]}" for name, _ in off) or refusal
    what = f"the kernel refuses user namespaces to users ({why})"
    if is_setuid:
        what += "; Apptainer is setuid here, which hpcimg's shared container does not use"
    change = "; ".join(change for _, change in off) or (
        "look at sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, "
        "kernel.apparmor_restrict_unprivileged_userns, and at whether slurmd runs in a chroot"
    )
    return Finding("namespaces", FAIL, what, change)


def judge_fuse(mode: int | None, *, is_device: bool, mount: str) -> Finding:
    """Say whether users may open /dev/fuse; where the kernel mounts images, few need it."""
    state = WARN if mount == "kernel" else FAIL
    if mode is None or not is_device:
        what = "there is no /dev/fuse" if mode is None else "/dev/fuse is no device"
        change = "modprobe fuse, and name it in /etc/modules-load.d so that it stays"
        return Finding("fuse", state, what, change)
    if mode & 0o006 != 0o006:
        what = f"users may not open /dev/fuse (mode {mode & 0o777:04o})"
        change = f"chmod 666 /dev/fuse, and the udev rule {_FUSE_RULE} for the next boot"
        return Finding("fuse", state, what, change)
    return Finding("fuse", OK, "users may open /dev/fuse")


def judge_tools(found: Mapping[str, str], mount: str) -> list[Finding]:
    """Say which programs Apptainer and the conversion miss; an empty path: not there."""
    findings = []
    for name, (why, package) in _WANTED.items():
        if not found.get(name):
            spared = name == "squashfuse" and mount == "kernel"
            what = f"{name} is not installed: {why}"
            change = (
                f"install the package {package}; Apptainer looks in /usr/bin and its own folder"
            )
            findings.append(Finding("tools", WARN if spared else FAIL, what, change))
    if not found.get("fuse-overlayfs"):
        what = "fuse-overlayfs is not installed: writable containers may need it"
        findings.append(Finding("tools", NOTE, what, "install the package fuse-overlayfs"))
    named = ", ".join(name for name, path in found.items() if path)
    return findings or [Finding("tools", OK, f"found {named}")]


def judge_apptainer(facts: ApptainerFacts) -> Iterator[Finding]:
    """Say whether Apptainer is there, new enough, and what its configuration forbids."""
    if facts.failure:
        change = "install Apptainer 1.1 or later, or say where it is: `apptainer` in the settings"
        yield Finding("apptainer", FAIL, facts.failure, change)
        return
    if _numbers(facts.version) < _OLDEST:
        what = f"Apptainer {facts.version} cannot mount images without setuid"
        yield Finding("apptainer", FAIL, what, "install Apptainer 1.1 or later")
    bad = False
    for name, (value, state, why) in _DIRECTIVES.items():
        if facts.directives.get(name) == value:
            bad = True
            what = f'"{facts.conf}" says "{name} = {value}": {why}'
            yield Finding("apptainer", state, what, f'write "{name} = yes" there')
    if not bad:
        kind = "setuid" if facts.is_setuid else "not setuid"
        yield Finding("apptainer", OK, f"{facts.path} {facts.version}, {kind}")


def parse_directives(text: str) -> dict[str, str]:
    """Read apptainer.conf; of a directive that stands twice the last one counts."""
    pairs = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    return {name.strip(): value.strip().lower() for name, is_pair, value in pairs if is_pair}


def judge_kernel_mount(release: str, filesystems: str, *, has_loop: bool) -> list[Finding]:
    """Say whether this kernel can mount images, where the settings want that."""
    lacks = []
    if _numbers(release) < _KERNEL:
        lacks.append(f"Linux 6.2 (this is {release})")
    if not has_loop:
        lacks.append("/dev/loop-control (modprobe loop)")
    if "squashfs" not in filesystems.split():
        lacks.append("squashfs (modprobe squashfs)")
    if not lacks:
        return [Finding("kernel mount", OK, "the kernel can mount images")]
    what = f"mount: kernel, but this machine lacks {', '.join(lacks)}: steps use FUSE"
    return [Finding("kernel mount", WARN, what, "load the modules at boot, or set mount: fuse")]


def judge_space(space: Space) -> Finding:
    """Say whether there is room where images, tickets and users' own stores go."""
    is_run = space.what == "run"
    few, some = (1 << 20, _RUN_BYTES) if is_run else (_FEW_BYTES, _SOME_BYTES)
    what = f"{space.path} has {space.shown} free"
    change = (
        "make that tmpfs larger"
        if is_run
        else "`hpcimg cache prune --high SIZE --low SIZE` removes images, or give it more room"
    )
    if space.files is not None and space.files < 100:
        what = f"{space.path} has room for {space.files} more files (inodes)"
        return Finding("space", FAIL, what, change)
    if space.free < few:
        return Finding("space", FAIL, what, change)
    if space.free < some and space.what != "own":
        return Finding("space", WARN, what, change)
    # The figures of a thousand nodes would be a thousand lines.
    return Finding("space", OK, what if space.what == "store" else f"{space.path} has room")


def judge_switch(reason: str | None, place: str) -> Finding:
    """Say whether the site has switched hpcimg off here; `reason` is None where it has not."""
    if reason is None:
        return Finding("switch", OK, "hpcimg is not switched off")
    said = f": {quoted(reason)}" if reason else ""
    return Finding("switch", WARN, f"hpcimg is switched off{said}", f"to switch it on: rm {place}")


def judge_stage(place: str, owner: int | None, account: int | None) -> Finding:
    """Say whether the node's own copies have a place; `owner` is None where there is none."""
    change = "on nodes that run jobs: install -d -o ACCOUNT -g ACCOUNT PLACE, as the settings say"
    if owner is None:
        return Finding("stage", NOTE, f"no copies are kept here: there is no {place}", change)
    if owner != account:
        return Finding("stage", WARN, f"{place} is not the account's: no copies are kept", change)
    return Finding("stage", OK, f"copies are kept in {place}")


def judge_clock(apart: float | None, other: str) -> Finding:
    """Say whether this machine's clock goes as another one's does."""
    if apart is None:
        return Finding("clock", UNKNOWN, f"{other} was not there to compare the clock with")
    if abs(apart) < _APART:
        return Finding("clock", OK, f"the clock goes as {other}'s does")
    state = FAIL if abs(apart) >= _FAR_APART else WARN
    way = "ahead of" if apart > 0 else "behind"
    what = f"the clock is {abs(apart):.0f} s {way} {other}'s: tokens and leases end wrongly"
    return Finding("clock", state, what, "let chrony or ntpd set the clock on all machines")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in re.findall(r"\d+", text)[:2])
