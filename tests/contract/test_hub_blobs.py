"""The hub's blobs: brought once for all, verified before the end, bounded, given to who may."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from registry import Registry

import hpcimg
from hpcimg.errors import HpcimgError, NotFoundError, UsageError
from hpcimg.hub.blobs import BlobCache
from hpcimg.oci.client import RegistryClient
from hpcimg.oci.credentials import no_credential
from hpcimg.oci.reference import Reference
from hpcimg.registry_settings import RegistrySettings

RAW = os.urandom(3_000_000)


@pytest.fixture
def registry():
    """Make a registry with one large blob in one repository."""
    with Registry() as running:
        running.large = running.put_blob("a/b", RAW)
        yield running


def client_of(registry):
    """Make a client of the registry that never waits."""
    site = {registry.name: RegistrySettings(plain_http=True)}
    return RegistryClient(site, no_credential, listed_only=True, sleep=lambda _: None)


@pytest.fixture
def cache(registry, tmp_path):
    """Make a cache with room for three such blobs."""
    made = BlobCache(tmp_path / "blobs", 10_000_000, client_of(registry))
    yield made
    made.close()


def blob(registry, digest=None, repository="a/b"):
    """Name a blob."""
    return Reference(registry.name, repository, None, digest or registry.large)


def whole(cache, reference):
    """Read a blob to its end, in pieces."""
    reader = cache.open(reference)
    try:
        pieces = [reader.read(at, 100_000) for at in range(0, reader.size, 100_000)]
    finally:
        reader.close()
    return b"".join(pieces)


def gets(registry):
    """Count the requests for blobs' bytes."""
    return [seen for seen in registry.seen if seen.method == "GET" and "/blobs/" in seen.path]


def settled(cache):
    """Wait until nothing is on its way: the last reader may be done before the rename."""
    while cache._flights:
        time.sleep(0.01)


def test_many_readers_one_fetch(registry, cache):
    """Twenty at once; later ones come from the file."""
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda _: whole(cache, blob(registry)), range(20)))
    assert set(map(len, found)) == {len(RAW)}
    assert all(one == RAW for one in found)
    settled(cache)
    reader = cache.open(blob(registry))
    assert reader.path.read_bytes() == RAW
    reader.close()
    assert len(gets(registry)) == 1


def test_a_restarted_hub_needs_no_upstream(registry, cache, tmp_path):
    """What was brought is there, and for whom, while the registry is away."""
    whole(cache, blob(registry))
    settled(cache)
    registry.fail("/blobs/", status=503, times=-1)
    again = BlobCache(tmp_path / "blobs", 10_000_000, client_of(registry))
    assert whole(again, blob(registry)) == RAW
    with pytest.raises(HpcimgError):
        again.open(blob(registry, repository="other/one"))


def test_corrupted_bytes_never_end_well(registry, cache, tmp_path):
    """The reader's stream breaks before its last bytes, and nothing is kept."""
    registry.fail("GET", corrupt=True, times=-1)
    with pytest.raises(HpcimgError):
        whole(cache, blob(registry))
    settled(cache)
    assert [one for one in (tmp_path / "blobs").rglob("*") if one.is_file()] == []
    registry.faults.clear()
    assert whole(cache, blob(registry)) == RAW


def test_a_cached_blob_is_for_its_repositories(registry, cache):
    """Another one has to prove by its registry that it has the blob; it is asked once."""
    whole(cache, blob(registry))
    with pytest.raises(NotFoundError):
        cache.open(blob(registry, repository="c/d"))
    registry.put_blob("e/f", RAW)
    assert whole(cache, blob(registry, repository="e/f")) == RAW
    assert whole(cache, blob(registry, repository="e/f")) == RAW
    heads = [one for one in registry.seen if one.method == "HEAD" and "e/f" in one.path]
    assert len(heads) == 1
    assert len(gets(registry)) == 1


def test_the_longest_unused_goes(registry, tmp_path):
    """The limit holds, and what is read is not removed."""
    now = iter(range(1, 100))
    cache = BlobCache(tmp_path / "blobs", 7_000_000, client_of(registry), lambda: next(now))
    digests = [registry.put_blob("a/b", os.urandom(3_000_000)) for _ in range(3)]
    for digest in (digests[0], digests[1]):
        whole(cache, blob(registry, digest))
        settled(cache)
    held = cache.open(blob(registry, digests[0]))
    whole(cache, blob(registry, digests[2]))
    settled(cache)
    kept = {one.name for one in (tmp_path / "blobs").rglob("*") if len(one.name) == 64}
    assert kept == {digests[0][7:], digests[2][7:]}
    assert held.read(0, 10)
    held.close()


@pytest.mark.parametrize("limit", [0, 1_000_000])
def test_what_has_no_room_streams_by(registry, tmp_path, limit):
    """Whole and verified, for readers at once, with nothing left."""
    cache = BlobCache(tmp_path / "blobs", limit, client_of(registry))
    with ThreadPoolExecutor(5) as pool:
        found = list(pool.map(lambda _: whole(cache, blob(registry)), range(5)))
    assert all(one == RAW for one in found)
    settled(cache)
    assert [one for one in (tmp_path / "blobs").rglob("*") if one.is_file()] == []


def test_what_is_no_digest_is_no_path(registry, cache):
    """Nothing else becomes a file's name."""
    for digest in ("../../x", "sha256:../../x", "", "sha256:abc"):
        with pytest.raises(UsageError):
            cache.open(Reference(registry.name, "a/b", None, digest))


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from test_hub_blobs import *
from types import SimpleNamespace
registry = SimpleNamespace(name=sys.argv[2], large=sys.argv[4])
cache = BlobCache(Path(sys.argv[3]), 10_000_000, client_of(registry))
reader = cache.open(blob(registry))
reader.read(0, 1000)
print("begun", flush=True)
reader.read(reader.size - 1, 1)
print("whole", flush=True)
"""


def test_what_a_killed_hub_left_is_taken_over(registry, cache, tmp_path):
    """Resumed from where it stood, and right in the end."""
    stop = threading.Event()
    served = registry._server.RequestHandlerClass
    plain = served._blob

    def slow(handler, repository, digest):
        if handler.command == "GET" and not handler.headers.get("Range"):
            handler._note(200)
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(RAW)))
            handler.end_headers()
            handler.wfile.write(RAW[:2_000_000])
            handler.wfile.flush()
            stop.wait(60)
            handler.close_connection = True
        else:
            plain(handler, repository, digest)

    served._blob = slow
    here = str(Path(__file__).parent)
    words = [here, registry.name, str(tmp_path / "blobs"), registry.large]
    environment = {**os.environ, "PYTHONPATH": str(Path(hpcimg.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout.readline() == "begun\n"
    with ThreadPoolExecutor(1) as pool:
        mine = pool.submit(whole, cache, blob(registry))
        process.send_signal(signal.SIGKILL)
        process.wait()
        stop.set()
        assert mine.result(60) == RAW
    process.stdout.close()
    assert any(one.headers.get("Range") for one in gets(registry))
