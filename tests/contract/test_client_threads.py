"""One client that several threads share, as the converter's: tokens, connections, whole blobs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from clients import client_for, login, reference_to
from registry import Registry, digest_of

from hpcimg.oci.model import Descriptor

BLOBS = [bytes([number]) * 400_000 for number in range(12)]


@pytest.fixture
def registry():
    """Run a registry with tokens and twelve blobs."""
    with Registry(auth="token", users={"alice": "hush"}) as running:
        for blob in BLOBS:
            running.put_blob("qnib/bench", blob)
        yield running


def fetch_all(client, registry) -> list[bytes]:
    """Fetch all blobs at once, one thread for each."""
    reference = reference_to(registry, "qnib/bench")
    start = threading.Barrier(len(BLOBS))

    def fetch(raw: bytes) -> bytes:
        start.wait()
        descriptor = Descriptor("application/octet-stream", digest_of(raw), len(raw))
        return b"".join(client.fetch_blob(reference, descriptor))

    with ThreadPoolExecutor(len(BLOBS)) as pool:
        return list(pool.map(fetch, BLOBS))


def tokens(registry) -> int:
    """Count the tokens that were asked for."""
    return sum(seen.path == "/token" for seen in registry.seen)


def test_threads_share_one_token(registry):
    """Threads that are refused at once ask for one token, and each blob arrives whole."""
    client = client_for(registry, find=login("alice", "hush"), connections=len(BLOBS))
    assert fetch_all(client, registry) == BLOBS
    assert tokens(registry) == 1


def test_threads_renew_a_token_once(registry):
    """A token that ends while threads use it is renewed by one of them."""
    client = client_for(registry, find=login("alice", "hush"), connections=len(BLOBS))
    fetch_all(client, registry)
    registry.tokens.clear()
    assert fetch_all(client, registry) == BLOBS
    assert tokens(registry) == 2


def test_a_host_s_connections_are_bounded(registry):
    """Never are more requests open at a host than the settings allow."""
    client = client_for(registry, find=login("alice", "hush"), connections=2)
    assert fetch_all(client, registry) == BLOBS
    assert 1 <= registry.most_connections <= 2


def test_connections_are_used_again(registry):
    """Twelve blobs, one after the other, need one connection."""
    client = client_for(registry, find=login("alice", "hush"), connections=1)
    reference = reference_to(registry, "qnib/bench")
    for raw in BLOBS:
        descriptor = Descriptor("application/octet-stream", digest_of(raw), len(raw))
        assert b"".join(client.fetch_blob(reference, descriptor)) == raw
    assert registry.connections == 1


def test_a_stream_that_is_left_gives_its_connection_back(registry):
    """A reader that stops early blocks nobody, though one connection is all there is."""
    client = client_for(registry, find=login("alice", "hush"), connections=1)
    reference = reference_to(registry, "qnib/bench")
    for raw in BLOBS:
        descriptor = Descriptor("application/octet-stream", digest_of(raw), len(raw))
        stream = client.fetch_blob(reference, descriptor)
        next(stream)
        stream.close()
