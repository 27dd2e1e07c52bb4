"""The texts of login files: the hub's login gets in, and all that others wrote stays."""

from __future__ import annotations

import base64
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcimg.errors import SettingsError, UsageError
from hpcimg.hub.hosts_table import MARK
from hpcimg.hub.login_files import (
    Beside,
    HubLogin,
    check_login,
    containerd_hosts,
    containers_auth,
    docker_config,
    hub_url,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HUB = "https://hub.example.org:5000"
HOST = "hub.example.org:5000"
LOGIN = HubLogin(HUB, "qnib-type1", "s3cret")
BASIC = base64.b64encode(b"qnib-type1:s3cret").decode()
OTHERS = b"""\
# the site's own
server = "https://registry-1.docker.io"
ca = ["a.crt",
  "b.crt"]  # two

# near us
[host."https://mirror.example.org"]
  capabilities = ["pull"]
  [host."https://mirror.example.org".header]
    x-site = '''
[a]'''
"""


def read(text: str) -> dict:
    """Read as containerd does."""
    return tomllib.loads(text)


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("https://hub.example.org", "https://hub.example.org"),
        ("HTTPS://Hub.Example.ORG:443/", "https://hub.example.org"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://hub:5000", "http://hub:5000"),
        ("https://[::1]:5000", "https://[::1]:5000"),
    ],
)
def test_url_is_brought_to_the_host_that_images_are_named_after(written, url):
    """No default port, no slash, lower case."""
    assert hub_url(written) == url


@pytest.mark.parametrize(
    "written",
    ["hub.example.org", "ftp://hub.example.org", "https://hub", "https://h.x/type/a/b", "https://"],
)
def test_what_is_no_url_of_a_hub_is_refused(written):
    """Nor is a host that every client takes for a part of a name."""
    with pytest.raises(UsageError, match="is not the URL of a hub"):
        hub_url(written)


def test_a_password_in_the_url_is_refused_and_not_shown():
    """It would be an argument, and then in a message."""
    with pytest.raises(UsageError) as error:
        hub_url("https://me:s3cret@hub.example.org")
    assert "s3cret" not in error.value.message + error.value.hint


@pytest.mark.parametrize(
    ("name", "password", "says"),
    [
        ("a:b", "x", "is no login"),
        ("", "x", "is no login"),
        ("a", "", "is empty"),
        ("a", "s3\ncret", "control characters"),
    ],
)
def test_logins_that_no_client_can_send(name, password, says):
    """Refused without the password in the text."""
    with pytest.raises(UsageError, match=says) as error:
        check_login(name, password)
    assert "s3" not in error.value.message + error.value.hint


def test_a_login_shows_no_password():
    """Not even in a trace."""
    assert "s3cret" not in repr(LOGIN)


@pytest.mark.parametrize("make", [docker_config, containers_auth])
@pytest.mark.parametrize("old", [b"", b" \n", b"{}"])
def test_a_new_json_file(make, old):
    """Of what is not there, or empty."""
    assert json.loads(make(old, LOGIN, "x")) == {"auths": {HOST: {"auth": BASIC}}}


@pytest.mark.parametrize("make", [docker_config, containers_auth])
def test_others_logins_and_keys_stay_in_their_order(make):
    """Of the hub's host only the new login stays, however the host was spelled."""
    old = {
        "HttpHeaders": {"X": "é"},
        "auths": {
            "quay.io": {"auth": "b3RoZXI="},
            f"https://{HOST}/v2/": {"auth": "old"},
            HOST: {"identitytoken": "old"},
            f"{HOST}/team": {"auth": "dGVhbQ=="},
        },
        "psFormat": 1.5,
    }
    new = json.loads(make(json.dumps(old).encode(), LOGIN, "x"))
    assert list(new) == list(old)
    assert new["HttpHeaders"] == {"X": "é"}
    assert new["auths"] == {
        "quay.io": {"auth": "b3RoZXI="},
        f"{HOST}/team": {"auth": "dGVhbQ=="},
        HOST: {"auth": BASIC},
    }


def test_docker_looks_into_the_file_whatever_helper_keeps_other_logins():
    """A helper for all hosts, or for this one, would be asked alone."""
    old = b'{"credsStore": "pass", "credHelpers": {"quay.io": "site"}}'
    new = json.loads(docker_config(old, LOGIN, "x"))
    assert new["credsStore"] == "pass"
    assert new["credHelpers"] == {"quay.io": "site", HOST: ""}


def test_containers_asks_no_helper_for_the_hub():
    """It knows no empty one."""
    old = json.dumps({"credHelpers": {"quay.io": "site", HOST: "site"}}).encode()
    assert json.loads(containers_auth(old, LOGIN, "x"))["credHelpers"] == {"quay.io": "site"}


@pytest.mark.parametrize("make", [docker_config, containers_auth])
@pytest.mark.parametrize(
    "old",
    [
        b'{"auths": {"a": {"auth": "s3cret"',
        b"[]",
        b'{"auths": []}',
        b'{"credHelpers": "x"}',
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_damaged_json_file_is_refused(make, old):
    """It is named, and nothing of it is shown."""
    with pytest.raises(SettingsError, match='"the file" cannot be changed') as error:
        make(old, LOGIN, "the file")
    assert "s3cret" not in error.value.message + error.value.hint


def test_a_new_hosts_file_asks_the_hub_and_nobody_else():
    """The last server is the hub too, so that its refusal is what a client tells."""
    found = read(containerd_hosts(b"", LOGIN, "x"))
    header = {"Authorization": [f"Basic {BASIC}"]}
    host = {"capabilities": ["pull", "resolve"], "header": header}
    assert found == {"server": HUB, "header": header, "host": {HUB: host}}


def test_with_a_fallback_the_registry_itself_comes_last():
    """Without a server in the file it is the one that the image is named after."""
    found = read(containerd_hosts(b"", LOGIN, "x", fallback=True))
    assert list(found) == ["host"]


def test_a_login_of_an_account_names_its_machine_type():
    """By a header, on each request."""
    login = HubLogin(HUB, "qnib", "s3cret", "qnib/type1")
    found = read(containerd_hosts(b"", login, "x"))
    assert found["host"][HUB]["header"]["X-Hpcimg-Type"] == ["qnib/type1"]
    assert found["header"]["X-Hpcimg-Type"] == ["qnib/type1"]


def test_an_open_type_needs_no_login():
    """The header alone says it."""
    found = read(containerd_hosts(b"", HubLogin(HUB, "", "", "qnib/type1"), "x"))
    assert found["host"][HUB]["header"] == {"X-Hpcimg-Type": ["qnib/type1"]}


def test_certificates_are_those_beside():
    """Authorities, and our own with the key beside it or in it."""
    beside = Beside(("a.crt", 'b".crt'), (("c.cert", "c.key"), ("d.cert",)))
    found = read(containerd_hosts(b"", LOGIN, "x", beside))
    assert found["ca"] == found["host"][HUB]["ca"] == ["a.crt", 'b".crt']
    assert found["client"] == found["host"][HUB]["client"] == [["c.cert", "c.key"], "d.cert"]


def test_others_hosts_stay_behind_the_hub():
    """All that is not ours is the same, line by line."""
    text = containerd_hosts(OTHERS, LOGIN, "x", Beside(("c.crt",)))
    ours, theirs = read(text), read(OTHERS.decode())
    assert list(ours["host"]) == [HUB, "https://mirror.example.org"]
    del ours["host"][HUB]
    assert ours == theirs
    lines = text.splitlines()
    assert [line for line in OTHERS.decode().splitlines() if line not in lines] == []


def test_what_the_site_says_of_the_hub_itself_stays():
    """But for the login."""
    old = f"""\
[host."{HUB}"]
  capabilities = ["resolve"]
  skip_verify = true
[host."{HUB}".header]
  Authorization = "Basic old"
  x-site = "1"
"""
    found = read(containerd_hosts(old.encode(), LOGIN, "x"))["host"][HUB]
    assert found["capabilities"] == ["resolve"]
    assert found["skip_verify"] is True
    assert found["header"] == {"Authorization": [f"Basic {BASIC}"], "x-site": "1"}


@pytest.mark.parametrize("old", [b"", OTHERS, b"# only this\n", OTHERS.replace(b"\n", b"\r\n")])
@pytest.mark.parametrize("fallback", [False, True])
def test_twice_is_as_once(old, fallback):
    """And what was for another hub, or another login, is gone without a trace."""
    once = containerd_hosts(old, LOGIN, "x", fallback=fallback)
    assert containerd_hosts(once.encode(), LOGIN, "x", fallback=fallback) == once
    other = HubLogin("http://other.example.org", "qnib", "x", "qnib/type9")
    between = containerd_hosts(once.encode(), other, "x", Beside(("a.crt",)))
    assert HOST not in between
    assert containerd_hosts(between.encode(), LOGIN, "x", fallback=fallback) == once


def test_a_line_that_somebody_added_to_ours_stays():
    """Its table stays with it, though the hub is another one now."""
    once = containerd_hosts(b"", LOGIN, "x").replace(
        "capabilities", "skip_verify = true\ncapabilities", 1
    )
    other = HubLogin("http://other.example.org", "qnib-a", "x")
    found = read(containerd_hosts(once.encode(), other, "x"))
    assert found["host"][HUB] == {"skip_verify": True}


@pytest.mark.parametrize(
    "old",
    [
        "server = ",
        'server = "https://x',
        'ca = ["a"',
        "ca = '''",
        "just words",
        "[host",
        '[host]\n"https://x" = {capabilities = ["pull"]}',
        'host."https://x".capabilities = ["pull"]',
        '[[host."https://x"]]',
        f'[host."{HUB}"]\nheader = {{a = "b"}}',
        'header = {a = "b"}',
        'server = "a"\nserver = "b"',
        '[host."x"]\n[host."x"]',
    ],
)
def test_a_hosts_file_that_cannot_be_kept_is_refused(old):
    """It is no TOML, or says hosts in a form that lines cannot be put into."""
    with pytest.raises(SettingsError, match='"the file" cannot be changed'):
        containerd_hosts(old.encode(), LOGIN, "the file")


_WORDS = st.sampled_from(
    ["a = 1", 'b = "# x"', "c = '''\n[no]\n'''", 'd = ["x",\n "y"]', "# remark", "", '  e."f" = 2']
)
_TABLES = st.sampled_from(["[other]", '[host."https://a.x"]', '[host."https://a.x".header]'])


@given(
    st.lists(_WORDS, unique=True, max_size=4),
    st.dictionaries(_TABLES, st.lists(_WORDS, unique=True, max_size=4)),
)
def test_any_file_keeps_all_that_it_says(root, tables):
    """What TOML reads in it before, it reads in it afterwards; and again, it changes nothing."""
    text = "\n".join((*root, *(f"{k}\n" + "\n".join(v) for k, v in tables.items())))
    new = containerd_hosts(text.encode(), LOGIN, "x", fallback=True)
    before, after = read(text), read(new)
    assert after["host"].pop(HUB)["header"] == {"Authorization": [f"Basic {BASIC}"]}
    before.setdefault("host", {})
    assert after == before
    assert containerd_hosts(new.encode(), LOGIN, "x", fallback=True) == new
    assert all(line.endswith(MARK) for line in new.splitlines() if HOST in line)
