"""The hub over a real registry: every type its image, by HEAD and GET, by tag and by digest."""

from __future__ import annotations

import base64
import json
import signal

import pytest
from hub import MANIFESTS, OCI_INDEX, RunningHub
from registry import Registry
from test_cli import _put_index

from hpcimg.hub.account import Account, Role
from hpcimg.hub.database import Database
from hpcimg.workflow.hub_admin import HubAdmin

TYPES = {"type1": 2, "type2": 1, "type4": 3}
WORDS = ((), ("cpu:skylake",), ("cpu:broadwell",), ("cpu:broadwell", "nvcap:5.2"))
NAME = "/v2/qnib/bench/manifests/latest"


def settings_of(registry, folder, **more):
    """Make settings of a hub before one registry, and accounts besides the announcement's types."""
    database = Database(f"sqlite:///{folder}/hub.sqlite")
    admin = HubAdmin(database)
    admin.make_static_machines()
    if "root" not in database.directory().accounts:
        admin.set_password("qnib", "qnib")
        admin.add_account(Account("root", Role.ADMIN), "root")
        admin.add_account(Account("pull", Role.PULLER), "pull")
    database.close()
    said = {
        "listen": "127.0.0.1:0",
        "database": f"sqlite:///{folder}/hub.sqlite",
        "cache": {"path": f"{folder}/blobs"},
        "upstreams": {"own": {"registry": registry.name}},
        "registries": {registry.name: {"plain_http": True}},
        **more,
    }
    return json.dumps(said)


@pytest.fixture(scope="module")
def registry():
    """Make a registry with the announcement's image."""
    with Registry() as running:
        running.digests = _put_index(running, "qnib/bench", *WORDS)
        yield running


@pytest.fixture(scope="module")
def hub(registry, tmp_path_factory):
    """Start a hub with the announcement's types."""
    folder = tmp_path_factory.mktemp("hub")
    text = settings_of(registry, folder, tag_seconds=3600)
    with RunningHub(folder, text) as running:
        yield running


def login(name):
    """Give a static type's login, whose password is the same word."""
    return f"qnib-{name}:qnib-{name}"


@pytest.mark.parametrize("name", TYPES)
def test_each_type_gets_its_image(hub, registry, name):
    """The manifest itself, with the registry's bytes and digest."""
    digest = registry.digests[TYPES[name]]
    found = hub.ask(NAME, login(name))
    assert found.status == 200
    assert found.headers["Docker-Content-Digest"] == digest
    assert found.body == registry.documents["qnib/bench"][digest].raw
    assert found.headers["Content-Type"] == MANIFESTS[0]


def test_head_says_what_get_gives(hub):
    """Clients ask by HEAD first and believe it."""
    head, get = (hub.ask(NAME, login("type1"), method) for method in ("HEAD", "GET"))
    names = ("Content-Length", "Content-Type", "Docker-Content-Digest", "ETag", "Vary")
    assert [head.headers[name] for name in names] == [get.headers[name] for name in names]
    assert head.headers["Content-Length"] == str(len(get.body))
    assert (head.status, head.body) == (200, b"")


def test_a_tag_is_for_one_login_and_a_digest_for_good(hub, registry):
    """No cache between the hub and a machine may mix types."""
    tag = hub.ask(NAME, login("type1"))
    assert tag.headers["Cache-Control"] == "private, no-cache"
    assert "Authorization" in tag.headers["Vary"]
    pinned = hub.ask(f"/v2/qnib/bench/manifests/{registry.digests[0]}", login("type1"))
    assert "immutable" in pinned.headers["Cache-Control"]


def test_what_is_known_is_not_sent_again(hub):
    """If-None-Match with the ETag, weak or strong."""
    tag = hub.ask(NAME, login("type1")).headers["ETag"]
    assert hub.ask(NAME, login("type1"), If_None_Match=tag).status == 304
    assert hub.ask(NAME, login("type1"), If_None_Match=f'"x", W/{tag}').status == 304
    assert hub.ask(NAME, login("type2"), If_None_Match=tag).status == 200


@pytest.mark.parametrize("entry", range(4))
def test_a_digest_is_never_filtered(hub, registry, entry):
    """Every build and the index itself, for every type."""
    for digest in (registry.digests[entry], _index_digest(registry)):
        found = hub.ask(f"/v2/qnib/bench/manifests/{digest}", login("type2"))
        assert (found.status, found.headers["Docker-Content-Digest"]) == (200, digest)


def _index_digest(registry):
    documents = registry.documents["qnib/bench"]
    return next(k for k, found in documents.items() if found is documents["latest"] and ":" in k)


def test_an_index_for_who_wants_one(hub, registry):
    """One entry, the same bytes for each copy, and found again by its digest by every login."""
    found = hub.ask(NAME, login("type1"), Accept=OCI_INDEX)
    assert found.headers["Content-Type"] == OCI_INDEX
    (entry,) = found.json()["manifests"]
    assert entry["digest"] == registry.digests[2]
    assert entry["platform"] == {"architecture": "amd64", "os": "linux"}
    digest = found.headers["Docker-Content-Digest"]
    again = hub.ask(f"/v2/qnib/bench/manifests/{digest}", login("type2"))
    assert (again.status, again.body) == (200, found.body)


def test_accept_in_many_lines(hub):
    """As docker sends it: a client that takes manifests gets one."""
    connection = hub.connect()
    connection.putrequest("GET", NAME)
    connection.putheader("Authorization", f"Basic {_basic('qnib-type1:qnib-type1')}")
    for one in reversed(MANIFESTS):
        connection.putheader("Accept", one)
    connection.endheaders()
    assert connection.getresponse().headers["Content-Type"] == MANIFESTS[0]


def _basic(text):
    return base64.b64encode(text.encode()).decode()


def test_an_account_sees_the_index_itself(hub, registry):
    """Authors, and nodes that choose for themselves."""
    found = hub.ask(NAME, "qnib:qnib")
    assert found.headers["Docker-Content-Digest"] == _index_digest(registry)


def test_nobody_gets_anything(hub):
    """The challenge says where to log in."""
    for path in ("/v2/", NAME, "/v2/qnib/bench/tags/list"):
        found = hub.ask(path)
        assert (found.status, found.code) == (401, "UNAUTHORIZED")
        assert f'Bearer realm="http://{hub.name}/token"' in found.headers["WWW-Authenticate"]


def test_the_version_is_told(hub):
    """Old clients look for it."""
    found = hub.ask("/v2/", login("type1"))
    assert found.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


def test_nothing_fits(hub, registry):
    """The refusal names the type and what was seen."""
    _put_index(registry, "qnib/wide", ("cpu:skylake_avx512",), ("nvcap:7.0",))
    found = hub.ask("/v2/qnib/wide/manifests/latest", login("type1"))
    assert (found.status, found.code) == (404, "MANIFEST_UNKNOWN")
    assert "qnib/type1" in found.message
    assert "cpu:skylake_avx512" in found.message


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v2/qnib/none/manifests/latest", 404, "MANIFEST_UNKNOWN"),
        ("/v2/qnib/none/tags/list", 404, "NAME_UNKNOWN"),
        (f"/v2/qnib/bench/blobs/sha256:{'0' * 64}", 404, "BLOB_UNKNOWN"),
        ("/v2/qnib/Bench/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/qnib/bench/blobs/sha256:0", 400, "DIGEST_INVALID"),
        ("/v2/qnib/bench/manifests/latest?ns=evil.example.org", 400, "NAME_INVALID"),
        ("/v2/_catalog", 404, "UNSUPPORTED"),
        ("/v2/qnib/bench/what/else", 404, "UNSUPPORTED"),
    ],
)
def test_errors_are_the_specifications(hub, path, status, code):
    """Each with its document."""
    found = hub.ask(path, login("type1"))
    assert (found.status, found.code) == (status, code)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/qnib/bench/blobs/uploads/"),
        ("PUT", NAME),
        ("DELETE", NAME),
        ("PATCH", "/v2/qnib/bench/blobs/uploads/x"),
    ],
)
def test_a_push_is_refused(hub, method, path):
    """With the status that tells a client that it is no matter of its login."""
    found = hub.ask(path, login("type1"), method)
    assert (found.status, found.code) == (405, "UNSUPPORTED")


def test_tags_in_pages(hub, registry):
    """With the link that clients follow."""
    _put_index(registry, "qnib/many", (), ("cpu:skylake",), ("cpu:broadwell",))
    found = hub.ask("/v2/qnib/many/tags/list?n=2", login("type1"))
    assert found.json() == {"name": "qnib/many", "tags": ["latest", "part0"]}
    path = found.headers["Link"].partition("<")[2].partition(">")[0]
    assert hub.ask(path, login("type1")).json()["tags"] == ["part1", "part2"]


def test_an_answer_asks_its_upstream_once(hub, registry):
    """Later ones come from memory."""
    hub.ask(NAME, login("type1"))
    registry.seen.clear()
    for name in TYPES:
        hub.ask(NAME, login(name))
        hub.ask(NAME, login(name))
    assert [seen for seen in registry.log() if "manifests/latest" in seen] == []


def test_the_audit_log_has_each_request(hub, registry):
    """Who, as what, how told, what was given."""
    hub.ask(NAME, login("type4"))
    line = hub.audit()[-1]
    assert line["login"] == "qnib-type4"
    assert (line["type"], line["how"]) == ("qnib/type4", "login")
    assert line["digest"] == registry.digests[3]
    assert line["features"] == "cpu:broadwell,nvcap:5.2"
    assert (line["status"], line["address"]) == (200, "127.0.0.1")
    assert line["time"].startswith("20")


@pytest.mark.parametrize("path", ["/v2/", NAME, "/token?scope=x", "/api/v1/types", "/"])
def test_the_audit_log_has_who_was_refused(hub, path):
    """The address and the name that was tried, for whoever blocks those that guess."""
    hub.ask(path, "qnib-type1:wrong")
    line = hub.audit()[-1]
    found = (line["status"], line["login"], line["address"])
    assert found == (401, "qnib-type1", "127.0.0.1")


def test_health_and_metrics(hub):
    """For a load balancer and for Prometheus; none of it needs a login or names anybody."""
    assert hub.ask("/health/live").status == 200
    assert hub.ask("/health/ready").status == 200
    text = hub.ask("/metrics").body.decode()
    assert 'hpcimg_hub_requests_total{kind="manifest",status="200"}' in text
    assert "qnib" not in text


def test_a_clean_stop(registry, tmp_path):
    """SIGTERM ends it with code 0 and without a word of complaint."""
    running = RunningHub(tmp_path / "x", settings_of(registry, tmp_path))
    with running as hub:
        assert hub.ask(NAME, login("type1")).status == 200
        assert hub.stop(signal.SIGTERM) == (0, "")
