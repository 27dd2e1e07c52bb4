"""Blobs through the hub: whole, in parts, as they come, and never a part for the whole."""

from __future__ import annotations

import http.client
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hub import RunningHub, authorization
from registry import Registry, digest_of
from test_cli import _put_index
from test_hub_serve import WORDS, login, settings_of

RAW = os.urandom(2_000_000)
PATH = f"/v2/qnib/bench/blobs/{digest_of(RAW)}"


@pytest.fixture
def registry():
    """Make a registry with a large blob."""
    with Registry() as running:
        _put_index(running, "qnib/bench", *WORDS)
        running.put_blob("qnib/bench", RAW)
        yield running


@pytest.fixture(params=["kept", "passing"])
def hub(request, registry, tmp_path):
    """Start a hub with room for blobs, and one without."""
    room = {"path": f"{tmp_path}/blobs", "bytes": 10**9 if request.param == "kept" else 0}
    with RunningHub(tmp_path / "x", settings_of(registry, tmp_path, cache=room)) as running:
        yield running


def test_a_blob_first_and_again(hub):
    """The same bytes as they come from the registry and later."""
    for _ in range(2):
        found = hub.ask(PATH, login("type1"))
        assert (found.status, found.body == RAW) == (200, True)
        assert found.headers["Docker-Content-Digest"] == digest_of(RAW)
        assert found.headers["ETag"] == f'"{digest_of(RAW)}"'
        assert "immutable" in found.headers["Cache-Control"]


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=1000000-", 1_000_000, 2_000_000),
        ("bytes=1999990-9999999", 1_999_990, 2_000_000),
        ("bytes=-5", 1_999_995, 2_000_000),
    ],
)
def test_parts(hub, wanted, start, end):
    """On its way and from the cache; containerd resumes so."""
    for _ in range(2):
        found = hub.ask(PATH, login("type1"), Range=wanted)
        assert found.status == 206
        assert found.headers["Content-Range"] == f"bytes {start}-{end - 1}/2000000"
        assert found.body == RAW[start:end]
        hub.ask(PATH, login("type1"))


def test_a_part_that_is_not_there(hub):
    """Behind the end there is nothing."""
    for _ in range(2):
        found = hub.ask(PATH, login("type1"), Range="bytes=2000000-")
        assert (found.status, found.headers["Content-Range"]) == (416, "bytes */2000000")
        hub.ask(PATH, login("type1"))


def test_head_brings_nothing(hub, registry):
    """Its length is asked for, and no more."""
    found = hub.ask(PATH, login("type1"), "HEAD")
    assert (found.status, found.headers["Content-Length"]) == (200, "2000000")
    assert [seen for seen in registry.log() if seen.startswith("GET /v2/qnib/bench/blobs")] == []


def test_many_at_once(hub, registry, request):
    """One fetch for all, where it is kept."""
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda _: hub.ask(PATH, login("type1")).body, range(12)))
    assert all(one == RAW for one in found)
    gets = [seen for seen in registry.log() if seen.startswith("GET") and "/blobs/" in seen]
    assert len(gets) == 1 or "passing" in request.node.name


def test_a_corrupted_blob_is_never_whole(hub, registry):
    """The connection breaks before the end; the client cannot take it for the blob."""
    registry.fail("GET /v2/qnib/bench/blobs", corrupt=True, times=-1)
    try:
        found = hub.ask(PATH, login("type1"))
    except (http.client.IncompleteRead, ConnectionError):
        pass
    else:
        assert found.status == 502
    registry.faults.clear()
    assert hub.ask(PATH, login("type1")).body == RAW


def test_answers_under_way_are_finished(registry, tmp_path):
    """SIGTERM waits for a client that still reads."""
    begun, go = threading.Event(), threading.Event()
    with RunningHub(tmp_path / "x", settings_of(registry, tmp_path)) as hub:
        hub.ask(PATH, login("type1"))

        def read():
            connection = hub.connect()
            connection.request(
                "GET", PATH, headers={"Authorization": authorization(login("type1"))}
            )
            answer = connection.getresponse()
            first = answer.read(1000)
            begun.set()
            go.wait(30)
            return first + answer.read()

        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read)
            assert begun.wait(30)
            hub._process.send_signal(signal.SIGTERM)
            go.set()
            assert reading.result(60) == RAW
        assert hub.stop(0)[0] == 0
