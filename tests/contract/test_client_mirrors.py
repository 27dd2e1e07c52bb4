"""The client and mirrors, on real sockets: which is asked, when the next one is, what they see."""

from __future__ import annotations

import logging
import socket

import pytest
from clients import client_for, login, reference_to
from registry import Registry, digest_of

from hpcimg.errors import DigestMismatchError, NotFoundError, RegistryError
from hpcimg.oci.answer import Timeouts
from hpcimg.oci.client import RegistryClient
from hpcimg.oci.credentials import Credential, no_credential
from hpcimg.oci.hosts import Surroundings
from hpcimg.oci.model import Descriptor
from hpcimg.oci.reference import parse_reference
from hpcimg.oci.registries_conf import Mirror, RegistryRule
from hpcimg.oci.transport import Patience
from hpcimg.registry_settings import RegistrySettings

BLOB = bytes(range(256)) * 5000
LAYER = Descriptor("application/octet-stream", digest_of(BLOB), len(BLOB))
NAME, THERE = "qnib/bench", "hub/qnib/bench"


@pytest.fixture
def both():
    """Run a registry with one image and one blob, and a mirror of it under `hub/`."""
    with Registry() as registry, Registry() as mirror:
        registry.put_image(NAME, "latest", [b"layer"])
        mirror.put_image(THERE, "latest", [b"layer"])
        registry.put_blob(NAME, BLOB)
        mirror.put_blob(THERE, BLOB)
        yield registry, mirror


def mirrored(registry, *mirrors, **others):
    """Make a client for a registry with these mirrors."""
    places = tuple(f"{mirror.name}/hub" for mirror in mirrors)
    return client_for(registry, *mirrors, mirrors=places, **others)


def fetch(client, registry) -> bytes:
    """Fetch the blob."""
    return b"".join(client.fetch_blob(reference_to(registry, NAME), LAYER))


def test_the_mirror_serves_all(both):
    """What the mirror has is not asked of the registry; the image keeps its name."""
    registry, mirror = both
    client = mirrored(registry, mirror)
    assert client.fetch_document(reference_to(registry, NAME)).digest
    assert fetch(client, registry) == BLOB
    assert registry.seen == []
    assert mirror.log() == [
        f"GET /v2/{THERE}/manifests/latest 200",
        f"GET /v2/{THERE}/blobs/{LAYER.digest} 200",
    ]


@pytest.mark.parametrize("fault", [{"status": 404}, {"status": 500}, {"status": 401},
                                   {"status": 429, "headers": {"Retry-After": "20"}},
                                   {"cut": True}])  # fmt: skip
def test_the_next_place_is_asked_at_once(both, fault):
    """A mirror that lacks, refuses or fails is not waited for: it is tried once."""
    registry, mirror = both
    waits = []
    client = mirrored(registry, mirror, waits=waits)
    mirror.fail("GET", times=99, **fault)
    assert client.fetch_document(reference_to(registry, NAME))
    assert fetch(client, registry) == BLOB
    assert waits == []
    assert [seen.status for seen in registry.seen] == [200, 200]


def test_a_mirror_that_is_down_costs_one_try(both, caplog):
    """After a failure a mirror is left alone for a while, with one warning."""
    registry, mirror = both
    client = mirrored(registry, mirror)
    mirror.stop()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            client.fetch_document(reference_to(registry, NAME))
    assert len(registry.seen) == 3
    assert caplog.text.count("is passed over: could not reach") == 1


def test_a_mirror_that_never_answers(both, caplog):
    """A mirror that takes the question and says nothing is passed over after its time."""
    registry, _ = both
    with socket.create_server(("127.0.0.1", 0)) as silent:
        name = f"127.0.0.1:{silent.getsockname()[1]}"
        settings = {
            registry.name: RegistrySettings(plain_http=True, mirrors=(name,)),
            name: RegistrySettings(plain_http=True),
        }
        # The registry itself may be slower than that on a busy machine.
        client = RegistryClient(
            settings,
            no_credential,
            listed_only=True,
            timeouts=Timeouts(read=0.3),
            patience=Patience(attempts=50, longest=1.0),
        )
        assert client.fetch_document(reference_to(registry, NAME))
    assert f'mirror "{name}" is passed over' in caplog.text
    assert "it did not answer in time" in caplog.text


def test_a_mirror_that_failed_helps_when_the_registry_does(both):
    """Two that fail in turn still serve one image."""
    registry, mirror = both
    client = mirrored(registry, mirror)
    mirror.fail("GET", status=503)
    client.fetch_document(reference_to(registry, NAME))
    registry.fail("GET", status=503, times=99)
    client.fetch_document(reference_to(registry, NAME))
    assert mirror.log()[-1].endswith(" 200")


def test_wrong_bytes_of_a_mirror_are_an_error(both):
    """A mirror that changes content is told, not passed over in silence."""
    registry, mirror = both
    client = mirrored(registry, mirror)
    digest = client.fetch_document(reference_to(registry, NAME)).digest
    mirror.fail("GET", corrupt=True)
    with pytest.raises(DigestMismatchError, match="content has the digest"):
        client.fetch_document(reference_to(registry, NAME).with_digest(digest))
    mirror.fail("GET", corrupt=True)
    with pytest.raises(DigestMismatchError, match="has the digest sha256:"):
        fetch(client, registry)
    assert registry.seen == []


def test_a_broken_transfer_goes_on_elsewhere(both):
    """The registry is asked for the rest of what a mirror began."""
    registry, mirror = both
    mirror.fail("GET", keep=300_000)
    assert fetch(mirrored(registry, mirror), registry) == BLOB
    assert registry.seen[0].headers["Range"] == "bytes=300000-"
    assert registry.seen[0].status == 206


def test_the_registry_has_the_last_word(both):
    """Where nobody has it, the registry's own answer is the error."""
    registry, mirror = both
    with pytest.raises(NotFoundError, match="MANIFEST_UNKNOWN"):
        mirrored(registry, mirror).fetch_document(reference_to(registry, "qnib/nope"))
    assert [len(one.seen) for one in both] == [1, 1]


def test_mirrors_are_asked_in_order(both):
    """The second one serves what the first one lacks."""
    registry, mirror = both
    with Registry() as empty:
        client = mirrored(registry, empty, mirror)
        assert client.fetch_document(reference_to(registry, NAME))
        assert [len(one.seen) for one in (empty, mirror, registry)] == [1, 1, 0]


def test_the_registry_s_login_stays_with_it():
    """A mirror gets its own login for its own repository, or none."""
    with Registry(auth="basic", users={"alice": "a"}) as registry, Registry() as mirror:
        registry.put_image(NAME, "latest", [b"layer"])
        asked = []

        def find(host, repository):
            asked.append((host, repository))
            return Credential("alice", "a") if host == registry.name else None

        mirror.auth = "basic"
        client = mirrored(registry, mirror, find=find)
        assert client.fetch_document(reference_to(registry, NAME))
        assert asked == [(mirror.name, THERE), (registry.name, NAME)]
        assert ["Authorization" in seen.headers for seen in mirror.seen] == [False]
        assert registry.seen[-1].headers["Authorization"].startswith("Basic ")


def test_a_mirror_s_own_login(both):
    """A mirror that wants a login gets the one for its host."""
    registry, mirror = both
    mirror.auth, mirror.users = "token", {"bob": "b"}
    client = mirrored(registry, mirror, find=login("bob", "b"))
    assert client.fetch_document(reference_to(registry, NAME))
    assert mirror.seen[1].query["scope"] == [f"repository:{THERE}:pull"]
    assert registry.seen == []


def test_a_mirror_of_another_host_is_not_asked(both):
    """The site's account asks no mirror that stands for a host which is not listed."""
    registry, mirror = both
    rule = RegistryRule(registry.name, registry.name, mirrors=(Mirror(f"{mirror.name}/hub"),))
    settings = {"other.site": RegistrySettings()}
    around = Surroundings((rule,))
    client = RegistryClient(settings, no_credential, listed_only=True, around=around)
    with pytest.raises(Exception, match="is not listed in the site's settings"):
        client.fetch_document(reference_to(registry, NAME))
    assert registry.seen == mirror.seen == []


def test_an_insecure_location_by_plain_http(both):
    """registries.conf's `insecure` tries TLS first; what is moved there is asked there."""
    _, mirror = both
    rule = RegistryRule("docker.io/qnib", f"{mirror.name}/hub/qnib", insecure=True)
    client = RegistryClient(
        {}, no_credential, listed_only=False, around=Surroundings((rule,)), sleep=lambda _: None
    )
    assert client.fetch_document(parse_reference(NAME)).digest
    assert mirror.log()[-1] == f"GET /v2/{THERE}/manifests/latest 200"


def test_pushes_pass_mirrors_by(both):
    """What is written, and what is looked up for that, is the registry's own."""
    registry, mirror = both
    client = mirrored(registry, mirror)
    raw = registry.documents[NAME]["latest"].raw
    media_type = registry.documents[NAME]["latest"].media_type
    client.put_manifest(reference_to(registry, f"{NAME}:new"), raw, media_type)
    assert client.has_manifest(reference_to(registry, f"{NAME}:new"))
    assert client.tags(reference_to(registry, NAME)) == ("latest", "new")
    assert mirror.seen == []


def test_a_broken_registry_is_told_with_its_own_words(both):
    """With all places down the error is the registry's, and it may pass."""
    registry, mirror = both
    for one in both:
        one.fail("GET", status=500, times=99)
    with pytest.raises(RegistryError, match=f'registry "{registry.name}" failed') as caught:
        fetch(mirrored(registry, mirror), registry)
    assert caught.value.temporary
    assert len(mirror.seen) == 1
    assert len(registry.seen) == 4
