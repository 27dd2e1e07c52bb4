"""`hpcimg autologin` writes a node's files, and the real clients log in to the hub by them."""

from __future__ import annotations

import shutil
import sys

import pytest
from conftest import CLIENTS
from hub import Hub
from upstream import TREE

pytestmark = pytest.mark.integration

LOGIN = "qnib-type2"
HOME = "root"  # root's, under the folder that stands for the node's /
DOCKER = f"{HOME}/.docker/config.json"
CONTAINERS = f"{HOME}/.config/containers/auth.json"
FILES = {
    "docker": DOCKER,
    "podman": CONTAINERS,
    "buildah": CONTAINERS,
    "skopeo": CONTAINERS,
    "cri": "etc/containerd/certs.d",
}
"""What each client reads of what was written; ctr takes its login from nowhere but its option."""


@pytest.fixture(scope="module")
def hub(room, upstream):
    """Start a hub before the registry."""
    with Hub(room, upstream, 5082) as started:
        yield started


@pytest.fixture(scope="module")
def node(room, hub):
    """Log a node in; what stands for its / holds the files."""
    root = room.folder / "node-root"
    root.mkdir()
    command = ("env", f"PYTHONPATH={TREE}", sys.executable, "-m", "hpcimg", "autologin")
    login = (f"--hub=http://{hub.name}", f"--login={LOGIN}", "--password-stdin")
    where = (f"--root={root}", "--for=docker,containers,containerd", "--mirror=docker.io")
    room.run(*command, *login, "--type=qnib/type2", *where, entered=f"{LOGIN}\n")
    return root


@pytest.mark.parametrize("kind", FILES)
def test_a_client_reads_the_node_s_login(room, hub, upstream, node, kind):
    """Nobody logs in by hand, and the image of the node's type comes."""
    build = upstream.builds["cpu:skylake"]
    with CLIENTS[kind](room, room.folder / f"auto-{kind}") as client:
        place(node / FILES[kind], client)

        pulled = client.pull(f"{hub.name}/qnib/bench:latest")

    assert (pulled.digest, pulled.config) == (build.digest, build.config)


def place(written, client):
    """Put what was written where the test's client looks in place of the node's own folders."""
    if written.is_dir():
        shutil.copytree(written, client.containerd.hosts, dirs_exist_ok=True)
    else:
        shutil.copy(written, client.folder)
