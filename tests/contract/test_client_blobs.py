"""The client and blobs, on real sockets: streams, ranges, redirects, uploads."""

from __future__ import annotations

import io

import pytest
from clients import client_for, login, reference_to
from registry import Registry, digest_of

from hpcimg.errors import DigestMismatchError, NotFoundError, RegistryError
from hpcimg.oci.answer import Timeouts
from hpcimg.oci.client import RegistryClient
from hpcimg.oci.credentials import no_credential
from hpcimg.oci.model import Descriptor
from hpcimg.registry_settings import RegistrySettings

BLOB = bytes(range(256)) * 5000


@pytest.fixture
def registry():
    """Run a registry with one blob."""
    with Registry() as running:
        running.put_blob("qnib/bench", BLOB)
        yield running


def descriptor_of(raw: bytes, size: int | None = None) -> Descriptor:
    """Describe bytes as a layer."""
    size = len(raw) if size is None else size
    return Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", digest_of(raw), size)


def fetch(client, registry, descriptor):
    """Fetch a blob of qnib/bench into memory and report the progress that was told."""
    target, told = io.BytesIO(), []
    client.fetch_blob_to(reference_to(registry, "qnib/bench"), descriptor, target, told.append)
    return target.getvalue(), told


def test_fetch_blob(registry):
    """A blob arrives whole; progress adds up to its size."""
    raw, told = fetch(client_for(registry), registry, descriptor_of(BLOB))
    assert raw == BLOB
    assert sum(told) == len(BLOB)


def test_empty_blob(registry):
    """A blob of no bytes is a blob."""
    registry.put_blob("qnib/bench", b"")
    assert fetch(client_for(registry), registry, descriptor_of(b""))[0] == b""


def test_broken_transfer_is_resumed(registry):
    """After a lost connection only the rest is asked for."""
    registry.fail("GET", keep=300_000)
    assert fetch(client_for(registry), registry, descriptor_of(BLOB))[0] == BLOB
    assert [seen.status for seen in registry.seen] == [200, 206]
    assert registry.seen[1].headers["Range"] == "bytes=300000-"


def test_resume_without_ranges(registry):
    """A registry that ignores Range sends all again; the bytes that are there are skipped."""
    registry.ranges = False
    registry.fail("GET", keep=300_000)
    assert fetch(client_for(registry), registry, descriptor_of(BLOB))[0] == BLOB
    assert [seen.status for seen in registry.seen] == [200, 200]


def test_wrong_range(registry):
    """A 206 of another range than asked for is refused."""
    registry.fail("GET", keep=300_000)
    wrong = {"Content-Range": f"bytes 0-1/{len(BLOB)}"}
    registry.fail("GET", headers=wrong)
    with pytest.raises(RegistryError, match=r"sent another range than asked for"):
        fetch(client_for(registry), registry, descriptor_of(BLOB))


def test_transfer_that_always_breaks(registry):
    """A transfer that breaks at the same place every time ends with a temporary error."""
    registry.ranges = False
    registry.fail("GET", keep=10, times=99)
    with pytest.raises(RegistryError, match=r"the connection") as caught:
        fetch(client_for(registry), registry, descriptor_of(BLOB))
    assert caught.value.temporary
    assert len(registry.seen) == 4


def test_transfer_that_drips(registry):
    """A registry that always sends a next byte in time, and never enough, is given up."""
    settings = {registry.name: RegistrySettings(plain_http=True)}
    drip = Timeouts(window=0.0, slowest=1e18)
    client = RegistryClient(
        settings, no_credential, listed_only=True, timeouts=drip, sleep=lambda _: None
    )
    with pytest.raises(RegistryError, match=r"it sends less than 1e\+18 bytes/s") as caught:
        fetch(client, registry, descriptor_of(BLOB))
    assert caught.value.temporary
    assert len(registry.seen) == 4


def test_changed_blob(registry):
    """Bytes with another digest are an error, and are not fetched a second time."""
    registry.fail("GET", corrupt=True)
    with pytest.raises(DigestMismatchError, match=r'/qnib/bench@sha256:.*" has the digest sha256:'):
        fetch(client_for(registry), registry, descriptor_of(BLOB))
    assert len(registry.seen) == 1


@pytest.mark.parametrize("size", [len(BLOB) - 1, len(BLOB) + 1])
def test_size_is_checked_first(registry, size):
    """A blob of another size than the descriptor's is refused by its announced length."""
    with pytest.raises(DigestMismatchError, match=f"has {len(BLOB)} bytes, its descriptor says"):
        fetch(client_for(registry), registry, descriptor_of(BLOB, size))


def test_missing_blob(registry):
    """A blob that is not there is NotFoundError with the registry's words."""
    with pytest.raises(NotFoundError, match=r"BLOB_UNKNOWN: blob unknown to registry"):
        fetch(client_for(registry), registry, descriptor_of(b"other"))


def test_redirect_drops_credentials():
    """A redirect to another port gets no Authorization, and its query is in no message."""
    with Registry(auth="basic", users={"alice": "hush"}) as first, Registry() as second:
        first.put_blob("qnib/bench", BLOB)
        second.put_blob("qnib/bench", BLOB)
        first.redirect_blobs_to = f"http://{second.name}"
        client = client_for(first, second, find=login("alice", "hush"))
        assert fetch(client, first, descriptor_of(BLOB))[0] == BLOB
        assert "Authorization" in first.seen[1].headers
        assert "Authorization" not in second.seen[0].headers
        second.fail("GET", cut=True, times=99)
        with pytest.raises(RegistryError) as caught:
            fetch(client, first, descriptor_of(BLOB))
        assert "signature" not in caught.value.message


def test_challenge_of_a_redirect_target_is_not_answered():
    """A 401 of the host that a redirect leads to does not get the registry's login."""
    with Registry() as first, Registry(auth="basic", users={"alice": "hush"}) as second:
        first.put_blob("qnib/bench", BLOB)
        first.redirect_blobs_to = f"http://{second.name}"
        client = client_for(first, second, find=login("alice", "hush"))
        with pytest.raises(Exception, match=r"refuses access to"):
            fetch(client, first, descriptor_of(BLOB))
        assert ["Authorization" in seen.headers for seen in second.seen] == [False]


def test_same_origin_redirect_keeps_credentials():
    """A redirect within the registry stays authorised."""
    with Registry(auth="basic", users={"alice": "hush"}) as registry:
        digest = registry.put_blob("qnib/other", BLOB)
        registry.put_blob("qnib/bench", BLOB)
        client = client_for(registry, find=login("alice", "hush"))
        fetch(client, registry, descriptor_of(BLOB))
        registry.fail(
            "GET /v2/qnib/bench", status=302, headers={"Location": f"/v2/qnib/other/blobs/{digest}"}
        )
        registry.fail("GET /v2/qnib/bench", status=302, headers={"Location": "../../other/blobs/x"})
        assert fetch(client, registry, descriptor_of(BLOB))[0] == BLOB
        assert registry.log()[-1] == f"GET /v2/qnib/other/blobs/{digest} 200"


def test_upload(registry):
    """A blob is uploaded with its length in one request and is there afterwards."""
    reference, client = reference_to(registry, "qnib/new"), client_for(registry)
    descriptor = descriptor_of(b"new blob")
    assert not client.has_blob(reference, descriptor.digest)
    client.put_blob(reference, descriptor, io.BytesIO(b"new blob"))
    assert client.has_blob(reference, descriptor.digest)
    assert registry.seen[2].headers["Content-Length"] == "8"


def test_upload_location_on_another_host():
    """An upload that is sent to another host goes there without credentials."""
    with Registry(auth="basic", users={"alice": "hush"}) as first, Registry() as second:
        second.uploads.add("there")
        client = client_for(first, second, find=login("alice", "hush"))
        descriptor = descriptor_of(b"new blob")
        client.has_blob(reference_to(first, "qnib/new"), descriptor.digest)
        location = f"http://{second.name}/v2/qnib/new/blobs/uploads/there"
        first.fail("POST", status=202, headers={"Location": location})
        client.put_blob(reference_to(first, "qnib/new"), descriptor, io.BytesIO(b"new blob"))
        assert second.blobs[descriptor.digest] == b"new blob"
        assert "Authorization" not in second.seen[0].headers


def test_mount(registry):
    """A blob of another repository is linked without its bytes being moved."""
    client, reference = client_for(registry), reference_to(registry, "qnib/new")
    assert client.mount_blob(reference, digest_of(BLOB), "qnib/bench")
    assert client.has_blob(reference, digest_of(BLOB))


def test_refused_mount_leaves_no_upload(registry):
    """When the registry cannot mount, the upload it opens instead is closed."""
    client, reference = client_for(registry), reference_to(registry, "qnib/new")
    assert not client.mount_blob(reference, digest_of(b"unknown"), "qnib/bench")
    assert registry.uploads == set()


def test_begun_bytes_are_not_asked_for(registry):
    """First bytes that are there already are checked with the rest, which alone is given."""
    begun = [BLOB[:1000], BLOB[1000:5000]]
    client = client_for(registry)
    rest = client.fetch_blob(reference_to(registry, "qnib/bench"), descriptor_of(BLOB), begun)
    assert b"".join(rest) == BLOB[5000:]
    assert registry.seen[0].headers["Range"] == "bytes=5000-"


def test_whole_blob_begun(registry):
    """When everything is there already nothing is asked for; it is checked all the same."""
    reference, client = reference_to(registry, "qnib/bench"), client_for(registry)
    assert list(client.fetch_blob(reference, descriptor_of(BLOB), [BLOB])) == []
    with pytest.raises(DigestMismatchError, match=r"has the digest"):
        list(client.fetch_blob(reference, descriptor_of(BLOB), [BLOB[::-1]]))
    assert registry.seen == []


def test_wrong_bytes_begun(registry):
    """Wrong first bytes are found when the rest is there."""
    reference = reference_to(registry, "qnib/bench")
    with pytest.raises(DigestMismatchError, match=r"has the digest"):
        list(client_for(registry).fetch_blob(reference, descriptor_of(BLOB), [b"wrong"]))


def test_blob_size(registry):
    """The size is asked for without the blob."""
    reference, client = reference_to(registry, "qnib/bench"), client_for(registry)
    assert client.blob_size(reference.with_digest(digest_of(BLOB))) == len(BLOB)
    with pytest.raises(NotFoundError):
        client.blob_size(reference.with_digest(digest_of(b"other")))
    registry.fail("HEAD", headers={"Content-Length": "many"})
    with pytest.raises(RegistryError, match=r"does not say how long it is"):
        client.blob_size(reference.with_digest(digest_of(BLOB)))
    assert {seen.method for seen in registry.seen} == {"HEAD"}


def test_manifest_digest(registry):
    """What a tag stands for is asked for without the manifest."""
    digest = registry.put_image("qnib/bench", "1.0", [b"layer"])
    reference, client = reference_to(registry, "qnib/bench:1.0"), client_for(registry)
    assert client.manifest_digest(reference) == digest
    registry.fail("HEAD", headers={"Docker-Content-Digest": "sha256:short"})
    assert client.manifest_digest(reference) is None
    assert {seen.method for seen in registry.seen} == {"HEAD"}
