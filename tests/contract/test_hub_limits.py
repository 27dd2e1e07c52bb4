"""What clients may cost, and what no client is ever told."""

from __future__ import annotations

import json
import socket

import pytest
from hub import RunningHub
from registry import Registry
from test_cli import _put_index
from test_hub_serve import NAME, WORDS, login, settings_of


@pytest.fixture
def registry():
    """Make a registry that wants a login."""
    with Registry(auth="token", users={"site": "hush-upstream"}) as running:
        running.digests = _put_index(running, "qnib/bench", *WORDS)
        yield running


def private(registry, tmp_path, **more):
    """Make settings of a hub that has the registry's login."""
    auth = tmp_path / "auth.json"
    text = {"auths": {registry.name: {"username": "site", "password": "hush-upstream"}}}
    auth.write_text(json.dumps(text))
    auth.chmod(0o600)
    registries = {registry.name: {"plain_http": True, "credentials": str(auth)}}
    return settings_of(registry, tmp_path, registries=registries, **more)


def test_an_upstreams_login_reaches_no_client(registry, tmp_path):
    """Neither its password nor its tokens, in no answer and no log."""
    text = private(registry, tmp_path)
    with RunningHub(tmp_path / "x", text) as hub:
        assert hub.ask(NAME, login("type1")).status == 200
        registry.users["site"] = "changed"
        registry.tokens.clear()
        refused = hub.ask("/v2/qnib/none/manifests/latest", login("type1"))
        assert (refused.status, refused.code) == (403, "DENIED")
        assert "WWW-Authenticate" not in refused.headers
        said = str(refused.headers) + refused.body.decode() + hub.log.read_text() + hub.stop()[1]
    assert "hush-upstream" not in said
    assert "cmF" not in refused.body.decode()


def test_a_clients_login_reaches_no_upstream(registry, tmp_path):
    """The hub asks with its own."""
    with RunningHub(tmp_path / "x", private(registry, tmp_path)) as hub:
        hub.ask(NAME, login("type1"))
    sent = [seen.headers.get("Authorization", "") for seen in registry.seen]
    assert any(sent)
    assert not any("cW5pYi" in one for one in sent)


def test_an_upstream_for_some_accounts(registry, tmp_path):
    """Others do not even learn what is in it, in memory or not."""
    own = {"own": {"registry": registry.name, "accounts": ["other"]}}
    with RunningHub(tmp_path / "x", private(registry, tmp_path, upstreams=own)) as hub:
        registry.seen.clear()
        for path in (NAME, "/v2/qnib/none/tags/list", f"/v2/a/blobs/{registry.digests[0]}"):
            found = hub.ask(path, login("type1"))
            assert (found.status, found.code) == (403, "DENIED")
        assert registry.seen == []


def test_only_listed_hosts_are_asked(registry, tmp_path):
    """Neither by a mirror's namespace, nor by a name, nor by a redirected login."""
    with Registry() as other:
        _put_index(other, "qnib/bench", *WORDS)
        with RunningHub(tmp_path / "x", private(registry, tmp_path)) as hub:
            for path in (
                f"{NAME}?ns={other.name}",
                f"{NAME}?ns={other.name}&ns={registry.name}",
                f"/v2/{other.name}/qnib/bench/manifests/latest",
            ):
                assert hub.ask(path, login("type1")).status == 400
        assert other.connections == 0


def test_a_request_that_drips(registry, tmp_path):
    """A connection without a whole request is closed, however its bytes drip."""
    text = private(registry, tmp_path, limits={"idle": 0.5})
    with (
        RunningHub(tmp_path / "x", text) as hub,
        socket.create_connection(("127.0.0.1", hub.port), 30) as connection,
    ):
        connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Long: ")
        connection.settimeout(0.05)
        ended = False
        while not ended:
            try:
                ended = connection.recv(1) == b""
                connection.send(b"x")
            except TimeoutError:
                continue
            except OSError:
                ended = True
        assert hub.ask("/health/live").status == 200


def test_too_many_connections(registry, tmp_path):
    """Those that are too many are closed, those before them are served."""
    text = private(registry, tmp_path, limits={"clients": 3})
    with RunningHub(tmp_path / "x", text) as hub:
        kept = [hub.connect() for _ in range(3)]
        for one in kept:
            one.request("GET", "/health/live")
            assert one.getresponse().read() == b"alive\n"
        with pytest.raises(OSError, match=r"(?i)reset|closed|aborted|response"):
            hub.ask("/health/live")
        kept[0].close()
        kept[1].request("GET", "/health/live")
        assert kept[1].getresponse().status == 200


@pytest.mark.parametrize("size", [20_000, 2_000_000])
def test_large_requests(registry, tmp_path, size):
    """Long headers and long bodies are refused, and nothing else suffers."""
    with RunningHub(tmp_path / "x", private(registry, tmp_path)) as hub:
        assert hub.ask("/v2/", X_Long="x" * 20_000).status == 400
        kind = "application/x-www-form-urlencoded"
        body = "username=" + "x" * size * 10
        found = hub.ask("/token", "", "POST", body, Content_Type=kind)
        assert found.status in {401, 413}
        assert hub.ask("/health/live").status == 200
