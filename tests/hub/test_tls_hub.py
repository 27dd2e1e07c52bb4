"""Clients of a hub with TLS of its own, whose certificate tells the machine type."""

from __future__ import annotations

import hashlib
import shutil

import pytest
from client import PullError
from cri_client import Cri
from docker_client import Docker
from hub import Hub

from tests.contract.certificates import authority, signed

pytestmark = pytest.mark.integration

NODE = "qnib-type4"


@pytest.fixture(scope="module")
def certificates(room):
    """Make an authority, and what it signed for the hub and, in `node`, for a node's programs."""
    folder = room.folder / "certificates"
    (folder / "node").mkdir(parents=True)
    site = authority(folder)
    signed(site, "hub", "IP:192.0.2.1")
    node = signed(site, NODE)
    shutil.copy(site.certificate, folder / "node/ca.crt")
    shutil.copy(node.certificate, folder / "node/client.cert")
    shutil.copy(node.key, folder / "node/client.key")
    return folder


@pytest.fixture(scope="module")
def hub(room, upstream, certificates):
    """Start a hub that speaks TLS and believes the site's certificates."""
    files = {"certificate": "hub.crt", "key": "hub.key", "client_ca": "ca.crt"}
    tls = {key: str(certificates / name) for key, name in files.items()}
    with Hub(room, upstream, 5083, tls=tls) as started:
        yield started


def test_a_node_shows_its_certificate(room, hub, upstream, certificates):
    """The hub trusts the common name; a node without a certificate has to log in."""
    build = upstream.builds["cpu:broadwell,nvcap:5.2"]
    own = certificates / "node"
    host = f'[host."https://{hub.name}"]\nca = "{own}/ca.crt"\n'
    pair = f'client = [["{own}/client.cert", "{own}/client.key"]]\n'

    with Cri(room, room.folder / "tls-node") as node:
        node.containerd.write_hosts(hub.name, host)
        with pytest.raises(PullError, match=r"401 Unauthorized|authorization failed"):
            node.pull(f"{hub.name}/qnib/bench:latest")

        node.containerd.write_hosts(hub.name, host + pair)
        pulled = node.pull(f"{hub.name}/qnib/bench:latest")

    assert (pulled.digest, pulled.config) == (build.digest, build.config)


def test_docker_shows_its_certificate(room, hub, upstream, certificates):
    """It takes the certificate from its certs.d, and no login."""
    build = upstream.builds["cpu:broadwell,nvcap:5.2"]
    name = f"{hub.name}/qnib/bench:latest"
    # The room's /etc is its own.
    place = f"/etc/docker/certs.d/{hub.name}"
    room.run("mkdir", "-p", place)
    room.run("cp", "-r", f"{certificates}/node/.", place)

    with Docker(room, room.folder / "tls-docker") as docker:
        pulled = docker.pull(name)
        line = docker.run(name)

    assert (pulled.digest, line) == (build.digest, build.line)


def test_skopeo_shows_its_certificate(room, hub, upstream, certificates):
    """What podman, buildah and skopeo find in their certs.d does the same."""
    asked = (f"--cert-dir={certificates / 'node'}", f"docker://{hub.name}/qnib/bench:latest")

    raw = room.run("skopeo", "inspect", "--raw", *asked).stdout.encode()

    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    assert digest == upstream.builds["cpu:broadwell,nvcap:5.2"].digest
