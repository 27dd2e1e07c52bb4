"""The client, `index push` and `inspect` against the real docker-registry: open, logins, TLS."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import time
from hashlib import sha256
from pathlib import Path
from textwrap import dedent

import pytest

from hpcimg.errors import AuthenticationError, NotFoundError
from hpcimg.oci.blob import BlobCheck
from hpcimg.oci.client import RegistryClient
from hpcimg.oci.credentials import Credential, no_credential
from hpcimg.oci.hosts import Endpoint
from hpcimg.oci.model import DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, Index
from hpcimg.oci.reference import Reference, parse_reference
from hpcimg.registry_settings import RegistrySettings
from hpcimg.settings import Settings
from hpcimg.workflow.inspect import inspect_image, inspect_text
from hpcimg.workflow.push import push_index
from tests.contract.certificates import authority, signed

pytestmark = pytest.mark.integration

CACHE = os.environ.get("HPCIMG_CACHE") or f"{os.environ.get('HOME', '')}/.cache/hpcimg"
# The cluster's tree has one; it needs nothing but the C library.
BUILT = sorted(map(str, Path(CACHE).glob("trees/base-*/usr/bin/docker-registry")))
BINARY = (
    os.environ.get("HPCIMG_TEST_REGISTRY") or shutil.which("docker-registry") or (*BUILT, None)[0]
)
ALICE = "alice:$2b$04$0SMMj0s1.RdKLiEA03OqIOanULONgnZ/.D4aLXzNNgSqoMsfh9z4W\n"
"""A htpasswd line for the password `hush`, with the cheapest cost."""

RECIPE = dedent("""\
    image: qnib/bench
    manifests:
      - image: qnib/plain-featuretest:generic
        platform: {architecture: amd64, os: linux}
      - image: qnib/plain-featuretest:cpu-skylake
        platform: {architecture: amd64, os: linux, features: [cpu:skylake]}
    """)


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(params=["open", "htpasswd", "tls"])
def registry(request, tmp_path):
    """Run docker-registry; give its name and a client that may use it."""
    if BINARY is None:
        pytest.skip("docker-registry is not installed and HPCIMG_TEST_REGISTRY does not name it")
    port = free_port()
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "storage")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    find, settings = no_credential, RegistrySettings(plain_http=True)
    if request.param == "tls":
        site = authority(tmp_path)
        server, user = signed(site, "server"), signed(site, "user")
        config["http"]["tls"] = {
            "certificate": str(server.certificate),
            "key": str(server.key),
            "clientcas": [str(site.certificate)],
        }
        settings = RegistrySettings(
            ca_file=str(site.certificate),
            client_certificate=str(user.certificate),
            client_key=str(user.key),
        )
    if request.param in {"htpasswd", "tls"}:
        (tmp_path / "htpasswd").write_text(ALICE)
        config["auth"] = {"htpasswd": {"realm": "site", "path": str(tmp_path / "htpasswd")}}
        find = lambda *_: Credential("alice", "hush")  # noqa: E731
    (tmp_path / "config.yml").write_text(json.dumps(config))
    with (tmp_path / "log").open("wb") as log:
        argv = [BINARY, "serve", str(tmp_path / "config.yml")]
        child = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        wait_for(port, child)
        yield f"127.0.0.1:{port}", client_for(port, find, settings)
    finally:
        child.kill()
        child.wait()


def wait_for(port: int, child: subprocess.Popen[bytes]) -> None:
    """Wait until the port answers; fail when the program ends before."""
    for _ in range(200):
        assert child.poll() is None, "docker-registry ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("docker-registry did not listen within 10 s")


def client_for(port: int, find, settings: RegistrySettings) -> RegistryClient:
    """Make a client as the store's account has it."""
    return RegistryClient({f"127.0.0.1:{port}": settings}, find, listed_only=True)


def put_image(client: RegistryClient, reference: Reference, layer: bytes) -> None:
    """Push an image of one layer through the client."""

    def put(media_type: str, raw: bytes) -> dict[str, object]:
        descriptor = Descriptor(media_type, f"sha256:{sha256(raw).hexdigest()}", len(raw))
        client.put_blob(reference, descriptor, io.BytesIO(raw))
        return {"mediaType": media_type, "size": len(raw), "digest": descriptor.digest}

    config = json.dumps({"os": "linux", "architecture": "amd64", "note": len(layer)}).encode()
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": put("application/vnd.docker.container.image.v1+json", config),
        "layers": [put("application/vnd.docker.image.rootfs.diff.tar.gzip", layer)],
    }
    client.put_manifest(reference, json.dumps(document).encode(), DOCKER_MANIFEST)


def test_push_inspect_fetch(registry):
    """An index that is pushed comes back byte for byte, with images that are whole."""
    name, client = registry
    settings = Settings(default_registry=name)
    layers = {"generic": os.urandom(3 << 20), "cpu-skylake": os.urandom(1000)}
    for tag, layer in layers.items():
        put_image(client, parse_reference(f"{name}/qnib/plain-featuretest:{tag}"), layer)
    result = push_index(RECIPE, settings, client)
    found = client.fetch_document(result.reference)
    assert isinstance(found, Index)
    assert (found.raw, found.digest, found.media_type) == (result.raw, result.digest, DOCKER_INDEX)
    assert found.manifests[1].platform.features == ("cpu:skylake",)
    assert push_index(RECIPE, settings, client).digest == result.digest
    assert "2           - Feature: cpu:skylake" in inspect_text(
        inspect_image("qnib/bench", settings, client)
    )
    for entry, layer in zip(result.entries, layers.values(), strict=True):
        target = io.BytesIO()
        client.fetch_blob_to(result.reference, entry.manifest.layers[0], target)
        assert target.getvalue() == layer


def test_range(registry):
    """The rest of a blob can be had from docker-registry, as a broken transfer needs it."""
    name, client = registry
    reference = parse_reference(f"{name}/a")
    put_image(client, reference, b"0123456789")
    layer = client.fetch_document(reference).layers[0]
    check = BlobCheck(layer, "a")
    check.take(b"01234")
    _, answer = client._ask_blob(check, Endpoint(name, "a"), None)
    rest = b"".join(client._rest_of(answer, check))
    assert rest == b"56789"


def test_unknown(registry):
    """Unknown names and tags are told with docker-registry's own words."""
    name, client = registry
    with pytest.raises(NotFoundError, match=r"MANIFEST_UNKNOWN: manifest unknown"):
        client.fetch_document(parse_reference(f"{name}/qnib/nope"))


@pytest.mark.parametrize("registry", ["htpasswd"], indirect=True)
def test_wrong_password(registry):
    """A login that the registry does not know is AuthenticationError without the password."""
    name, _ = registry
    plain = RegistrySettings(plain_http=True)
    find = lambda *_: Credential("alice", "wrong")  # noqa: E731
    client = client_for(int(name.rpartition(":")[2]), find, plain)
    with pytest.raises(AuthenticationError, match=r"refuses access to .*UNAUTHORIZED") as caught:
        client.fetch_document(parse_reference(f"{name}/qnib/nope"))
    assert "wrong" not in caught.value.message
