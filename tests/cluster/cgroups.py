"""Gives every node its own part of the machine's version 1 control groups, if there are any."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import kernel

NEEDED = frozenset({"cpuset", "memory", "freezer"})
_USED = NEEDED | {"cpu", "cpuacct", "devices", "pids", "blkio"}


@dataclass(frozen=True)
class Hierarchy:
    """One mounted version 1 hierarchy of the host and the controllers it has."""

    mount: Path
    controllers: tuple[str, ...]


def hierarchies() -> tuple[Hierarchy, ...]:
    """The host's version 1 hierarchies that a node gets; empty when Slurm could not use them."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines():
        before, _, after = line.partition(" - ")
        fstype, _, options = after.split(" ")[:3]
        controllers = tuple(word for word in options.split(",") if word in _USED)
        if fstype == "cgroup" and controllers:
            found.append(Hierarchy(Path(before.split(" ")[4]), controllers))
    have = {name for hierarchy in found for name in hierarchy.controllers}
    return tuple(found) if have >= NEEDED else ()


def create(mark: str, node: str) -> None:
    """Make the node's groups; harmless when they are there."""
    for hierarchy in hierarchies():
        for group in (hierarchy.mount / mark, hierarchy.mount / mark / node):
            group.mkdir(exist_ok=True)
            if "cpuset" in hierarchy.controllers:
                # A new cpuset is empty, and nothing can join an empty one.
                for name in ("cpuset.cpus", "cpuset.mems"):
                    (group / name).write_text((group.parent / name).read_text("utf-8"))


def join(mark: str, node: str) -> None:
    """Move this process into the node's groups."""
    for hierarchy in hierarchies():
        (hierarchy.mount / mark / node / "cgroup.procs").write_text("0")


def mount_inside(folder: Path) -> None:
    """Mount the hierarchies below ``folder``; a cgroup namespace shows the node's part."""
    found = hierarchies()
    if not found:
        return
    kernel.mount("tmpfs", folder, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
    for hierarchy in found:
        target = folder / hierarchy.mount.name
        target.mkdir()
        kernel.mount("cgroup", target, "cgroup", 0, ",".join(hierarchy.controllers))


def remove(mark: str, node: str = "") -> None:
    """Remove a node's groups (or all of the cluster's) once its processes are gone."""
    for hierarchy in hierarchies():
        top = hierarchy.mount / mark / node
        for group in _deepest_first(top):
            _remove_group(group)


def _deepest_first(top: Path) -> Iterator[Path]:
    if top.is_dir():
        yield from sorted((p for p in top.rglob("*") if p.is_dir()), reverse=True)
        yield top


def _remove_group(group: Path) -> None:
    """The kernel lets the last process go a moment after it died."""
    for _ in range(100):
        with contextlib.suppress(OSError):
            group.rmdir()
        if not group.exists():
            return
        time.sleep(0.02)
