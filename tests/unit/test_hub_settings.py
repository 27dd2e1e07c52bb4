"""The hub's settings: what may be said, and the line of what may not."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from hpcimg.errors import SettingsError
from hpcimg.hub.settings import HubSettings, parse_hub_settings, read_hub_settings
from hpcimg.oci.hosts import Hosts
from hpcimg.oci.reference import parse_reference

FULL = """
listen: 0.0.0.0:5000
url: https://hub.example.org
tls: {certificate: /etc/hub.crt, key: /etc/hub.key, client_ca: /etc/machines.crt}
database: postgresql+psycopg://hub@db/hub
cache: {path: /var/cache/hub, bytes: 2T}
upstreams:
  hub: {registry: docker.io}
  own: {registry: "Registry.example.org:5000", accounts: [qnib]}
default_upstream: own
registries:
  registry.example.org:5000: {credentials: /etc/hub-auth.json, mirrors: [mirror.example.org/x]}
policy: exact
policies: [{repository: qnib/*, policy: compatible}]
challenge: basic
token_seconds: 10m
tag_seconds: 30
stale_age: 14d
anonymous: qnib/generic
open_types: [qnib/*]
networks: {10.1.0.0/16: qnib/type1, "fd00::/8": qnib/type2}
hosts: "{account}-{type}.hub.example.org"
header: X-Type
proxies: [10.0.0.1/32]
audit: ""
limits: {logins: 3}
"""


def test_everything_that_may_be_said():
    """Each key is read to its type."""
    found = parse_hub_settings(FULL)
    assert found.address == ("0.0.0.0", 5000)
    assert found.cache.bytes == 2 * 10**12
    assert (found.token_seconds, found.tag_seconds, found.stale_age) == (600, 30, 14 * 86400)
    assert found.hosts_of_upstreams == {"hub": "docker.io", "own": "registry.example.org:5000"}
    assert found.first_upstream == "own"
    assert set(found.registries) == {"docker.io", "registry.example.org:5000"}
    assert found.policies[0].repository == "registry.example.org:5000/qnib/*"
    assert found.rules.networks[0].network == ip_network("10.1.0.0/16")
    assert found.limits.logins == 3


def test_what_the_hub_logs_in_for_is_readable_by_its_accounts():
    """Patterns of repositories may still narrow it."""
    assert parse_hub_settings(FULL).registries["registry.example.org:5000"].readable == ("*",)


def test_nothing_needs_to_be_said(tmp_path, monkeypatch):
    """A hub without a file serves Docker Hub to those who log in, on this machine."""
    monkeypatch.setattr("hpcimg.hub.settings.DEFAULT_PATH", tmp_path / "none.yaml")
    found = read_hub_settings(None)
    assert found == HubSettings()
    assert found.address == ("127.0.0.1", 8080)
    assert found.hosts_of_upstreams == {"hub": "docker.io"}
    assert found == parse_hub_settings("")
    bench = parse_reference("qnib/bench")
    assert [one.registry for one in Hosts(found.registries, listed_only=True).endpoints(bench)] == [
        "docker.io"
    ]
    assert (found.open_types, found.anonymous) == ((), "")


def test_a_file_that_was_named_has_to_be_there(tmp_path):
    """Else the hub would serve other things than its administrator meant."""
    with pytest.raises(SettingsError, match="does not exist"):
        read_hub_settings(tmp_path / "hub.yaml")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("listen: 5000", '"listen" must be a text, not 5000'),
        ("listen: somewhere", '"listen" must be HOST:PORT'),
        ("\nlisten: 1.2.3.4:99999", 'x:2: "listen" must be HOST:PORT'),
        ("upstream: {}", '"upstream" is no setting; did you mean upstreams?'),
        ("upstreams: {a: {registry: host}}", '"registry" must be the HOST'),
        ("upstreams: {a: {registry: b.c}, d: {registry: B.c}}", "are the same registry"),
        ("default_upstream: x", "which is no upstream; known: hub"),
        ("networks: {10.1.0.0/8: a/b}", "'10.1.0.0/8' is no network"),
        ("proxies: [somewhere]", "'somewhere' is no network"),
        ("tls: {certificate: /x}", '"certificate" and "key" go together'),
        ("tls: {client_ca: /x}", '"client_ca" is of no use without "certificate"'),
        ("cache: {bytes: much}", "\"bytes\" is 'much'"),
        ("token_seconds: soon", "\"token_seconds\" is 'soon'"),
        ("challenge: digest", '"challenge" is bearer or basic'),
        ("policy: best", '"policy" is compatible or exact'),
        ("networks: {10.0.0.0/8: ab}", "'ab' is not the full name of a machine type"),
        ("anonymous: ab", "'ab' is not the full name of a machine type"),
        ("hosts: hub.example.org", '"hosts" must have {account} and {type}'),
        ("open_types: [site]", "\"open_types\" has 'site', which is no ACCOUNT/TYPE"),
        ("upstreams: {}", '"upstreams" names none'),
        ("upstreams: {a b: {registry: c.d}}", "'a b' cannot be the first part"),
        ("upstreams: {a: {registry: b.c, accounts: []}}", '"accounts" names none'),
        ("limits: {logins: 0}", '"logins" must be 1 or more'),
        ("limits: {clients: 2.5}", '"clients" must be 1 or more'),
        ("limits: {idle: 0}", '"idle" must be 1 or more'),
        ("token_seconds: 0", '"token_seconds" must be more than 0'),
        ("url: hub.example.org", '"url" must begin with http'),
        ("a: 1\na: 2", "x:2:"),
        ("[", "x:"),
    ],
)
def test_mistakes_are_told_with_their_line(text, why):
    """An administrator finds what to change."""
    with pytest.raises(SettingsError) as caught:
        parse_hub_settings(text, source="x")
    assert why in caught.value.message
    assert "x:" in caught.value.message
