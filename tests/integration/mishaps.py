"""One thing at a time that goes wrong on a node or a site, and is mended afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import yaml
from conftest import Cluster

SETTINGS = "/etc/hpcimg/settings.yaml"
PYTHON = "/opt/hpcimg/bin/python"
PYTHON_LOG = "/var/log/python-starts"

_RECORDED = f"""\
#!/bin/sh
echo "$*" >>{PYTHON_LOG}
exec {PYTHON}.real "$@"
"""


def do(cluster: Cluster, script: str, node: str = "login") -> str:
    """Run a script as root that has to succeed; what it printed."""
    done = cluster.shell(f"set -e; {script}", node=node, user="root")
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def missing(cluster: Cluster, node: str, path: str) -> Iterator[None]:
    """A file that is not there."""
    do(cluster, f"mv {path} {path}.away", node)
    try:
        yield
    finally:
        do(cluster, f"mv {path}.away {path}", node)


@contextmanager
def without_account(cluster: Cluster, node: str) -> Iterator[None]:
    """A node that does not know the store's account."""
    do(cluster, "cp -p /etc/passwd /etc/passwd.away; sed -i /^hpcimg:/d /etc/passwd", node)
    try:
        yield
    finally:
        do(cluster, "mv /etc/passwd.away /etc/passwd", node)


@contextmanager
def settings(cluster: Cluster, **changes: object) -> Iterator[None]:
    """A site whose settings differ from what they are now in these keys (JSON is YAML)."""
    before = do(cluster, f"cat {SETTINGS}")
    base = yaml.safe_load(before)
    for key, value in changes.items():
        old = base.get(key)
        base[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    write = "cat >{0}.new <<'END'\n{1}\nEND\nmv {0}.new {0}"
    do(cluster, write.format(SETTINGS, json.dumps(base)))
    try:
        yield
    finally:
        do(cluster, write.format(SETTINGS, before))


@contextmanager
def small_disk(cluster: Cluster, node: str, size: str = "64k") -> Iterator[None]:
    """A store on a file system that is full after so many bytes."""
    place = "/srv/small"
    mount = f"mkdir -p {place}; mount -t tmpfs -o size={size},mode=755 tmpfs {place}"
    do(cluster, f"{mount}; chown hpcimg: {place}", node)
    try:
        with settings(cluster, store={"path": f"{place}/store"}):
            yield
    finally:
        do(cluster, f"umount {place}", node)


@contextmanager
def without_user_namespaces(cluster: Cluster, node: str) -> Iterator[None]:
    """A node where the kernel refuses new user namespaces.

    The switches are the whole machine's; but in a chroot the kernel refuses as well, so slurmd
    runs in one, at another path of the same root.
    """
    stop = (
        "pid=$(cat /run/slurmd.pid); kill $pid; while kill -0 $pid 2>/dev/null; do sleep 0.02; done"
    )
    confined = "mkdir -p /mnt/root; mount --rbind / /mnt/root; exec chroot /mnt/root slurmd"
    do(cluster, f"{stop}; unshare --mount sh -c '{confined}'", node)
    _wait_for(cluster, node)
    try:
        yield
    finally:
        do(cluster, f"{stop}; slurmd", node)
        _wait_for(cluster, node)


def _wait_for(cluster: Cluster, node: str) -> None:
    """Let Slurm give the node work again."""
    done = cluster.run("srun", "-w", node, "true")
    assert done.returncode == 0, done.stderr


@contextmanager
def recorded_python(cluster: Cluster, node: str) -> Iterator[None]:
    """A node that notes each start of hpcimg's Python; see `python_starts`."""
    put = f"mv {PYTHON} {PYTHON}.real; cat >{PYTHON} <<'END'\n{_RECORDED}END\nchmod 755 {PYTHON}"
    do(cluster, f"install -m 666 /dev/null {PYTHON_LOG}; {put}", node)
    try:
        yield
    finally:
        do(cluster, f"mv {PYTHON}.real {PYTHON}; rm -f {PYTHON_LOG}", node)


def python_starts(cluster: Cluster, node: str) -> list[str]:
    """Name the verbs that hpcimg's Python was started with, and forget them.

    What the epilog starts, after a job and beside the next, is none of them.
    """
    lines = do(cluster, f"cat {PYTHON_LOG}; : >{PYTHON_LOG}", node).splitlines()
    verbs = [line.split("hpcimg ", 1)[-1].split()[0] for line in lines]
    return [verb for verb in verbs if verb != "record"]


def blob_requests(cluster: Cluster) -> list[str]:
    """List the blobs that the registry was asked for, in order, by its own log."""
    log = do(cluster, "grep -E '\"GET /v2/[^ ]+/blobs/' /var/log/registry.log || :")
    return [line.split("/blobs/")[1].split()[0] for line in log.splitlines()]


def forget_images(cluster: Cluster) -> None:
    """Empty the site's store of images and leases, so that the next job finds it cold."""
    do(cluster, "cd /srv/hpcimg/store && rm -rf entries/* leases/* quarantine/*")


def push(cluster: Cluster, name: str, *entries: tuple[str, str]) -> None:
    """Push an index `name` of (image, features separated by commas) as alice."""
    lines = [f"image: {name}", "manifests:"]
    for image, features in entries:
        lines += [f"  - image: {image}", "    platform: {architecture: amd64, os: linux"]
        lines[-1] += f", features: [{features}]}}" if features else "}"
    text = "\n".join(lines)
    done = cluster.shell(f"cat >index.yml <<'END'\n{text}\nEND\nhpcimg index push index.yml")
    assert done.returncode == 0, done.stderr


@contextmanager
def without_registry(cluster: Cluster, *nodes: str) -> Iterator[None]:
    """Nodes whose registry is down: where they look for it nobody listens."""
    away = "cp -p /etc/hosts /etc/hosts.away; sed 's/ registry$//' /etc/hosts.away >/etc/hosts"
    for node in nodes:
        do(cluster, f"{away}; echo 192.0.2.11 registry >>/etc/hosts", node)
    try:
        yield
    finally:
        for node in nodes:
            do(cluster, "cat /etc/hosts.away >/etc/hosts; rm /etc/hosts.away", node)


def tag_requests(cluster: Cluster, repository: str, tag: str = "latest") -> int:
    """Count how often the registry was asked for a tag, by its own log."""
    asked = f"'\"(GET|HEAD) /v2/{repository}/manifests/{tag} '"
    return int(do(cluster, f"grep -cE {asked} /var/log/registry.log || :"))
