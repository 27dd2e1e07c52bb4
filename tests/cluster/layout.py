"""Where everything lies on disk and which nodes there are; no processes, no mounts."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent


SUITE = "trixie"  # Slurm 24.11; Debian's unstable suite, sid, has the newest


@dataclass(frozen=True)
class Node:
    """One machine of the cluster; ``machine`` names a recorded /proc/cpuinfo of archspec."""

    name: str
    address: str
    machine: str = ""
    has_gpu: bool = False

    @property
    def is_login(self) -> bool:
        """Whether this node is the controller, the registry and the place users log in to."""
        return self.name == "login"


# 192.0.2.0/24 is set aside for documentation (RFC 5737): it is routed nowhere.
NODES = (
    Node("login", "192.0.2.1"),
    Node("bdw1", "192.0.2.11", "linux-rhel7-broadwell"),
    Node("skx1", "192.0.2.12", "linux-rhel7-skylake_avx512"),
    Node("zen1", "192.0.2.13", "linux-ubuntu20.04-zen3"),
    Node("gpu1", "192.0.2.14", "linux-rhel7-broadwell", has_gpu=True),
)
NAMES = tuple(node.name for node in NODES)


def node_named(name: str) -> Node:
    """The node of that name; KeyError when there is none."""
    return {node.name: node for node in NODES}[name]


@dataclass(frozen=True)
class Layout:
    """The folders of the cache (trees, shared by all clusters) and of one cluster."""

    cache: Path
    cluster: Path
    suite: str = SUITE

    @property
    def trees(self) -> Path:
        """Finished trees and the logs of their making; each suite has its own, and its own lock."""
        return self.cache / ("trees" if self.suite == SUITE else f"trees-{self.suite}")

    @property
    def shared(self) -> Path:
        """Folders that all nodes see: /home, /srv/hpcimg, /etc/slurm, /etc/hpcimg, /etc/munge."""
        return self.cluster / "shared"

    @property
    def registry(self) -> Path:
        """The registry's blobs; they outlive `down`."""
        return self.cluster / "registry"

    @property
    def mark(self) -> str:
        """A short name for this cluster, used for its cgroups."""
        return "hpcimg-" + hashlib.sha256(os.fsencode(self.cluster)).hexdigest()[:8]

    def node(self, name: str) -> Path:
        """A node's own folder: its disk, pid file and console log."""
        return self.cluster / "nodes" / name


def layout_from_environment() -> Layout:
    """Read HPCIMG_CACHE, XDG_CACHE_HOME, HPCIMG_SUITE, HPCIMG_CLUSTER (a second one's folder)."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    cache = Path(os.environ.get("HPCIMG_CACHE") or Path(base) / "hpcimg").absolute()
    cluster = Path(os.environ.get("HPCIMG_CLUSTER") or cache / "cluster").absolute()
    return Layout(cache, cluster, os.environ.get("HPCIMG_SUITE") or SUITE)
