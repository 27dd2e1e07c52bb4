"""Several copies of the hub on one database, restarts, and upstreams that fail or limit."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest
from hub import OCI_INDEX, RunningHub
from registry import Registry
from test_cli import _put_index
from test_hub_database import server  # noqa: F401 - a fixture
from test_hub_serve import NAME, WORDS, login, settings_of

from hpcimg.hub.account import Account, Role
from hpcimg.hub.database import Database
from hpcimg.workflow.hub_admin import HubAdmin


@pytest.fixture
def registry():
    """Make a registry with the announcement's image."""
    with Registry() as running:
        running.digests = _put_index(running, "qnib/bench", *WORDS)
        yield running


@contextmanager
def two(registry, folder, **more):
    """Start two copies on one database, each with a cache of its own."""
    texts = [
        settings_of(registry, folder, cache={"path": f"{folder}/blobs{n}"}, **more) for n in "12"
    ]
    with RunningHub(folder / "1", texts[0]) as first, RunningHub(folder / "2", texts[1]) as second:
        yield first, second


def same_everywhere(first, second, registry):
    """What one copy gave out, the other knows."""
    found = first.ask(NAME, login("type1"), Accept=OCI_INDEX)
    digest = found.headers["Docker-Content-Digest"]
    again = second.ask(f"/v2/qnib/bench/manifests/{digest}", login("type2"))
    assert (again.status, again.body) == (200, found.body)
    text = first.ask("/token?scope=repository:qnib/bench:pull", login("type4")).json()["token"]
    given = second.ask(NAME, text)
    assert given.headers["Docker-Content-Digest"] == registry.digests[3]
    body = json.dumps(
        {"account": "qnib", "name": "new", "features": ["cpu:skylake"], "password": "p"}
    )
    kind = "application/json"
    assert first.ask("/api/v1/types", "root:root", "POST", body, Content_Type=kind).status == 201
    # The other copy looks once a second.
    statuses = (second.ask("/v2/", "qnib-new:p").status for _ in range(10_000))
    assert next(status for status in statuses if status != 401) in {200, 429}


def test_copies_on_sqlite(registry, tmp_path):
    """On one machine."""
    with two(registry, tmp_path, limits={"logins": 100_000}) as (first, second):
        same_everywhere(first, second, registry)


def test_copies_on_postgresql(registry, tmp_path, server):  # noqa: F811
    """On several."""
    url = server.url()
    database = Database(url)
    admin = HubAdmin(database)
    admin.make_static_machines()
    admin.add_account(Account("root", Role.ADMIN), "root")
    database.close()
    more = {"database": url, "limits": {"logins": 100_000}}
    with two(registry, tmp_path, **more) as (first, second):
        same_everywhere(first, second, registry)


def test_after_a_restart_with_the_registry_away(registry, tmp_path):
    """Tags, digests and choices are answered as they were, and a client is told so."""
    text = settings_of(registry, tmp_path, tag_seconds=0)
    with RunningHub(tmp_path / "x", text) as hub:
        hub.ask(NAME, login("type1"))
    registry.stop()
    with RunningHub(tmp_path / "x", text) as hub:
        found = hub.ask(NAME, login("type1"))
        assert found.headers["Docker-Content-Digest"] == registry.digests[2]
        assert found.headers["Warning"].startswith("110 ")
        pinned = hub.ask(f"/v2/qnib/bench/manifests/{registry.digests[2]}", login("type1"))
        assert pinned.status == 200
        unknown = hub.ask("/v2/qnib/new/manifests/latest", login("type1"))
        assert (unknown.status, unknown.code) == (503, "UNAVAILABLE")
        assert int(unknown.headers["Retry-After"]) > 0


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_upstream_that_limits_or_fails(registry, tmp_path, status):
    """What is known is given; for what is not, the client is told to come again."""
    text = settings_of(registry, tmp_path, tag_seconds=0)
    with RunningHub(tmp_path / "x", text) as hub:
        hub.ask(NAME, login("type1"))
        registry.fail("/manifests/", status=status, times=-1, headers={"Retry-After": "1"})
        found = hub.ask(NAME, login("type1"))
        assert found.headers["Docker-Content-Digest"] == registry.digests[2]
        unknown = hub.ask("/v2/qnib/new/manifests/latest", login("type1"))
        assert unknown.status == (429 if status == 429 else 503)
        assert int(unknown.headers["Retry-After"]) > 0


def test_a_tag_that_moves(registry, tmp_path):
    """Seen after tag_seconds."""
    text = settings_of(registry, tmp_path, tag_seconds=0)
    with RunningHub(tmp_path / "x", text) as hub:
        hub.ask(NAME, login("type1"))
        moved = _put_index(registry, "qnib/bench", (), (), ("cpu:broadwell",), ("nvcap:8.0",))
        found = hub.ask(NAME, login("type1"))
        assert found.headers["Docker-Content-Digest"] == moved[2]


def test_a_mirror_and_several_upstreams(registry, tmp_path):
    """By the first part of a name; content from the mirror first."""
    with Registry() as mirror, Registry() as second:
        mirror.documents, mirror.blobs, mirror.links = (
            registry.documents,
            registry.blobs,
            registry.links,
        )
        _put_index(second, "tools/x", ())
        more = {
            "upstreams": {
                "own": {"registry": registry.name},
                "more": {"registry": second.name},
            },
            "registries": {
                registry.name: {"plain_http": True, "mirrors": [mirror.name]},
                mirror.name: {"plain_http": True},
                second.name: {"plain_http": True},
            },
        }
        with RunningHub(tmp_path / "x", settings_of(registry, tmp_path, **more)) as hub:
            found = hub.ask(NAME, login("type1"))
            assert found.headers["Docker-Content-Digest"] == registry.digests[2]
            # Only whether something is attached is asked of the registry itself.
            assert [seen for seen in registry.log() if seen.endswith(" 200")] == []
            assert mirror.seen
            for path in ("/v2/more/tools/x/manifests/latest", "/v2/own/qnib/bench/tags/list"):
                assert hub.ask(path, login("type1")).status == 200
            named = f"/v2/tools/x/manifests/latest?ns={second.name}"
            assert hub.ask(named, login("type1")).status == 200
