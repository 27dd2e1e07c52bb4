"""Detection: run the probes, put their facts into one profile, keep it for this boot.

The only place that knows which file or library gave which fact.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.errors import UsageError
from hpcimg.node.profile import NodeProfile

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE_PATH = Path("/run/hpcimg/node.json")
_CPUINFO = Path("/proc/cpuinfo")
_BOOT_ID = "proc/sys/kernel/random/boot_id"
_DRIVER = "proc/driver/nvidia"
_CACHE_LIMIT = 512 * 1024


def detect(
    *, cpuinfo: Path | None = None, node: str | None = None, gpu_time_limit: float | None = None
) -> NodeProfile:
    """Detect this node; `cpuinfo` names a recorded description to read instead of the CPU's own.

    `node` is the name to give it, the host's own otherwise. Takes about as long as NVML does.
    """
    from hpcimg import targets
    from hpcimg.node.cpu import read_cpu
    from hpcimg.node.gpu import TIME_LIMIT, probe_gpus

    system = os.uname()
    cpu = read_cpu(cpuinfo or _CPUINFO, "" if cpuinfo else system.machine)
    found = targets.match(cpu.facts)
    gpus = probe_gpus(TIME_LIMIT if gpu_time_limit is None else gpu_time_limit)
    unknowns = [] if found.name else ["CPU target: archspec does not know this architecture"]
    if gpus.state == "unknown":
        unknowns.append(f"GPUs: {gpus.reason}")
    return NodeProfile(
        # Slurm knows nodes by their short names.
        node=node or system.nodename.partition(".")[0],
        os="linux",
        architecture=cpu.facts.architecture,
        target=found.name,
        compatible=found.compatible,
        flags=cpu.facts.flags,
        gpus=gpus,
        kernel=system.release,
        boot_id=read_boot_id(),
        vendor=cpu.facts.vendor,
        model=cpu.model,
        notes=cpu.notes,
        unknowns=tuple(unknowns),
        sources={"cpu": str(cpuinfo or _CPUINFO), "gpus": "NVML", "kernel": "uname"},
    )


def read_boot_id(root: Path = Path("/")) -> str:
    """Return the kernel's name of this boot, empty where it has none."""
    with contextlib.suppress(OSError):
        return (root / _BOOT_ID).read_text(encoding="ascii").strip()
    return ""


def cache_key(root: Path = Path("/")) -> str:
    """Name what a kept profile depends on: the boot, the GPU driver, the MIG layout.

    Reads a few small files under `root`, never NVML; empty when the boot has no name, and then
    nothing may be kept.
    """
    boot_id = read_boot_id(root)
    if not boot_id:
        return ""
    driver = root / _DRIVER
    version = ""
    with contextlib.suppress(OSError):
        version = (driver / "version").read_text(encoding="utf-8", errors="replace")
    facts = json.dumps([boot_id, version, list(_mig_layout(driver))])
    return hashlib.sha256(facts.encode()).hexdigest()


def read_cached(
    path: Path = CACHE_PATH, key: str | None = None, *, owner: int = 0
) -> NodeProfile | None:
    """Return the kept profile, or None when there is none, or none that may be trusted.

    Only a plain file counts that belongs to `owner` and that nobody else can write.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != owner or shared:
            return None
        raw = file.read(_CACHE_LIMIT)
    with contextlib.suppress(ValueError, KeyError, TypeError, UsageError):
        document = json.loads(raw)
        wanted = cache_key() if key is None else key
        if wanted and document["key"] == wanted:
            return NodeProfile.from_json(document["profile"])
    return None


def write_cached(profile: NodeProfile, key: str, path: Path = CACHE_PATH) -> bool:
    """Keep a profile for this boot, atomically; return whether it was kept.

    One with unknown GPUs is not kept: a driver that is slow to start would stay unknown.
    """
    if not key or profile.gpus.state == "unknown":
        return False
    if not path.parent.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Whatever root's umask: everybody reads it.
        path.parent.chmod(0o755)
    text = json.dumps({"key": key, "profile": profile.to_json()})
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, 0o644), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text)
    temporary.replace(path)
    return True


def _mig_layout(driver: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for path in sorted(driver.glob("capabilities/gpu*/mig/gi*")):
            yield str(path.relative_to(driver))
