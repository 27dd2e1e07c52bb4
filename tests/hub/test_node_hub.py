"""A Kubernetes node before the hub: containerd's hosts.toml tells the machine type, not the pod."""

from __future__ import annotations

from textwrap import dedent

import pytest
import yaml
from client import PullError
from cri_client import Cri
from hub import Hub, basic
from upstream import TREE

pytestmark = pytest.mark.integration

JOB = TREE / "examples/hub/job.yaml"
BUILDS = {
    "qnib-type1": "cv-tf-dev:1.12.0-rev11",
    "qnib-type2": "cv-tf-dev:skylake_1.12.0-rev6",
    "qnib-m60": "cv-nccl92-tf-dev:broadwell_nvcap52_1.12.0-rev2",
}
"""Logins, and what each gets of the first post's eleven images."""


@pytest.fixture(scope="module")
def hub(room, upstream):
    """Start a hub that serves a registry, and docker.io as if it were behind it."""
    upstreams = {"main": {"registry": upstream.name}, "docker": {"registry": "docker.io"}}
    plain = {upstream.name: {"plain_http": True}}
    registries = {**plain, "docker.io": {"mirrors": [upstream.name]}}
    given = {"upstreams": upstreams, "registries": registries, "open_types": ["qnib/*"]}
    with Hub(room, upstream, 5081, **given) as started:
        started.add_type("qnib/m60", "cpu:broadwell", "nvcap:5.2", "nvidia-396-44")
        yield started


@pytest.fixture
def node(room):
    """Start a node's containerd, whose pods bring no login."""
    folder = room.folder / "node"
    with Cri(room, folder) as started:
        yield started
    room.run("rm", "-r", folder)


def hosts(hub, **headers):
    """Write what a node's hosts.toml says of a registry that the hub stands before."""
    lines = "".join(f'  {key.replace("_", "-")} = ["{value}"]\n' for key, value in headers.items())
    # The room has no way out: whoever falls back to the server gets nothing.
    return (
        dedent(f"""\
        server = "https://registry-1.docker.io"
        [host."http://{hub.name}"]
          capabilities = ["pull", "resolve"]
        [host."http://{hub.name}".header]
        """)
        + lines
    )


@pytest.mark.parametrize("login", BUILDS)
def test_the_job_of_the_first_post_gets_the_image_of_its_node(node, hub, upstream, login):
    """The job names docker.io's image; the node's files bring it to the hub, as its type."""
    job = yaml.safe_load(JOB.read_text())
    image = job["spec"]["template"]["spec"]["containers"][0]["image"]
    node.containerd.write_hosts("docker.io", hosts(hub, Authorization=basic(login)))

    pulled = node.pull(f"docker.io/{image}")

    assert pulled.digest == upstream.digest(f"qnib/{BUILDS[login]}")
    assert node.run(f"docker.io/{image}") == BUILDS[login]
    asked = [one for one in hub.audit() if one.get("login") == login]
    assert any("ns=docker.io" in one["path"] and one["digest"] == pulled.digest for one in asked)


def test_a_node_names_the_hub_itself(node, hub, upstream):
    """The same header works for images that are named after the hub."""
    build = upstream.builds["cpu:broadwell,nvcap:5.2"]
    node.containerd.write_hosts(hub.name, hosts(hub, Authorization=basic("qnib-type4")))

    pulled = node.pull(f"{hub.name}/qnib/bench:latest")

    assert (pulled.digest, pulled.config) == (build.digest, build.config)


def test_a_node_tells_its_type_without_a_password(node, hub, upstream):
    """A type that the administrator opened is told by a header of its own."""
    build = upstream.builds["cpu:skylake"]
    node.containerd.write_hosts(hub.name, hosts(hub, X_Hpcimg_Type="qnib/type2"))

    assert node.pull(f"{hub.name}/qnib/bench:latest").digest == build.digest


def test_a_node_tells_its_type_by_the_path(node, hub, upstream):
    """The address of the hub in the node's file has the type in it, and no header is needed."""
    build = upstream.builds["cpu:broadwell"]
    host = f'[host."http://{hub.name}/type/qnib/type1/v2"]\noverride_path = true\n'
    node.containerd.write_hosts("docker.io", f"{host}capabilities = ['pull', 'resolve']\n")

    assert node.pull("docker.io/qnib/bench:latest").digest == build.digest


def test_a_mirrored_name_that_is_no_upstream_is_refused(node, hub):
    """The registry that a client names goes nowhere unless the settings list it."""
    node.containerd.write_hosts("other.test", hosts(hub, Authorization=basic("qnib-type1")))

    with pytest.raises(PullError, match=r"not found|400 Bad Request"):
        node.pull("other.test/qnib/bench:latest")

    asked = [one for one in hub.audit() if "ns=other.test" in one["path"]]
    assert {one["why"] for one in asked} == {"'other.test' is no upstream of this hub"}
