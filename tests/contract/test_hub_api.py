"""The REST interface over a running hub: each path, each role, and a browser that is misused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hub import RunningHub
from registry import Registry
from test_cli import _put_index
from test_hub_serve import NAME, WORDS, login, settings_of

import hpcimg
from hpcimg.serve.api import Api

ADMIN, OWNER, PULLER = "root:root", "qnib:qnib", "pull:pull"


@pytest.fixture(scope="module")
def registry():
    """Make a registry with the announcement's image."""
    with Registry() as running:
        running.digests = _put_index(running, "qnib/bench", *WORDS)
        yield running


@pytest.fixture(scope="module")
def hub(registry, tmp_path_factory):
    """Start a hub."""
    folder = tmp_path_factory.mktemp("hub")
    text = settings_of(registry, folder, limits={"logins": 1000})
    with RunningHub(folder, text) as running:
        yield running


def call(hub, method, path, who=ADMIN, **body):
    """Call the interface with a JSON body."""
    raw = json.dumps(body) if body else None
    headers = {"Content-Type": "application/json"} if body else {}
    return hub.ask(f"/api/v1{path}", who, method, raw, **headers)


def test_a_type_from_its_making_to_its_end(hub, registry):
    """Made, used at once, changed, removed: its login is then nobody's."""
    made = call(
        hub,
        "POST",
        "/types",
        OWNER,
        account="qnib",
        name="new",
        features=["cpu:skylake"],
        password="p",
    )
    assert (made.status, made.json()["features"]) == (201, ["cpu:skylake"])
    found = hub.ask(NAME, "qnib-new:p")
    assert found.headers["Docker-Content-Digest"] == registry.digests[1]
    changed = call(hub, "PATCH", "/types/qnib/new", OWNER, features=["cpu:broadwell"], password="q")
    assert (changed.status, changed.json()["login"]) == (200, "qnib-new")
    assert hub.ask(NAME, "qnib-new:p").status == 401
    found = hub.ask(NAME, "qnib-new:q")
    assert found.headers["Docker-Content-Digest"] == registry.digests[2]
    assert call(hub, "DELETE", "/types/qnib/new", OWNER).status == 204
    assert hub.ask(NAME, "qnib-new:q").status == 401
    assert call(hub, "GET", "/types/qnib/new", OWNER).status == 404


def test_an_account_from_its_making_to_its_end(hub):
    """Made, logged in as, disabled, enabled, removed."""
    assert call(hub, "POST", "/accounts", name="more", role="owner", password="p").status == 201
    assert hub.ask("/v2/", "more:p").status == 200
    assert call(hub, "PATCH", "/accounts/more", disabled=True).status == 200
    assert hub.ask("/v2/", "more:p").status == 401
    assert call(hub, "PATCH", "/accounts/more", disabled=False, role="puller").status == 200
    assert call(hub, "PATCH", "/accounts/more", "more:p", password="own").status == 200
    assert hub.ask("/v2/", "more:own").status == 200
    assert call(hub, "DELETE", "/accounts/more").status == 204
    assert hub.ask("/v2/", "more:own").status == 401


@pytest.mark.parametrize(
    ("who", "method", "path", "body"),
    [
        (PULLER, "POST", "/types", {"account": "pull", "name": "x"}),
        (PULLER, "DELETE", "/types/qnib/type1", {}),
        (PULLER, "GET", "/types/qnib/type1", {}),
        (OWNER, "POST", "/types", {"account": "root", "name": "x"}),
        (OWNER, "POST", "/accounts", {"name": "x", "role": "admin"}),
        (OWNER, "PATCH", "/accounts/qnib", {"role": "admin"}),
        (OWNER, "PATCH", "/accounts/root", {"password": "x"}),
        (OWNER, "DELETE", "/accounts/pull", {}),
        (OWNER, "GET", "/export", {}),
        (OWNER, "POST", "/import", {"a": 1}),
        (login("type1"), "POST", "/types", {"account": "qnib", "name": "x"}),
        (login("type1"), "PATCH", "/types/qnib/type1", {"features": []}),
        (login("type1"), "DELETE", "/types/qnib/type2", {}),
        (login("type1"), "GET", "/accounts", {}),
        (login("type1"), "PATCH", "/accounts/qnib", {"password": "x"}),
        (OWNER, "DELETE", "/proposals/root/x", {}),
        (login("type1"), "POST", "/proposals", {"account": "root", "name": "x"}),
    ],
)
def test_what_a_role_may_not(hub, who, method, path, body):
    """Refused, and nothing has changed: a machine's password buys no rights of its account."""
    before = call(hub, "GET", "/export").body
    found = call(hub, method, path, who, **body)
    assert (found.status, found.code) == (403, "DENIED")
    assert call(hub, "GET", "/export").body == before


@pytest.mark.parametrize("path", [path for _, path, _ in Api.routes(Api(None))])
def test_nobody_sees_anything(hub, path):
    """Without a login there is the form of the interface alone."""
    assert hub.ask(re.sub(r"\{\w+\}", "x", path)).status in {401, 405}
    assert hub.ask("/api/v1/openapi.json").status == 200


def test_the_last_administrator_stays(hub):
    """Nobody locks everybody out; the command line on the machine may."""
    for method, body in (
        ("PATCH", {"role": "puller"}),
        ("PATCH", {"disabled": True}),
        ("DELETE", {}),
    ):
        found = call(hub, method, "/accounts/root", **body)
        assert (found.status, "last administrator" in found.message) == (400, True)


def test_a_misspelt_key_is_no_key(hub):
    """A type without its features would get the generic image."""
    found = call(hub, "POST", "/types", account="qnib", name="odd", words=["cpu:skylake"])
    assert (found.status, "'words' is no key" in found.message) == (400, True)


def test_a_token_is_for_pulling(hub):
    """What stands in a container engine's memory changes nothing."""
    text = hub.ask("/token?scope=repository:qnib/bench:pull", ADMIN).json()["token"]
    assert call(hub, "GET", "/types", text).status == 403


def test_another_sites_form_changes_nothing(hub):
    """A browser sends its login with any form, but never as JSON without asking first."""
    raw = json.dumps({"account": "qnib", "name": "forged"})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        found = hub.ask("/api/v1/types", ADMIN, "POST", raw, Content_Type=kind)
        assert found.status == 415
    assert call(hub, "GET", "/types/qnib/forged").status == 404


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("/types", "{"),
        ("/types", "[1]"),
        ("/types", '{"account": "qnib", "name": "A"}'),
        ("/types", '{"account": "qnib", "name": "x", "features": "cpu:x"}'),
        ("/types", '{"account": "qnib", "name": "x", "features": ["cpu:broadwel"]}'),
        ("/types", '{"account": 5, "name": "x"}'),
        ("/types", '{"account": "qnib", "name": "x", "answer": "both"}'),
        ("/accounts", '{"name": "x", "role": "god"}'),
        ("/accounts", "[" * 100_000),
    ],
)
def test_bodies_that_are_wrong(hub, path, raw):
    """Each is told what is wrong with it."""
    found = hub.ask(f"/api/v1{path}", ADMIN, "POST", raw, Content_Type="application/json")
    assert (found.status, found.code) == (400, "NAME_INVALID")


def test_export_and_import(hub):
    """What is exported is imported without a change; a dry run changes nothing."""
    text = call(hub, "GET", "/export").body
    kind = "application/yaml"
    again = hub.ask("/api/v1/import", ADMIN, "POST", text, Content_Type=kind)
    assert (again.status, again.json()) == (201, {"changes": []})
    metahub = "user: old\npassword: pw\ntypes:\n- name: t\n  features: ['cpu:skylake']\n"
    tried = hub.ask("/api/v1/import?dry_run", ADMIN, "POST", metahub, Content_Type=kind)
    assert tried.json()["changes"]
    assert hub.ask("/v2/", "old-t:pw").status == 401
    hub.ask("/api/v1/import", ADMIN, "POST", metahub, Content_Type=kind)
    assert hub.ask("/v2/", "old-t:pw").status == 200


def test_explained(hub, registry):
    """For a type, and for words that no type has."""
    found = call(hub, "GET", "/explain?image=qnib/bench&type=qnib/type1", OWNER).json()
    assert (found["build"], found["digest"]) == ("specific", registry.digests[2])
    assert [one["verdict"] for one in found["entries"]] == [
        "fits",
        "rejected",
        "chosen",
        "rejected",
    ]
    words = "linux/amd64:cpu:broadwell"
    found = call(hub, "GET", f"/explain?image=qnib/bench:latest&platform={words}", OWNER)
    assert found.json()["digest"] == registry.digests[2]
    assert call(hub, "GET", "/explain?image=qnib/bench&type=qnib/type1", PULLER).status == 404


def test_coverage_says_what_to_build(hub):
    """Which types have no build of their own, and the builds that the most of them want."""
    (row,) = call(hub, "GET", "/coverage?image=qnib/bench", OWNER).json()
    builds = {one["type"]: one["build"] for one in row["types"]}
    assert builds["qnib/type1"] == builds["qnib/type4"] == "specific"
    assert {word for one in row["wanted"] for word in one["features"]} <= {"cpu:skylake"}


def test_proposals(hub):
    """A node proposes with its login; its administrators see and remove it."""
    said = {"account": "qnib", "name": "found", "features": ["cpu:zen3"], "node": "n1"}
    assert call(hub, "POST", "/proposals", login("type1"), **said).status == 201
    assert call(hub, "POST", "/proposals", login("type1"), **said).status == 201
    assert call(hub, "GET", "/proposals", OWNER).json() == [said]
    assert call(hub, "GET", "/proposals", PULLER).json() == []
    assert call(hub, "DELETE", "/proposals/qnib/found", OWNER).status == 204
    assert call(hub, "GET", "/proposals", OWNER).json() == []


def test_the_description_is_the_interface():
    """openapi.json names each path and method that there is, and no other."""
    document = Path(hpcimg.__file__).parent / "serve/static/openapi.json"
    described = {
        (method.upper(), path)
        for path, said in json.loads(document.read_text())["paths"].items()
        for method in said
        if method != "parameters"
    }
    assert described == {(method, path) for method, path, _ in Api.routes(Api(None))}


def test_passwords_are_in_no_answer_and_no_log(hub):
    """Neither what was sent, nor hashes, but in the export."""
    call(hub, "POST", "/types", account="qnib", name="secret", password="hush-hush")
    said = [call(hub, "GET", path).body for path in ("/types", "/types/qnib/secret", "/accounts")]
    text = b"".join(said).decode() + hub.log.read_text()
    assert "hush-hush" not in text
    assert "scrypt" not in text
