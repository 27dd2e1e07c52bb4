"""The client and manifests, on real sockets: what it asks, checks, refuses and says."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from clients import client_for, reference_to
from registry import DOCKER_MANIFEST, Registry

from hpcimg.errors import (
    AuthenticationError,
    DigestMismatchError,
    NotFoundError,
    RegistryError,
    SettingsError,
)
from hpcimg.oci.client import RegistryClient
from hpcimg.oci.credentials import no_credential
from hpcimg.oci.model import ACCEPT, Index, Manifest
from hpcimg.oci.reference import parse_reference
from hpcimg.registry_settings import RegistrySettings


@pytest.fixture
def registry():
    """Run a registry with one image."""
    with Registry() as running:
        running.put_image("qnib/bench", "latest", [b"layer"])
        yield running


def test_fetch_by_tag(registry):
    """A tag gives the parsed manifest with its raw bytes; the whole Accept list is sent."""
    found = client_for(registry).fetch_document(reference_to(registry, "qnib/bench"))
    assert isinstance(found, Manifest)
    assert found.raw == registry.documents["qnib/bench"]["latest"].raw
    assert registry.seen[0].headers["Accept"] == ", ".join(ACCEPT)
    assert registry.seen[0].headers["Accept-Encoding"] == "identity"


def test_fetch_by_digest_wins_over_the_tag(registry):
    """With tag and digest the digest is asked for."""
    digest = registry.put_image("qnib/bench", "old", [b"old"])
    name = f"{registry.name}/qnib/bench:latest@{digest}"
    assert client_for(registry).fetch_document(parse_reference(name)).digest == digest
    assert registry.log() == [f"GET /v2/qnib/bench/manifests/{digest} 200"]


def test_fetch_index(registry):
    """A Docker manifest list comes back as an index with its entries' features."""
    digest = registry.put_image("qnib/bench", "one", [b"one"])
    entry = {
        "mediaType": DOCKER_MANIFEST,
        "digest": digest,
        "size": 10,
        "platform": {"architecture": "amd64", "os": "linux", "features": ["cpu:broadwell"]},
    }
    media_type = "application/vnd.docker.distribution.manifest.list.v2+json"
    raw = json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": [entry]}).encode()
    registry.put_document("qnib/bench", "latest", media_type, raw)
    found = client_for(registry).fetch_document(reference_to(registry, "qnib/bench"))
    assert isinstance(found, Index)
    assert found.manifests[0].platform.features == ("cpu:broadwell",)


def test_changed_manifest_by_digest(registry):
    """Bytes that are not the digest's are refused, even when the registry vouches for them."""
    digest = registry.documents["qnib/bench"]["latest"]
    reference = reference_to(registry, "qnib/bench")
    good = client_for(registry).fetch_document(reference).digest
    registry.fail("GET", corrupt=True, headers={"Docker-Content-Digest": "sha256:" + "0" * 64})
    with pytest.raises(DigestMismatchError, match=f"content has the digest .* wanted was {good}"):
        client_for(registry).fetch_document(reference.with_digest(good))
    assert digest is registry.documents["qnib/bench"][good]


def test_changed_manifest_by_tag(registry):
    """By tag the registry's own Docker-Content-Digest is what the bytes must match."""
    registry.fail("GET", corrupt=True)
    with pytest.raises(DigestMismatchError, match=r'qnib/bench:latest": content has the digest'):
        client_for(registry).fetch_document(reference_to(registry, "qnib/bench"))


def test_unknown_name(registry):
    """A missing name is NotFoundError with the registry's own words."""
    with pytest.raises(NotFoundError) as caught:
        client_for(registry).fetch_document(reference_to(registry, "qnib/nope"))
    assert caught.value.message == (
        f'"{registry.name}/qnib/nope:latest" is not in the registry: '
        "MANIFEST_UNKNOWN: manifest unknown"
    )
    assert "check the name and the tag" in caught.value.hint


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_server_failure_is_retried(registry, status):
    """A failure that may pass is asked again, after a wait."""
    waits = []
    registry.fail("GET", status=status, times=2)
    client = client_for(registry, waits=waits)
    assert client.fetch_document(reference_to(registry, "qnib/bench"))
    assert len(registry.seen) == 3
    assert len(waits) == 2
    assert 0 < waits[0] <= 0.25 < waits[1] + 0.25 <= 0.75


def test_cut_connection_is_retried(registry):
    """A connection that ends without an answer is tried again."""
    registry.fail("GET", cut=True)
    assert client_for(registry).fetch_document(reference_to(registry, "qnib/bench"))
    assert len(registry.seen) == 2


def test_a_reset_connection_is_retried():
    """A connection that is reset is tried again, as often as any failure, and told as that."""
    accepted = []

    def reset(server):
        with contextlib.suppress(OSError):
            while True:
                connection = server.accept()[0]
                accepted.append(connection.recv(1))
                # Closed without lingering it is reset, with what was sent still unread.
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        resetting = threading.Thread(target=reset, args=(server,), daemon=True)
        resetting.start()
        name = f"127.0.0.1:{server.getsockname()[1]}"
        settings = {name: RegistrySettings(plain_http=True)}
        client = RegistryClient(settings, no_credential, listed_only=True, sleep=lambda _: None)
        with pytest.raises(RegistryError, match=r"connection reset by peer") as caught:
            client.fetch_document(parse_reference(f"{name}/a"))
        # A thread that still waits would take, once a signal wakes it, whatever has the number of
        # this descriptor by then, as another test's registry.
        server.shutdown(socket.SHUT_RDWR)
        resetting.join()
    assert caught.value.temporary
    assert len(accepted) == 4


def test_truncated_manifest_is_retried(registry):
    """A body shorter than announced is no manifest; it is asked for again."""
    registry.fail("GET", keep=7)
    assert client_for(registry).fetch_document(reference_to(registry, "qnib/bench"))


def test_retry_after_is_honoured(registry):
    """A 429 with Retry-After is asked again no sooner than it says."""
    waits = []
    registry.fail("GET", status=429, headers={"Retry-After": "7"})
    client_for(registry, waits=waits).fetch_document(reference_to(registry, "qnib/bench"))
    assert waits == [7.0]


def test_retry_after_as_a_date(registry):
    """A date counts from now."""
    waits = []
    date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=25), usegmt=True)
    registry.fail("GET", status=503, headers={"Retry-After": date})
    client_for(registry, waits=waits).fetch_document(reference_to(registry, "qnib/bench"))
    assert 0 < waits[0] <= 25


def test_retry_after_beyond_patience(registry):
    """A registry that asks for an hour gets no second request; the error says what to do."""
    body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}'
    registry.fail("GET", status=429, headers={"Retry-After": "3600"}, body=body)
    with pytest.raises(
        RegistryError, match=r"TOOMANYREQUESTS: slow down .HTTP status 429"
    ) as caught:
        client_for(registry).fetch_document(reference_to(registry, "qnib/bench"))
    assert caught.value.status == 429
    assert caught.value.temporary
    assert "limits requests" in caught.value.hint
    assert len(registry.seen) == 1


def test_lasting_failure(registry):
    """After the last try the error carries the status and is temporary."""
    registry.fail("GET", status=503, times=99)
    with pytest.raises(
        RegistryError, match=r'failed for ".*qnib/bench:latest": HTTP status 503'
    ) as e:
        client_for(registry).fetch_document(reference_to(registry, "qnib/bench"))
    assert (e.value.status, e.value.temporary) == (503, True)
    assert len(registry.seen) == 4


def test_hostile_error_text(registry):
    """Control characters of a registry's message are escaped, and the text is bounded."""
    message = "\x1b[2Jforged\nline" + "x" * 9000
    body = json.dumps({"errors": [{"code": "DENIED", "message": message}]}).encode()
    registry.fail("GET", status=400, body=body)
    with pytest.raises(RegistryError) as caught:
        client_for(registry).fetch_document(reference_to(registry, "qnib/bench"))
    assert "DENIED: \\x1b[2Jforged line" in caught.value.message
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500


def test_endless_manifest(registry):
    """A manifest beyond the limit is not read to its end."""
    registry.put_document("qnib/bench", "latest", DOCKER_MANIFEST, b" " * (5 << 20))
    with pytest.raises(RegistryError, match=r"sent more than 4194304 bytes"):
        client_for(registry).fetch_document(reference_to(registry, "qnib/bench"))


def test_unlisted_registry():
    """The store's account asks no registry that the settings do not list."""
    with Registry() as registry:
        client = client_for(listed_only=True)
        with pytest.raises(AuthenticationError, match=r"is not listed in the site's settings") as e:
            client.fetch_document(reference_to(registry, "qnib/bench"))
        assert f'"{registry.name}" under "registries:"' in e.value.hint
        assert registry.seen == []


def test_unlisted_registry_has_the_name_that_users_write(tmp_path, monkeypatch):
    """Not its API's host; a machine without any settings file is told so."""
    monkeypatch.setattr("hpcimg.settings.DEFAULT_PATH", tmp_path / "settings.yaml")
    client = client_for(listed_only=True)
    with pytest.raises(AuthenticationError, match=r'registry host "docker\.io" is not listed') as e:
        client.fetch_document(parse_reference("docker.io/library/alpine"))
    add = 'the administrator can add "docker.io" under "registries:" in the settings file'
    assert e.value.hint == f"there is no settings file on this node: {add}"
    (tmp_path / "settings.yaml").touch()
    with pytest.raises(AuthenticationError) as e:
        client.fetch_document(parse_reference("docker.io/library/alpine"))
    assert e.value.hint == add


def test_plain_http_needs_the_settings(registry):
    """A registry is asked by https unless the settings say plain http."""
    client = client_for(listed_only=False)
    with pytest.raises(RegistryError, match=f"could not reach https://{registry.name}/v2/") as e:
        client.fetch_document(reference_to(registry, "qnib/bench"))
    assert f'"plain_http: true" for "{registry.name}" under "registries:"' in e.value.hint
    assert registry.seen == []


def test_redirect_to_plain_http_is_refused():
    """A redirect may not lead to plain http at a host that the settings do not allow it for."""
    with Registry() as first, Registry() as second:
        target = f"http://{second.name}/v2/a/manifests/latest"
        first.fail("GET", status=307, headers={"Location": target})
        client = client_for(first, listed_only=False)
        with pytest.raises(RegistryError, match=r"uses plain http, which the site does not allow"):
            client.fetch_document(reference_to(first, "a"))
        assert second.seen == []


def test_redirect_to_unlisted_host_is_refused():
    """The store's account follows no redirect to a host that the settings do not list."""
    with Registry() as first:
        first.fail("GET", status=307, headers={"Location": "https://elsewhere.example/a?sig=hush"})
        with pytest.raises(AuthenticationError, match=r'"elsewhere.example" is not listed') as e:
            client_for(first).fetch_document(reference_to(first, "a"))
        assert "hush" not in str(e.value)
        assert e.value.message.endswith(f'; "{first.name}" redirects there')
        assert 'can add "elsewhere.example" under "registries:"' in e.value.hint


def test_redirect_that_parsers_read_differently_is_refused():
    """Before the backslash stands an unlisted host, which some parsers do not see."""
    with Registry() as first, Registry() as second:
        target = f"http://{second.name}\\@{first.name}/v2/a/manifests/latest"
        first.fail("GET", status=307, headers={"Location": target})
        with pytest.raises(RegistryError, match=r"is no http or https address"):
            client_for(first).fetch_document(reference_to(first, "a"))
        assert second.seen == []


@pytest.mark.parametrize("target", ["file:///etc/passwd", "http://[::1", "http://h:99999/", "ftp:"])
def test_redirect_to_no_url(registry, target):
    """A redirect to something else than an http address is an error, not a request."""
    registry.fail("GET", status=307, headers={"Location": target})
    with pytest.raises(RegistryError, match=r"is no http or https address|no URL"):
        client_for(registry).fetch_document(reference_to(registry, "qnib/bench"))


def test_redirect_loop(registry):
    """Redirects in a circle end."""
    registry.fail("GET", status=307, headers={"Location": "/v2/"}, times=99)
    with pytest.raises(RegistryError, match=r"redirects more than 5 times"):
        client_for(registry).fetch_document(reference_to(registry, "qnib/bench"))


def test_refused_connection(registry):
    """A registry that is down is a temporary failure, said in one line without Python's names."""
    name = registry.name
    registry.stop()
    settings = {name: RegistrySettings(plain_http=True)}
    client = RegistryClient(settings, no_credential, listed_only=True, sleep=lambda _: None)
    with pytest.raises(RegistryError) as caught:
        client.fetch_document(parse_reference(f"{name}/qnib/bench"))
    assert caught.value.message == (
        f"could not reach http://{name}/v2/qnib/bench/manifests/latest: connection refused"
    )
    assert (caught.value.status, caught.value.temporary) == (0, True)
    assert "is the registry up" in caught.value.hint


def test_ipv6_address_is_found_in_the_settings():
    """A listed registry that is named by its address is asked, in plain http where that is set."""
    settings = {"[::1]:1": RegistrySettings(plain_http=True)}
    client = RegistryClient(settings, no_credential, listed_only=True, sleep=lambda _: None)
    with pytest.raises(RegistryError, match=r"could not reach http://\[::1\]:1/v2/a/"):
        client.fetch_document(parse_reference("[::1]:1/a"))


def test_missing_ca_file(registry):
    """A ca_file that is not there is a wrong setting, not a lost connection."""
    settings = {registry.name: RegistrySettings(ca_file="/nonexistent/ca.pem")}
    client = RegistryClient(settings, no_credential, listed_only=True)
    with pytest.raises(SettingsError, match=r'"/nonexistent/ca.pem": no such file'):
        client.fetch_document(reference_to(registry, "qnib/bench"))


def test_no_netrc_login(registry, tmp_path, monkeypatch):
    """A login in ~/.netrc goes to no registry, whatever the HTTP library reads by itself."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login alice password hush\n")
    monkeypatch.setenv("NETRC", str(netrc))
    client_for(registry).fetch_document(reference_to(registry, "qnib/bench"))
    assert "Authorization" not in registry.seen[0].headers


def test_no_cookies(registry):
    """A registry's cookie does not come back: another port of the host would get it too."""
    client = client_for(registry)
    registry.fail("GET", headers={"Set-Cookie": "session=hush; Path=/"})
    for _ in range(2):
        client.fetch_document(reference_to(registry, "qnib/bench"))
    assert "Cookie" not in registry.seen[1].headers
