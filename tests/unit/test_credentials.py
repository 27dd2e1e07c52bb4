"""Credential files: their order, their keys, what is wrong with them."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from hpcimg.errors import SettingsError
from hpcimg.oci.credentials import (
    Credential,
    Logins,
    covering_keys,
    credential_files,
    credential_finder,
    normalise_key,
    parse_logins,
)

HOME = Path("/home/alice")


def auth(username: str, secret: str) -> dict[str, str]:
    """Write an entry of "auths"."""
    return {"auth": base64.b64encode(f"{username}:{secret}".encode()).decode()}


def logins(**document) -> Logins:
    """Parse a file of this content."""
    return parse_logins(json.dumps(document).encode(), source="auth.json")


@pytest.mark.parametrize(
    ("environment", "files"),
    [
        (
            {},
            [
                f"/run/containers/{os.geteuid()}/auth.json",
                ".config/containers/auth.json",
                ".docker/config.json",
            ],
        ),
        (
            {"XDG_RUNTIME_DIR": "/run/user/1", "XDG_CONFIG_HOME": "/c", "DOCKER_CONFIG": "/d"},
            ["/run/user/1/containers/auth.json", "/c/containers/auth.json", "/d/config.json"],
        ),
        ({"REGISTRY_AUTH_FILE": "/a.json", "DOCKER_CONFIG": "/d"}, ["/a.json"]),
    ],
)
def test_files_in_order(environment, files):
    """The files of podman come before docker's; REGISTRY_AUTH_FILE stands alone."""
    assert credential_files(environment, HOME) == tuple(HOME / file for file in files)


def test_covering_keys():
    """Keys go from the whole repository to the registry."""
    keys = list(covering_keys("registry:5000", "team/app"))
    assert keys == ["registry:5000/team/app", "registry:5000/team", "registry:5000"]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("https://Registry.Example:5000/v2/", "registry.example:5000"),
        ("http://registry.example/", "registry.example"),
        ("registry.example/team/app", "registry.example/team/app"),
    ],
)
def test_normalise_key(key, expected):
    """Docker's URL keys and Docker Hub's names come to one spelling."""
    assert normalise_key(key) == expected


def test_longest_key_wins():
    """A login for a path is used for that path only."""
    found = logins(auths={"r:1": auth("site", "a"), "r:1/team": auth("team", "b")})
    assert found.find("r:1", "team/app", {}) == Credential("team", "b")
    assert found.find("r:1", "teams/app", {}) == Credential("site", "a")
    assert found.find("other:1", "team/app", {}) is None


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (auth("alice", "a:b"), Credential("alice", "a:b")),
        (auth("alice", "a\0\0"), Credential("alice", "a")),
        ({"username": "alice", "password": "a"}, Credential("alice", "a")),
        ({"auth": "", "identitytoken": "t"}, Credential("<token>", "t")),
        ({}, None),
    ],
    ids=["auth", "padded", "plain", "identity token", "empty"],
)
def test_forms_of_a_login(entry, expected):
    """All forms that docker and podman write are read."""
    assert logins(auths={"r:1": entry}).find("r:1", "a", {}) == expected


def test_docker_hub():
    """Docker's own key serves docker.io."""
    found = logins(auths={"https://index.docker.io/v1/": auth("alice", "a")})
    assert found.find("docker.io", "library/alpine", {}) == Credential("alice", "a")


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"{hush", "it is not JSON"),
        (b"[]", "it is no JSON object"),
        (b'{"auths": [1]}', '"auths" is no object'),
        (b'{"auths": {"r:1": "hush"}}', 'the entry of "r:1" is no object'),
        (b'{"auths": {"r:1": {"auth": "hush!"}}}', '"auth" of "r:1" is not base64 text'),
        (b'{"auths": {"r:1": {"auth": "aHVzaA=="}}}', '"auth" of "r:1" has no colon'),
        (b'{"credsStore": ["hush"]}', '"credsStore" is no string'),
    ],
)
def test_malformed_file(raw, why):
    """A file that cannot be used is named, and nothing of its content is quoted."""
    with pytest.raises(SettingsError) as caught:
        parse_logins(raw, source="auth.json")
    assert caught.value.message == f'credentials in "auth.json" cannot be used: {why}'
    assert caught.value.__cause__ is None


@pytest.fixture
def helper(tmp_path):
    """Install a docker-credential-site that knows one server; return the environment for it."""
    program = tmp_path / "docker-credential-site"
    program.write_text(
        "#!/bin/sh\n"
        "read -r server\n"
        '[ "$1" = get ] || exit 3\n'
        'case "$server" in\n'
        "broken:1) echo 'no key ring' >&2; exit 1;;\n"
        'junk:1) echo \'{"Username": "hush"}\';;\n'
        'r:1) echo \'{"ServerURL": "r:1", "Username": "alice", "Secret": "hush"}\';;\n'
        "*) echo 'credentials not found in native keychain'; exit 1;;\n"
        "esac\n"
    )
    program.chmod(0o755)
    return {"PATH": f"{tmp_path}:/usr/bin:/bin"}


def test_helper(helper):
    """A helper named for a registry is asked for it; the default one for all others."""
    assert logins(credHelpers={"r:1": "site"}).find("r:1", "a", helper) == Credential(
        "alice", "hush"
    )
    found = logins(credsStore="site", auths={"s:1": auth("bob", "b")})
    assert found.find("r:1", "a", helper) == Credential("alice", "hush")
    assert found.find("s:1", "a", helper) == Credential("bob", "b")


def test_helper_that_fails(helper):
    """A helper's failure is told with its own words."""
    with pytest.raises(Exception, match=r"docker-credential-site exited with 1: no key ring"):
        logins(credsStore="site").find("broken:1", "a", helper)


def test_helper_that_answers_junk(helper):
    """A helper's answer is never quoted."""
    with pytest.raises(Exception, match=r"something else than a login") as caught:
        logins(credsStore="site").find("junk:1", "a", helper)
    assert "hush" not in str(caught.value)


def test_no_helper_for_one_registry():
    """An empty name beside a store of logins: the file counts, and nobody is asked."""
    kept = logins(auths={"r:1": auth("u", "p")}, credHelpers={"r:1": ""}, credsStore="missing")
    assert kept.find("r:1", "a", {}) == Credential("u", "p")


def test_helper_that_is_a_path():
    """A helper's name cannot lead to another program."""
    with pytest.raises(SettingsError, match=r"credential helper '../evil' is no program name"):
        logins(credHelpers={"r:1": "../evil"}).find("r:1", "a", {})


def test_finder(tmp_path):
    """The first file with a login decides; a file that is missing is passed over."""
    (tmp_path / ".docker").mkdir()
    document = {"auths": {"r:1": auth("alice", "a")}}
    (tmp_path / ".docker" / "config.json").write_text(json.dumps(document))
    find = credential_finder({}, tmp_path)
    assert find("r:1", "a") == Credential("alice", "a")
    assert find("s:1", "a") is None
