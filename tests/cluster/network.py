"""The cluster's own network: a bridge in a namespace of its own, a cable to every node.

Every link is made inside the namespaces, so the host's network never shows one.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import kernel
import process
from fault import ClusterFault
from layout import Layout


def ensure_switch(layout: Layout, tree: Path) -> process.Process:
    """The process that keeps the bridge's namespace; started when it is not there."""
    switch = find_switch(layout)
    if switch:
        return switch
    pid = process.detach(
        lambda: kernel.unshare(kernel.CLONE_NEWNET),
        lambda: os.execv("/bin/sleep", ["hpcimg-switch", "infinity"]),
        layout.cluster / "switch.log",
    )
    switch = process.write(layout.cluster / "switch.pid", pid)
    _ip(switch, tree, "link add bridge0 type bridge\nlink set bridge0 up\n")
    return switch


def find_switch(layout: Layout) -> process.Process | None:
    """The switch, if it runs."""
    return process.read(layout.cluster / "switch.pid")


def plug(switch: process.Process, tree: Path, node: str, pid: int) -> None:
    """Lay a cable from the bridge to ``eth0`` in the network namespace of ``pid``."""
    port = f"port-{node}"
    # A node that lost power a moment ago may still have its old cable.
    _ip(switch, tree, f"link del {port}\n", must_work=False)
    _ip(
        switch,
        tree,
        f"link add {port} type veth peer name eth0 netns {pid}\n"
        f"link set {port} master bridge0\nlink set {port} up\n",
    )


def _ip(switch: process.Process, tree: Path, batch: str, *, must_work: bool = True) -> None:
    """Run the tree's own iproute2 in the switch's network namespace."""

    def enter() -> None:
        kernel.setns(Path(f"/proc/{switch.pid}/ns/net"))
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.keep_mounts_private()
        kernel.bind("/proc", tree / "proc")  # where it finds the other end's process
        os.chroot(tree)
        os.chdir("/")

    done = subprocess.run(
        ["/usr/sbin/ip", "-batch", "-"],
        input=batch,
        text=True,
        check=False,
        capture_output=True,
        preexec_fn=enter,
    )
    if must_work and done.returncode != 0:
        raise ClusterFault(f"the cluster's network could not be made: {done.stderr.strip()}")
