"""The hub's documents, before a registry on real sockets that is counted, changed and broken."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from clients import reference_to
from contents_room import STALE_AGE, TAG_SECONDS, Room
from registry import Registry, digest_of

from hpcimg.errors import AuthenticationError, NotFoundError, RegistryError, StoreError
from hpcimg.hub import at_hand, contents
from hpcimg.hub.database import KeptTag
from hpcimg.oci.transport import DEFAULT_PATIENCE

THREADS = 20


@pytest.fixture
def room():
    """Run a registry with one image."""
    with Registry() as registry:
        yield Room(registry)


def crowd(call):
    """Let twenty threads call at once; give their futures."""
    start = threading.Barrier(THREADS)

    def one():
        start.wait(60)
        return call()

    with ThreadPoolExecutor(THREADS) as pool:
        return [pool.submit(one) for _ in range(THREADS)]


def test_a_tag_is_asked_for_once(room):
    """Twenty threads that want the same tag cost one request, and its digest costs none."""
    answers = crowd(lambda: room.contents.document(room.tag))
    assert {answer.result().digest for answer in answers} == {room.digest}
    assert room.asked() == ["GET 200"]
    assert room.contents.document(room.by_digest).document.raw
    assert room.contents.peek(room.by_digest).digest == room.digest
    assert room.asked() == []


def test_bytes_are_the_registrys(room):
    """The raw bytes and the type are given and kept unchanged."""
    found = room.contents.document(room.tag)
    there = room.registry.documents["qnib/bench"]["1.0"]
    assert (found.document.raw, found.document.media_type) == (there.raw, there.media_type)
    kept = room.keep.documents[room.tag.name, room.digest]
    assert (kept.raw, kept.media_type, kept.made) == (there.raw, there.media_type, False)
    assert room.keep.kept_tags[room.tag.name, "1.0"] == KeptTag(room.digest, room.clock.time)


def test_peek_asks_nobody(room):
    """Memory alone answers while the tag is fresh, and no longer."""
    assert room.contents.peek(room.tag) is None
    room.contents.document(room.tag)
    room.clock.time += TAG_SECONDS - 1
    assert room.contents.peek(room.tag).digest == room.digest
    room.clock.time += 1
    assert room.contents.peek(room.tag) is None
    assert room.contents.peek(room.by_digest).digest == room.digest


def test_no_tag_is_latest(room):
    """A name alone means the tag that clients mean by it."""
    digest = room.registry.put_image("qnib/bench", "latest", [b"latest"])
    assert room.contents.document(reference_to(room.registry, "qnib/bench")).digest == digest


def test_an_unchanged_tag_costs_a_question(room):
    """After its time a tag is asked for without its content, once for all who wait."""
    room.contents.document(room.tag)
    room.asked()
    room.clock.time += TAG_SECONDS
    answers = crowd(lambda: room.contents.document(room.tag))
    assert {answer.result().digest for answer in answers} == {room.digest}
    assert room.asked() == ["HEAD 200"]
    assert room.contents.peek(room.tag) is not None


def test_a_moved_tag_is_seen(room):
    """After its time a tag gives what it stands for now; known content is not moved again."""
    room.contents.document(room.tag)
    newer = room.move()
    assert room.contents.document(room.tag).digest == room.digest
    room.clock.time += TAG_SECONDS
    room.asked()
    assert room.contents.document(room.tag).digest == newer
    assert room.asked() == ["HEAD 200", "GET 200"]
    room.move(b"layer")
    room.clock.time += TAG_SECONDS
    assert room.contents.document(room.tag).digest == room.digest
    assert room.asked() == ["HEAD 200"]


@pytest.mark.parametrize("headers", [{}, {"Docker-Content-Digest": "none"}])
@pytest.mark.parametrize("status", [0, 400, 404, 405, 403])
def test_a_registry_that_cannot_say(room, status, headers):
    """Where a question without content gets no digest, the content is asked for."""
    room.contents.document(room.tag)
    room.clock.time += TAG_SECONDS
    room.registry.fail("HEAD", status=status, headers=headers or {"Docker-Content-Digest": ""})
    assert not room.contents.document(room.tag).is_stale
    assert room.asked()[-1] == "GET 200"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_outage_is_survived(room, status):
    """A failing registry is answered for with what was known, and then left alone for a while."""
    room.contents.document(room.tag)
    room.clock.time += TAG_SECONDS
    room.out(status)
    room.asked()
    answers = crowd(lambda: room.contents.document(room.tag))
    assert {(one.result().digest, one.result().is_stale) for one in answers} == {
        (room.digest, True)
    }
    assert room.asked() == [f"HEAD {status}"] * DEFAULT_PATIENCE.attempts
    assert room.contents.peek(room.tag).is_stale
    room.clock.time += contents.BUSY_SECONDS if status == 429 else contents.PAUSE_SECONDS
    assert room.contents.peek(room.tag) is None
    room.back()
    assert not room.contents.document(room.tag).is_stale


def test_no_connection_is_survived(room):
    """A registry that is not there at all is answered for as well."""
    room.contents.document(room.tag)
    room.clock.time += TAG_SECONDS
    room.out(0, cut=True)
    assert room.contents.document(room.tag).is_stale


def test_stale_has_an_end(room):
    """What is older than `stale_age` is not given, and the failure is told, each time anew."""
    room.contents.document(room.tag)
    room.clock.time += STALE_AGE
    room.out()
    for _ in range(2):
        room.asked()
        with pytest.raises(RegistryError, match="503"):
            room.contents.document(room.tag)
        assert room.asked()
    room.back()
    assert not room.contents.document(room.tag).is_stale


def test_an_error_reaches_all(room):
    """Nobody who waits is left without the error of the one who asked."""
    room.out(401, headers={})
    for answer in crowd(lambda: room.contents.document(room.tag)):
        with pytest.raises(AuthenticationError):
            answer.result()


def test_a_lost_right_is_told(room):
    """Who may no longer read gets no old answer."""
    room.contents.document(room.tag)
    room.clock.time += TAG_SECONDS
    room.out(403)
    with pytest.raises(AuthenticationError, match="refuses access"):
        room.contents.document(room.tag)


def test_a_removed_tag_is_gone(room):
    """A tag that the registry no longer has is gone, also for the next outage and other copies."""
    room.contents.document(room.tag)
    del room.registry.documents["qnib/bench"]["1.0"]
    room.clock.time += TAG_SECONDS
    with pytest.raises(NotFoundError, match="not in the registry"):
        room.contents.document(room.tag)
    room.clock.time += TAG_SECONDS
    room.out()
    for one in (room.contents, room.copy()):
        with pytest.raises(RegistryError, match="503"):
            one.document(room.tag)


def test_what_is_missing_is_asked_for_rarely(room):
    """Twenty who want what is not there cost one request, and the next seconds none."""
    missing = reference_to(room.registry, "qnib/bench:2.0")
    for answer in crowd(lambda: room.contents.document(missing)):
        with pytest.raises(NotFoundError, match=r":2\.0"):
            answer.result()
    assert room.asked() == ["GET 404"]
    room.clock.time += contents.MISSING_SECONDS
    room.registry.put_image("qnib/bench", "2.0", [b"two"])
    assert room.contents.document(missing)
    assert room.asked() == ["GET 200"]


def test_names_of_nothing_are_forgotten(room, monkeypatch):
    """Inventing names fills no memory."""
    monkeypatch.setattr(contents, "MISSING_COUNT", 3)
    one = room.copy()
    for number in range(10):
        with pytest.raises(NotFoundError):
            one.document(reference_to(room.registry, f"qnib/bench:no{number}"))
    assert len(one._missing) == 3


def test_another_copy_knows(room):
    """A copy asks nobody for what another one asked lately; later it asks itself."""
    room.contents.document(room.tag)
    room.asked()
    other = room.copy()
    room.clock.time += TAG_SECONDS - 1
    assert other.document(room.tag).digest == room.digest
    assert other.document(room.by_digest).digest == room.digest
    assert room.asked() == []
    room.clock.time += 1
    newer = room.move()
    assert other.document(room.tag).digest == newer
    assert room.asked() == ["HEAD 200", "GET 200"]
    assert room.contents.document(room.tag).digest == newer
    assert room.asked() == []


def test_a_copy_with_another_clock(room):
    """What a copy wrote whose clock is ahead keeps nobody from asking."""
    room.contents.document(room.tag)
    room.keep.kept_tags[room.tag.name, "1.0"] = KeptTag(room.digest, room.clock.time + 86_400)
    newer = room.move()
    assert room.copy().document(room.tag).digest == newer


def test_a_restart_in_an_outage(room):
    """After a restart the keep answers for a registry that is away, by tag and by digest."""
    room.contents.document(room.tag)
    room.clock.time += TAG_SECONDS
    room.out(0, cut=True)
    again = room.copy()
    assert again.document(room.by_digest).digest == room.digest
    found = again.document(room.tag)
    assert (found.digest, found.is_stale) == (room.digest, True)


def test_digests_outlive_all(room):
    """A document by its digest is given at any age, whatever the registry says."""
    room.contents.document(room.by_digest)
    room.clock.time += 100 * STALE_AGE
    room.out(404)
    assert room.copy().document(room.by_digest).digest == room.digest
    assert not room.contents.document(room.by_digest).is_stale


def test_repositories_are_apart(room):
    """What one repository has is not given to another one by its digest."""
    room.contents.document(room.tag)
    other = reference_to(room.registry, "qnib/other").with_digest(room.digest)
    with pytest.raises(NotFoundError):
        room.contents.document(other)


def test_other_digests(room):
    """A document may be asked for by sha512, and is found by it again."""
    raw = room.registry.documents["qnib/bench"]["1.0"].raw
    digest = f"sha512:{hashlib.sha512(raw).hexdigest()}"
    documents = room.registry.documents["qnib/bench"]
    documents[digest] = documents["1.0"]
    reference = room.tag.with_digest(digest)
    assert room.contents.document(reference).digest == digest
    room.out()
    assert room.contents.peek(reference).digest == digest
    assert room.copy().document(reference).digest == digest


@pytest.mark.parametrize("raw", [b"{}", b"not JSON"])
def test_wrong_things_in_the_keep(room, raw):
    """What is kept is believed only if it is what its digest says; else the registry is asked."""
    room.contents.document(room.tag)
    key = (room.tag.name, room.digest)
    object.__setattr__(room.keep.documents[key], "raw", raw)
    assert room.copy().document(room.by_digest).digest == room.digest
    assert digest_of(room.keep.documents[key].raw) == room.digest


def test_a_keep_that_fails(room):
    """Without its keep the hub asks the registry, and answers."""
    room.keep.error = StoreError("the database is away")
    assert room.contents.document(room.tag).digest == room.digest
    room.clock.time += TAG_SECONDS
    newer = room.move()
    assert room.contents.document(room.tag).digest == newer
    room.clock.time += TAG_SECONDS
    room.out()
    assert room.contents.document(room.tag).is_stale


def test_memory_is_bounded(room, monkeypatch):
    """However many documents there are, memory holds so many bytes; the keep gives the others."""
    size = len(room.registry.documents["qnib/bench"]["1.0"].raw)
    monkeypatch.setattr(at_hand, "DOCUMENT_BYTES", 3 * size)
    one = room.copy()
    tags = [reference_to(room.registry, f"qnib/bench:t{number}") for number in range(10)]
    digests = [room.registry.put_image("qnib/bench", tag.tag, [tag.tag.encode()]) for tag in tags]
    assert [one.document(tag).digest for tag in tags] == digests
    assert one._at_hand._documents.weight <= 3 * size
    room.asked()
    by_digest = [room.tag.with_digest(digest) for digest in digests]
    assert [one.document(reference).digest for reference in by_digest] == digests
    assert room.asked() == []


def test_tags(room):
    """A list of tags is asked for once, is as new as a tag is, and survives an outage."""
    for answer in crowd(lambda: room.contents.tags(room.tag)):
        assert answer.result() == ("1.0",)
    assert room.asked() == ["GET 200"]
    room.registry.put_image("qnib/bench", "2.0", [b"two"])
    assert room.contents.tags(room.tag) == ("1.0",)
    room.clock.time += TAG_SECONDS
    assert room.contents.tags(room.tag) == ("1.0", "2.0")
    room.clock.time += TAG_SECONDS
    room.registry.fail("/tags/", status=503, times=10_000)
    assert room.contents.tags(room.tag) == ("1.0", "2.0")
    room.asked()
    assert room.contents.tags(room.tag) == ("1.0", "2.0")
    assert room.asked() == []
    room.clock.time += STALE_AGE
    with pytest.raises(RegistryError, match="503"):
        room.contents.tags(room.tag)
    with pytest.raises(RegistryError, match="503"):
        room.contents.tags(reference_to(room.registry, "qnib/other"))
