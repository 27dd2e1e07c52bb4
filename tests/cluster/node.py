"""Starts and kills one node: its namespaces, disk, devices, hardware; then its own init."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import cgroups
import kernel
import network
import process
from fault import ClusterFault
from layout import Layout, Node
from workshop import last_lines, stack

_NAMESPACES = (
    kernel.CLONE_NEWNS
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWCGROUP
)
_SHARED = {
    "home": "/home",
    "srv": "/srv/hpcimg",
    "slurm": "/etc/slurm",
    "hpcimg": "/etc/hpcimg",
    "munge": "/etc/munge",
}
_LOOP_DEVICES = 32
_STUB = Path("usr/local/lib/cluster")
_CUDA = "libcuda.so.396.44"


def find(layout: Layout, name: str) -> process.Process | None:
    """The node's init as seen from the host, if the node is up."""
    return process.read(layout.node(name) / "pid")


def start(layout: Layout, node: Node, layers: Sequence[Path]) -> None:
    """Switch the node on; it is up when `wait_until_ready` returns."""
    folder = layout.node(node.name)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "console.log"
    cgroups.create(layout.mark, node.name)
    reader, writer = os.pipe()

    def isolate() -> None:
        os.close(writer)
        cgroups.join(layout.mark, node.name)
        kernel.unshare(_NAMESPACES)

    def become() -> None:
        os.read(reader, 1)  # the network cable is laid from outside
        _boot(layout, node, layers)

    pid = process.detach(isolate, become, log)
    os.close(reader)
    try:
        init = process.write(folder / "pid", pid)
        switch = network.ensure_switch(layout, layers[-1])
        network.plug(switch, layers[-1], node.name, init.pid)
        os.write(writer, b"g")
    finally:
        os.close(writer)


def wait_until_ready(layout: Layout, name: str, seconds: float = 60) -> None:
    """Return when the node's services run; ClusterFault when it dies or takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        init = find(layout, name)
        if not init:
            break
        if Path(f"/proc/{init.pid}/root/run/ready").exists():
            return
        time.sleep(0.02)
    log = layout.node(name) / "console.log"
    raise ClusterFault(f"node {name} did not come up; the end of {log}:\n{last_lines(log)}")


def kill(layout: Layout, name: str) -> None:
    """Pull the plug: the kernel ends every process of the node and frees its mounts."""
    init = find(layout, name)
    if init:
        init.kill()
    (layout.node(name) / "pid").unlink(missing_ok=True)
    cgroups.remove(layout.mark, name)


# -- what follows runs as the node's process number 1, before its init ------------------------


def _boot(layout: Layout, node: Node, layers: Sequence[Path]) -> None:
    try:
        root = _assemble(layout, node, layers)
        socket.sethostname(node.name)
        kernel.pivot_to(root)
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        os.execve("/usr/local/libexec/cluster/init", ["init", node.address], environment)
    except BaseException as error:  # noqa: BLE001 - this child must not return into the command
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    os._exit(1)


def _assemble(layout: Layout, node: Node, layers: Sequence[Path]) -> Path:
    """Mount all of the node's root in this mount namespace."""
    os.umask(0o022)
    kernel.keep_mounts_private()
    folder = layout.node(node.name)
    root = folder / "root"
    stack(root, layers, folder / "disk", folder / "work")
    (root / "etc/hostname").write_text(f"{node.name}\n")
    _mount_kernel_views(root)
    _make_devices(root / "dev", node)
    for source, target in _SHARED.items():
        kernel.bind(layout.shared / source, root / target.lstrip("/"))
    if node.is_login:
        (root / "srv/registry").mkdir(parents=True, exist_ok=True)
        kernel.bind(layout.registry, root / "srv/registry")
    _fit_hardware(root, folder, node, layers)
    return root


def _mount_kernel_views(root: Path) -> None:
    safe = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("proc", root / "proc", "proc", safe | kernel.MS_NOEXEC)
    kernel.mount("sysfs", root / "sys", "sysfs", safe | kernel.MS_NOEXEC)
    cgroups.mount_inside(root / "sys/fs/cgroup")
    kernel.mount("tmpfs", root / "run", "tmpfs", safe, "mode=755")
    kernel.mount("tmpfs", root / "tmp", "tmpfs", safe, "mode=1777")


def _make_devices(dev: Path, node: Node) -> None:
    kernel.mount("tmpfs", dev, "tmpfs", kernel.MS_NOSUID, "mode=755")
    nodes = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9)}
    nodes |= {"tty": (5, 0), "fuse": (10, 229)}
    if node.has_gpu:
        # They can be opened, and that is all that is asked of them.
        nodes |= {"nvidia0": (1, 3), "nvidiactl": (1, 3)}
    os.umask(0)
    for name, (major, minor) in nodes.items():
        os.mknod(dev / name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
    os.mknod(dev / "loop-control", stat.S_IFCHR | 0o660, os.makedev(10, 237))
    for number in range(_LOOP_DEVICES):
        os.mknod(dev / f"loop{number}", stat.S_IFBLK | 0o660, os.makedev(7, number))
    os.umask(0o022)
    for name in ("pts", "shm", "mqueue"):
        (dev / name).mkdir()
    kernel.mount("devpts", dev / "pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=620,gid=5")
    kernel.mount("tmpfs", dev / "shm", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777")
    kernel.mount("mqueue", dev / "mqueue", "mqueue")
    for name, target in {
        "ptmx": "pts/ptmx",
        "fd": "/proc/self/fd",
        "stdin": "fd/0",
        "stdout": "fd/1",
        "stderr": "fd/2",
    }.items():
        (dev / name).symlink_to(target)


def _fit_hardware(root: Path, folder: Path, node: Node, layers: Sequence[Path]) -> None:
    """A boot of its own, the recorded processor, and the GPU's library."""
    boot_id = folder / "boot_id"
    boot_id.write_text(f"{uuid.uuid4()}\n")
    kernel.bind(boot_id, root / "proc/sys/kernel/random/boot_id")
    if node.machine:
        kernel.bind(recorded_cpuinfo(layers, node.machine), root / "proc/cpuinfo")
    if node.has_gpu:
        library = root / _STUB / "libnvidia-ml.so.1"
        if library.is_file():
            shutil.copy(library, root / "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1")
        # As NVIDIA installs it; ldconfig makes the name that programs ask for when the node boots.
        library = root / _STUB / _CUDA
        if library.is_file():
            shutil.copy(library, root / "usr/lib/x86_64-linux-gnu" / _CUDA)
        if not (root / "etc/nvml-stub").exists():
            shutil.copy(root / _STUB / "nvml-stub", root / "etc/nvml-stub")


def recorded_cpuinfo(layers: Sequence[Path], machine: str) -> Path:
    """The recording of that machine in archspec's package, found in the tree's layers."""
    pattern = f"opt/hpcimg/lib/python3*/site-packages/archspec/json/tests/targets/{machine}"
    for layer in layers:
        for path in layer.glob(pattern):
            return path
    raise ClusterFault(f"archspec's package in the tree has no recorded machine {machine!r}")
