"""Logins, tokens and the other identities, against a running hub; each tried to be cheated."""

from __future__ import annotations

import base64
import json
import socket

import pytest
from certificates import authority, signed
from hub import RunningHub, trusting
from registry import Registry
from test_cli import _put_index
from test_hub_serve import NAME, WORDS, login, settings_of

from hpcimg.hub.token import Claims, sign


@pytest.fixture(scope="module")
def registry():
    """Make a registry with the announcement's image."""
    with Registry() as running:
        running.digests = _put_index(running, "qnib/bench", *WORDS)
        _put_index(running, "qnib/other", *WORDS)
        yield running


@pytest.fixture(scope="module")
def hub(registry, tmp_path_factory):
    """Start a hub that lets types be told in every way, some without a password."""
    folder = tmp_path_factory.mktemp("hub")
    text = settings_of(
        registry,
        folder,
        open_types=["qnib/type1"],
        hosts="{account}-{type}.hub.example.org",
        networks={"10.1.0.0/16": "qnib/type2", "2001:db8::/32": "qnib/type4"},
        proxies=["127.0.0.1/32"],
        limits={"logins": 1000},
    )
    with RunningHub(folder, text) as running:
        yield running


def given(hub, registry, *words, **headers):
    """Give the place of the image in the index that was answered."""
    found = hub.ask(*words, **headers)
    assert found.status == 200, found.body
    return registry.digests.index(found.headers["Docker-Content-Digest"])


def token(hub, login_words, *repositories):
    """Ask for a token as docker does."""
    scope = "&".join(f"scope=repository:{name}:pull" for name in repositories)
    found = hub.ask(f"/token?service=x&{scope}", login_words)
    assert found.status == 200, found.body
    assert found.headers["Cache-Control"] == "no-store"
    return found.json()["token"]


def test_a_token_stands_for_its_login(hub, registry):
    """By GET with a password, for the repository that was asked for."""
    text = token(hub, login("type2"), "qnib/bench")
    assert given(hub, registry, NAME, text) == 1


def test_a_token_by_post(hub, registry):
    """As containerd asks first."""
    body = (
        "grant_type=password&username=qnib-type4&password=qnib-type4"
        "&scope=repository:qnib/bench:pull"
    )
    kind = "application/x-www-form-urlencoded"
    found = hub.ask("/token", "", "POST", body, Content_Type=kind)
    assert given(hub, registry, NAME, found.json()["access_token"]) == 3
    wrong = body.replace("password=qnib-type4", "password=x")
    assert hub.ask("/token", "", "POST", wrong, Content_Type=kind).status == 401


def test_a_token_is_for_its_repositories(hub):
    """Another one's is refused with the challenge that gets the right token."""
    text = token(hub, login("type2"), "qnib/other")
    found = hub.ask(NAME, text)
    assert found.status == 401
    assert 'scope="repository:qnib/bench:pull"' in found.headers["WWW-Authenticate"]
    assert hub.ask("/v2/", text).status == 200


def test_a_token_buys_no_other_token(hub):
    """Else a short one would live for ever."""
    text = token(hub, login("type2"), "qnib/bench")
    assert hub.ask("/token?scope=repository:qnib/other:pull", text).status == 403


@pytest.mark.parametrize("change", ["type", "seal", "key", "time", "none"])
def test_a_forged_token(hub, change):
    """Whatever is changed in it, it is none."""
    text = token(hub, login("type2"), "qnib/bench")
    body, _, seal = text.partition(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    if change == "type":
        claims["type"] = "qnib/type4"
        body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    forged = {
        "seal": f"{body}.{seal[:-2]}xx",
        "key": sign(b"x" * 32, Claims("qnib-type2", "qnib/type2", ("qnib/bench",), 2e9)),
        "time": f"{body}.",
        "none": "a.b",
    }.get(change, f"{body}.{seal}")
    assert hub.ask(NAME, forged).status == 401


@pytest.mark.parametrize(
    "words", ["qnib-type1:wrong", "qnib-type1:", "nobody:x", "qnib-type9:qnib-type9", ":"]
)
def test_a_wrong_login_is_never_somebody_else(hub, words):
    """Not the network's type, nor an open one's."""
    found = hub.ask(NAME, words, X_Forwarded_For="10.1.2.3", X_Hpcimg_Type="qnib/type1")
    assert (found.status, found.code) == (401, "UNAUTHORIZED")
    assert "WWW-Authenticate" in found.headers


@pytest.mark.parametrize("header", ["Basic !!", "Basic", "Digest x", "Basic cW5pYg==", "x" * 9000])
def test_a_header_that_is_none(hub, header):
    """Refused without a word of what it held."""
    found = hub.ask(NAME, Authorization=header)
    assert found.status in {400, 401}
    assert header.encode() not in found.body


def test_the_other_spelling_of_a_login(hub, registry):
    """namespace/kind#value."""
    assert given(hub, registry, NAME, "qnib/type#type4:qnib-type4") == 3


def test_a_type_by_header(hub, registry):
    """Where it is open, or the account's own; else it needs its login."""
    assert given(hub, registry, NAME, X_Hpcimg_Type="qnib/type1") == 2
    assert hub.ask(NAME, X_Hpcimg_Type="qnib/type2").status == 401
    assert hub.ask(NAME, "pull:pull", X_Hpcimg_Type="qnib/type2").status == 403
    assert given(hub, registry, NAME, "qnib:qnib", X_Hpcimg_Type="qnib/type2") == 1


def test_a_type_by_path(hub, registry):
    """As containerd's hosts.toml can have it."""
    assert given(hub, registry, f"/type/qnib/type1{NAME}") == 2
    assert hub.ask("/type/qnib/type1/v2/").status == 200
    assert hub.ask(f"/type/qnib/type2{NAME}").status == 401
    assert hub.ask(f"/type/qnib/type2{NAME}", "pull:pull").status == 403
    assert given(hub, registry, f"/type/qnib/type2{NAME}", "qnib:qnib") == 1


def test_a_type_by_host_name(hub, registry):
    """With the port or without."""
    assert given(hub, registry, NAME, Host="qnib-type1.hub.example.org:443") == 2
    assert hub.ask(NAME, Host="qnib-type2.hub.example.org").status == 401


@pytest.mark.parametrize(
    ("told", "entry"),
    [("10.1.2.3", 1), ("::ffff:10.1.2.3", 1), ("2001:db8::1", 3), ("10.9.9.9, 10.1.2.3", 1)],
)
def test_a_type_by_network(hub, registry, told, entry):
    """Of the address that the proxy saw: the last one, whatever a client put before it."""
    assert given(hub, registry, NAME, X_Forwarded_For=told) == entry


@pytest.mark.parametrize("told", ["10.2.0.1", "10.1.2.3, 10.9.9.9", "10.1.2.3 x", "", "999.1.1.1"])
def test_a_network_that_has_no_type(hub, told):
    """A client cannot choose its address."""
    assert hub.ask(NAME, X_Forwarded_For=told).status == 401


def test_addresses_are_believed_from_proxies_alone(registry, tmp_path):
    """Without a trusted proxy a header is only a header."""
    text = settings_of(registry, tmp_path, networks={"10.1.0.0/16": "qnib/type2"})
    with RunningHub(tmp_path / "x", text) as hub:
        found = hub.ask(NAME, X_Forwarded_For="10.1.2.3", X_Forwarded_Proto="https")
        assert found.status == 401
        assert 'realm="http://' in found.headers["WWW-Authenticate"]


def test_nobody_may_be_a_type(registry, tmp_path):
    """Where the administrator gives one to those who say nothing."""
    text = settings_of(registry, tmp_path, anonymous="qnib/type2", challenge="basic")
    with RunningHub(tmp_path / "x", text) as hub:
        assert given(hub, registry, NAME) == 1
        found = hub.ask(NAME, "qnib-type1:wrong")
        assert found.headers["WWW-Authenticate"] == f'Basic realm="{hub.name}"'


def test_who_is_told_by_the_network_is_asked_for_a_login_first(registry, tmp_path):
    """Else docker would never send its login; without one it gets a token for nobody."""
    text = settings_of(registry, tmp_path, anonymous="qnib/type2")
    with RunningHub(tmp_path / "x", text) as hub:
        assert hub.ask("/v2/").status == 401
        assert hub.ask("/v2/", "qnib-type1:wrong").status == 401
        assert hub.ask("/v2/", login("type1")).status == 200
        mine = token(hub, "", "qnib/bench")
        assert hub.ask("/v2/", mine).status == 200
        assert given(hub, registry, NAME, mine) == 1
        assert hub.ask("/v2/qnib/other/manifests/latest", mine).status == 401
        assert given(hub, registry, NAME, token(hub, login("type1"), "qnib/bench")) == 2


def test_guessing_is_slowed(registry, tmp_path):
    """After some failures a login is not looked at, after many no login from that address."""
    text = settings_of(registry, tmp_path, limits={"logins": 3})
    with RunningHub(tmp_path / "x", text) as hub:
        statuses = [hub.ask(NAME, f"qnib-type1:{n}").status for n in range(5)]
        assert statuses == [401, 401, 401, 429, 429]
        found = hub.ask(NAME, login("type1"))
        assert (found.status, found.code) == (429, "TOOMANYREQUESTS")
        assert int(found.headers["Retry-After"]) > 0
        assert hub.ask("/token?scope=x", login("type1")).status == 429
        assert hub.ask(NAME, login("type2")).status == 200
        for number in range(60):
            last = hub.ask("/v2/", f"nobody{number}:x")
        assert last.status == 429
        assert hub.ask("/v2/", login("type4")).status == 429
        assert hub.ask(NAME, login("type2")).status == 200, "a login that was proven lately"


def test_machines_with_certificates(registry, tmp_path):
    """TLS of the hub's own; a certificate of another authority is not even spoken to."""
    ca, foreign = authority(tmp_path), authority(tmp_path, "foreign")
    server = signed(ca, "server")
    machine, stranger = signed(ca, "qnib-type4"), signed(foreign, "qnib-type4b")
    tls = {"certificate": str(server.certificate), "key": str(server.key)}
    text = settings_of(registry, tmp_path, tls={**tls, "client_ca": str(ca.certificate)})
    shown = trusting(ca.certificate, machine.certificate, machine.key)
    with RunningHub(tmp_path / "x", text, context=shown) as hub:
        assert given(hub, registry, NAME) == 3
        assert given(hub, registry, NAME, login("type1")) == 2
        hub._context = trusting(ca.certificate)
        assert hub.ask(NAME).status == 401
        assert f'realm="https://{hub.name}/token"' in hub.ask(NAME).headers["WWW-Authenticate"]
        hub._context = trusting(ca.certificate, stranger.certificate, stranger.key)
        with pytest.raises(OSError, match=r"(?i)ssl|reset|broken|closed"):
            hub.ask(NAME)


def test_a_tls_hello_on_the_plain_port(hub):
    """Answered so that clients that try https first go on in http."""
    with socket.create_connection(("127.0.0.1", hub.port), 10) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 100)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.0 400 ")
