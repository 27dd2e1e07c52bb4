"""What an attacker tried: other sites' pages, slow upstreams and clients, damaged caches."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from certificates import authority, signed
from hub import RunningHub, authorization, trusting
from registry import Registry, digest_of
from test_cli import _put_index
from test_hub_serve import NAME, WORDS, login, settings_of

EVIL = "accounts: [{name: evil, role: admin}] #="


@pytest.fixture(scope="module")
def registry():
    """Make a registry with the announcement's image and a blob."""
    with Registry() as running:
        running.digests = _put_index(running, "qnib/bench", *WORDS)
        running.put_blob("qnib/bench", b"blob" * 1000)
        yield running


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
def test_another_sites_page_imports_nothing(registry, tmp_path, kind):
    """A browser sends its login with any page's form, whose text may even be YAML."""
    with RunningHub(tmp_path / "x", settings_of(registry, tmp_path)) as hub:
        found = hub.ask("/api/v1/import", "root:root", "POST", EVIL, Content_Type=kind)
        assert found.status == 415
        for header in ({"Origin": "https://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):
            sent = {"Content_Type": "application/yaml", **header}
            found = hub.ask("/api/v1/import", "root:root", "POST", EVIL, **sent)
            assert (found.status, found.code) == (403, "DENIED")
        accounts = hub.ask("/api/v1/accounts", "root:root").json()
        assert "evil" not in {one["name"] for one in accounts}


def test_a_machine_of_an_administrator_is_none(registry, tmp_path):
    """Its login sees its own account's types, and pulls what that account may."""
    own = {"own": {"registry": registry.name, "accounts": ["qnib"]}}
    text = settings_of(registry, tmp_path, upstreams=own)
    with RunningHub(tmp_path / "x", text) as hub:
        said = {"account": "root", "name": "node", "features": [], "password": "p"}
        kind = "application/json"
        made = hub.ask("/api/v1/types", "root:root", "POST", json.dumps(said), Content_Type=kind)
        assert made.status == 201
        assert hub.ask(NAME, "root:root").status == 200
        assert hub.ask(NAME, "root-node:p").status == 403
        seen = hub.ask("/api/v1/types", "root-node:p").json()
        assert {one["account"] for one in seen} == {"root"}


class Silent:
    """Something that takes connections and never answers; use it as a context."""

    def __enter__(self):
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=500)
        return self

    def __exit__(self, *_):
        self._socket.close()

    @property
    def name(self):
        """HOST:PORT."""
        return f"127.0.0.1:{self._socket.getsockname()[1]}"


def test_an_upstream_that_never_answers_stops_no_other(registry, tmp_path):
    """Nor the database, nor health: each upstream has threads of its own."""
    with Silent() as silent:
        more = {
            "upstreams": {"own": {"registry": registry.name}, "slow": {"registry": silent.name}},
            "registries": {name: {"plain_http": True} for name in (registry.name, silent.name)},
        }
        with RunningHub(tmp_path / "x", settings_of(registry, tmp_path, **more)) as hub:
            opened = []
            for number in range(100):
                connection = hub.connect()
                path = f"/v2/slow/image{number}/manifests/latest"
                connection.request(
                    "GET", path, headers={"Authorization": authorization(login("type1"))}
                )
                opened.append(connection)
            assert hub.ask(NAME, login("type1")).status == 200
            body = json.dumps({"name": "new", "password": "p"})
            made = hub.ask(
                "/api/v1/accounts", "root:root", "POST", body, Content_Type="application/json"
            )
            assert made.status == 201
            assert hub.ask("/v2/", "new:p").status == 200
            assert hub.ask("/health/ready").status == 200
            for one in opened:
                one.close()
            hub.stop(9)


def test_a_body_that_drips(registry, tmp_path):
    """Its head has come, its body never: the time of a request holds for all of it."""
    text = settings_of(registry, tmp_path, limits={"idle": 0.5})
    with RunningHub(tmp_path / "x", text) as hub:
        for path, who in (
            ("/token", ""),
            ("/api/v1/types", "root:root"),
            ("/types/add", "root:root"),
        ):
            kind = "application/json" if "api" in path else "application/x-www-form-urlencoded"
            connection = hub.connect()
            connection.putrequest("POST", path)
            connection.putheader("Content-Length", "1000")
            connection.putheader("Content-Type", kind)
            if who:
                connection.putheader("Authorization", authorization(who))
            connection.endheaders()
            assert connection.getresponse().status == 408


def test_a_reader_of_the_log_that_stands_still(registry, tmp_path):
    """Lines are lost and counted; answers are given."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with RunningHub(tmp_path / "x", settings_of(registry, tmp_path, audit=str(pipe))) as hub:
        connection = hub.connect()
        for _ in range(2000):
            connection.request("GET", "/v2/")
            assert connection.getresponse().read()
        assert hub.ask("/health/live").status == 200
        hub.stop(9)
    os.close(reader)


def test_a_cached_blob_that_became_shorter(registry, tmp_path):
    """Is not sent, and is fetched again."""
    raw = b"blob" * 1000
    path = f"/v2/qnib/bench/blobs/{digest_of(raw)}"
    with RunningHub(tmp_path / "x", settings_of(registry, tmp_path)) as hub:
        assert hub.ask(path, login("type1")).body == raw
        name = digest_of(raw)[7:]
        found = list((tmp_path / "blobs").rglob(name))
        while not found:
            time.sleep(0.02)
            found = list((tmp_path / "blobs").rglob(name))
        os.truncate(found[0], 3)
        assert hub.ask(path, login("type1")).body == raw


@pytest.mark.parametrize("value", [b"Basic \xff", b"Bearer \xff", b"\xff\xfe"])
@pytest.mark.parametrize("path", ["/v2/", "/token", "/api/v1/types", "/"])
def test_headers_that_are_no_text(registry, tmp_path_factory, value, path, odd):
    """Refused like any other login."""
    connection = odd.connect()
    connection.putrequest("GET", path)
    connection.putheader("Authorization", value)
    connection.endheaders()
    assert connection.getresponse().status in {400, 401}


@pytest.fixture(scope="module")
def odd(registry, tmp_path_factory):
    """Start a hub for odd requests."""
    folder = tmp_path_factory.mktemp("odd")
    networks = {"127.0.0.0/8": "qnib/type1"}
    text = settings_of(
        registry, folder, proxies=["127.0.0.1/32"], networks=networks, limits={"logins": 1000}
    )
    with RunningHub(folder / "x", text) as hub:
        yield hub


def test_a_form_of_an_unknown_charset(odd):
    """Is a wrong request, and no defect."""
    kind = "application/x-www-form-urlencoded; charset=foo"
    assert odd.ask("/token", "", "POST", "username=a&password=b", Content_Type=kind).status == 400


@pytest.mark.parametrize(
    ("told", "status"),
    [("203.0.113.9:5555", 401), ("[2001:db8::1]:80", 401), ("junk", 401), ("127.0.0.2:80", 200)],
)
def test_forwarded_addresses_with_a_port(odd, told, status):
    """Never taken for the proxy's own."""
    assert odd.ask(NAME, X_Forwarded_For=told).status == status


def test_a_digest_that_was_asked_for_too_early(registry, tmp_path):
    """What HEAD promises is found, whoever asked for it before."""
    with RunningHub(tmp_path / "1", settings_of(registry, tmp_path)) as first:
        kind = {"Accept": "application/vnd.oci.image.index.v1+json"}
        made = first.ask(NAME, login("type1"), "HEAD", **kind).headers["Docker-Content-Digest"]
    other = tmp_path / "other"
    other.mkdir()
    with RunningHub(tmp_path / "2", settings_of(registry, other)) as hub:
        assert hub.ask(f"/v2/qnib/bench/manifests/{made}", login("type1")).status == 404
        again = hub.ask(NAME, login("type1"), "HEAD", **kind)
        assert again.headers["Docker-Content-Digest"] == made
        assert hub.ask(f"/v2/qnib/bench/manifests/{made}", login("type1")).status == 200


def test_a_certificate_is_no_account(registry, tmp_path):
    """It stands for a machine; an administrator's name in one buys nothing."""
    ca = authority(tmp_path)
    server, shown = signed(ca, "server"), signed(ca, "root")
    tls = {"certificate": str(server.certificate), "key": str(server.key)}
    text = settings_of(registry, tmp_path, tls={**tls, "client_ca": str(ca.certificate)})
    context = trusting(ca.certificate, shown.certificate, shown.key)
    with RunningHub(tmp_path / "x", text, context=context) as hub:
        assert hub.ask("/api/v1/accounts").status == 401
        assert hub.ask(NAME).status == 401


def test_a_client_that_leaves_has_nothing_brought(registry, tmp_path):
    """One small request costs no whole layer."""
    go = threading.Event()
    raw = os.urandom(3_000_000)
    digest = registry.put_blob("qnib/bench", raw)
    served = registry._server.RequestHandlerClass
    plain = served._blob

    def slow(handler, repository, name):
        if name != digest or handler.command == "HEAD":
            return plain(handler, repository, name)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(raw)))
        handler.end_headers()
        handler.wfile.write(raw[:1_000_000])
        handler.wfile.flush()
        go.wait(60)
        try:
            handler.wfile.write(raw[1_000_000:])
        finally:
            handler.close_connection = True
        return None

    served._blob = slow
    try:
        with RunningHub(tmp_path / "x", settings_of(registry, tmp_path)) as hub:
            connection = hub.connect()
            sent = {"Authorization": authorization(login("type1"))}
            connection.request("GET", f"/v2/qnib/bench/blobs/{digest}", headers=sent)
            answer = connection.getresponse()
            assert len(answer.read(1000)) == 1000
            answer.close()
            connection.close()
            while not any("gone" in str(line.get("why")) for line in hub.audit()):
                time.sleep(0.02)
            go.set()
            while _threads(hub.pid, "blob sha256"):
                time.sleep(0.02)
            kept = [one.name for one in (tmp_path / "blobs").rglob(f"{digest[7:]}*")]
            assert f"{digest[7:]}" not in kept
    finally:
        served._blob = plain


def _threads(pid, name):
    """Count the threads of a process by their names' beginning."""
    words = ["sh", "-c", f"cat /proc/{pid}/task/*/comm"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return sum(line.startswith(name) for line in done.stdout.splitlines())


def test_many_clients_one_hash(registry, tmp_path):
    """Nodes that start together cost one hash, and all get in."""
    with (
        RunningHub(tmp_path / "x", settings_of(registry, tmp_path)) as hub,
        ThreadPoolExecutor(20) as pool,
    ):
        found = list(pool.map(lambda _: hub.ask(NAME, login("type1")).status, range(20)))
    assert set(found) == {200}


def test_broken_answers_are_no_other_answers(registry, tmp_path):
    """On a kept connection a client never takes the next answer for the rest of a blob."""
    raw = os.urandom(2_000_000)
    digest = registry.put_blob("qnib/bench", raw)
    registry.fail(f"GET /v2/qnib/bench/blobs/{digest}", corrupt=True, times=-1)
    with RunningHub(tmp_path / "x", settings_of(registry, tmp_path)) as hub:
        connection = hub.connect()
        sent = {"Authorization": authorization(login("type1"))}
        connection.request("GET", f"/v2/qnib/bench/blobs/{digest}", headers=sent)
        answer = connection.getresponse()
        if answer.status == 200:
            with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                answer.read()
    registry.faults.clear()
