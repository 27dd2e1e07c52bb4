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
from hpcimg.node.gpus import joined
from hpcimg.node.probe import Finding, entries, read_text
from hpcimg.node.profile import NodeProfile
from hpcimg.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpcimg.node.cloud import Dmi

CACHE_PATH = Path("/run/hpcimg/node.json")
HERE = Path("/")
_CPUINFO = "proc/cpuinfo"
_BOOT_ID = "proc/sys/kernel/random/boot_id"
_DRIVER = "proc/driver/nvidia"
_MODULES = ("amdgpu", "i915", "xe")
_FABRICS = ("sys/class/infiniband", "sys/class/cxi")
_CACHE_LIMIT = 512 * 1024


def detect(
    *,
    root: Path = HERE,
    cpuinfo: Path | None = None,
    node: str | None = None,
    gpu_time_limit: float | None = None,
) -> NodeProfile:
    """Detect this node, or the machine whose proc, sys and etc were recorded under `root`.

    `cpuinfo` names a recorded description to read instead of the CPU's own, `node` the name to
    give it, the host's own otherwise. Takes about as long as NVML does.
    """
    from hpcimg import targets
    from hpcimg.node.cloud import read_dmi
    from hpcimg.node.cpu import read_cpu
    from hpcimg.node.host import find_glibc, find_smt, read_kernel, read_machine
    from hpcimg.node.injected import find_injected

    # A recorded CPU tells of itself alone.
    machine = read_machine(root) if cpuinfo is None else ""
    dmi = read_dmi(root)
    cpu = read_cpu(cpuinfo or root / _CPUINFO, machine, dmi.hypervisor)
    target = targets.match(cpu.facts)
    found = _findings(root, dmi, gpu_time_limit)
    found["smt"] = find_smt(None if cpuinfo else root, cpu.threads)
    gpus = joined(finding.gpus for finding in found.values())
    glibc, found["glibc"] = find_glibc(None if root == HERE else root)
    injected, found["injected_glibc"] = find_injected(root, {g.vendor for g in gpus.devices})
    unknowns = [] if target.name else ["cpu: archspec does not know this architecture"]
    unknowns += [f"gpus: {gpus.reason}"] if gpus.reason and gpus.state != "none" else []
    sources = {kind: finding.source for kind, finding in found.items() if finding.source}
    return NodeProfile(
        node=node or _node_name(root),
        os="linux",
        architecture=cpu.facts.architecture,
        target=target.name,
        compatible=target.compatible,
        flags=cpu.facts.flags,
        gpus=gpus,
        kernel=read_kernel(root),
        boot_id=read_boot_id(root),
        vendor=cpu.facts.vendor,
        model=cpu.model,
        traits=tuple(sorted(word for one in found.values() for word in one.traits)),
        glibc=glibc,
        injected_glibc=injected,
        notes=(*cpu.notes, *(note for one in found.values() for note in one.notes)),
        unknowns=(*unknowns, *(why for one in found.values() for why in one.unknowns)),
        sources={"cpu": str(cpuinfo or f"/{_CPUINFO}"), "kernel": "/proc/sys/kernel", **sources},
    )


def recorded(root: Path) -> Path:
    """Check that a recorded machine is there: without its CPU there is no profile."""
    if not (root / _CPUINFO).is_file():
        raise UsageError(
            f"{quoted(root)} is no recorded machine: it has no {_CPUINFO}",
            "name a folder with the machine's proc, sys and etc",
        )
    return root


def _findings(root: Path, dmi: Dmi, time_limit: float | None) -> dict[str, Finding]:
    """Run all probes but the CPU's; the place in this list is that on the page."""
    from hpcimg.node.amd import probe_amd
    from hpcimg.node.cloud import find_instance
    from hpcimg.node.fabric import probe_fabric
    from hpcimg.node.gpu import TIME_LIMIT, probe_nvidia
    from hpcimg.node.host import find_os
    from hpcimg.node.intel import probe_intel
    from hpcimg.node.pci import read_pci

    bus = read_pci(root)
    limit = TIME_LIMIT if time_limit is None else time_limit
    return {
        "nvidia": probe_nvidia(root, bus, time_limit=limit),
        "amd": probe_amd(root, bus),
        "intel": probe_intel(bus),
        "fabric": probe_fabric(root),
        "os": find_os(root),
        "inst": find_instance(dmi),
    }


def _node_name(root: Path) -> str:
    """Give the host's short name, as Slurm knows it; a recorded machine's may be its folder's."""
    name = read_text(root / "proc/sys/kernel/hostname") or root.resolve().name
    return name.partition(".")[0]


def read_boot_id(root: Path = HERE) -> str:
    """Return the kernel's name of this boot, empty where it has none."""
    return read_text(root / _BOOT_ID)


def cache_key(root: Path = HERE) -> str:
    """Name what a kept profile depends on: the boot, the GPU drivers, the MIG layout, the fabrics.

    Reads a few small files under `root`, never NVML; empty when the boot has no name, and then
    nothing may be kept. A module that is loaded later may bring GPUs.
    """
    boot_id = read_boot_id(root)
    if not boot_id:
        return ""
    driver = root / _DRIVER
    modules = [name for name in _MODULES if (root / "sys/module" / name).exists()]
    fabrics = [path.name for place in _FABRICS for path in entries(root / place)]
    version = read_text(driver / "version")
    facts = json.dumps([boot_id, version, list(_mig_layout(driver)), modules, fabrics])
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
    is_unsure = any(why.startswith("gpus:") for why in profile.unknowns)
    if not key or is_unsure or profile.gpus.state == "unknown":
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
