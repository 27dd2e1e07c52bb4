"""Containers' registries.conf: which files, which rule, what names become, what is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hpcimg.errors import NotListedError, SettingsError
from hpcimg.oci.hosts import Endpoint, Hosts, Surroundings
from hpcimg.oci.reference import parse_reference
from hpcimg.oci.registries_conf import (
    Mirror,
    RegistryRule,
    files_of,
    read_rules,
    read_short_names,
    rule_for,
    user_files,
)
from hpcimg.registry_settings import RegistrySettings

DIGEST = "sha256:" + "a" * 64
RULES = """
[[registry]]
prefix = "docker.io/qnib"
location = "hub.site:5000/mirror/qnib"
[[registry.mirror]]
location = "near.site/qnib"
[[registry.mirror]]
location = "tags.site/qnib"
pull-from-mirror = "tag-only"
[[registry.mirror]]
location = "digests.site/qnib"
pull-from-mirror = "digest-only"

[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "Cache.Site/hub"

[[registry]]
prefix = "*.example.org"
[[registry]]
prefix = "bad.example.org/evil"
location = "bad.example.org/evil"
blocked = true
[[registry]]
location = "old.site:5000"
insecure = true
mirror-by-digest-only = true
[[registry.mirror]]
location = "new.site"
"""


def written(folder: Path, text: str, name: str = "registries.conf") -> Path:
    """Write one file of a directory such as /etc/containers."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def rules(tmp_path):
    """Give the rules of the example."""
    return read_rules([written(tmp_path, RULES)])


def places(rules, name: str, **settings: RegistrySettings) -> list[str]:
    """List where a name is asked for."""
    hosts = Hosts(settings, Surroundings(rules), listed_only=False)
    found = hosts.endpoints(parse_reference(name))
    return [f"{place.registry}/{place.repository}" for place in found]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("qnib/a:1", ["near.site/qnib/a", "tags.site/qnib/a", "hub.site:5000/mirror/qnib/a"]),
        (
            f"qnib/a@{DIGEST}",
            ["near.site/qnib/a", "digests.site/qnib/a", "hub.site:5000/mirror/qnib/a"],
        ),
        ("qnibble/a", ["cache.site/hub/qnibble/a", "docker.io/qnibble/a"]),
        ("ubuntu", ["cache.site/hub/library/ubuntu", "docker.io/library/ubuntu"]),
        ("x.example.org/a/b", ["x.example.org/a/b"]),
        ("old.site:5000/a", ["old.site:5000/a"]),
        (f"old.site:5000/a@{DIGEST}", ["new.site/a", "old.site:5000/a"]),
        ("old.site:50001/a", ["old.site:50001/a"]),
        ("quay.io/a/b", ["quay.io/a/b"]),
    ],
)
def test_where_a_name_is_asked_for(rules, name, expected):
    """The longest prefix at a boundary decides; mirrors come first, the location last."""
    assert places(rules, name) == expected


def test_the_settings_mirrors_come_first(rules):
    """What the site says to us goes before what it says to all container tools."""
    settings = {"docker.io": RegistrySettings(mirrors=("own.site/proxy", "cache.site/hub"))}
    assert places(rules, "ubuntu", **settings) == [
        "own.site/proxy/library/ubuntu",
        "cache.site/hub/library/ubuntu",
        "docker.io/library/ubuntu",
    ]


def test_a_stand_in_has_no_name_of_its_own():
    """By its own name a mirror is not listed, or it would pass by what the site says of others."""
    settings = {"reg.example.org": RegistrySettings(mirrors=("mirror.example.org/hub",))}
    hosts = Hosts(settings, listed_only=True)
    assert hosts.endpoints(parse_reference("reg.example.org/a"))[0].registry == "mirror.example.org"
    hosts.check("https://mirror.example.org/v2/hub/a/manifests/latest")
    with pytest.raises(NotListedError, match=r'"mirror\.example\.org" is not listed'):
        hosts.endpoints(parse_reference("mirror.example.org/hub/a"))


@pytest.mark.parametrize("written", ["reg.example.org", "reg.example.org:443"])
@pytest.mark.parametrize("ruled", ["reg.example.org", "reg.example.org:443"])
def test_the_default_port_walks_past_no_rule(written, ruled):
    """A host is one, with its default port and without: blocked or moved in both spellings."""
    settings = {"reg.example.org": RegistrySettings()}
    rules = (
        RegistryRule(f"{ruled}/evil", f"{ruled}/evil", blocked=True),
        RegistryRule(f"{ruled}/moved", "there.example.org/x"),
    )
    hosts = Hosts(settings, Surroundings(rules), listed_only=True)
    with pytest.raises(NotListedError, match=r"is blocked by registries\.conf"):
        hosts.endpoints(parse_reference(f"{written}/evil/a"))
    moved = hosts.endpoints(parse_reference(f"{written}/moved/a"))
    assert moved == (Endpoint("there.example.org", "x/a"),)
    (plain,) = hosts.endpoints(parse_reference(f"{written}/plain/a"))
    assert plain == Endpoint(written, "plain/a")


def test_blocked_names_are_refused(rules):
    """Nothing is asked for a name that the administrator blocks."""
    with pytest.raises(NotListedError) as caught:
        places(rules, "bad.example.org/evil/a")
    assert caught.value.message == '"bad.example.org/evil/a" is blocked by registries.conf'
    assert places(rules, "bad.example.org/good") == ["bad.example.org/good"]


def test_insecure_holds_where_it_was_said(rules):
    """Plain http may be tried for that host alone, and not where a ca_file says better."""
    around = Surroundings(rules)
    assert Hosts({}, around, listed_only=False).may_be_plain("old.site:5000")
    assert not Hosts({}, around, listed_only=False).may_be_plain("new.site")
    settings = {"old.site:5000": RegistrySettings(ca_file="/ca.pem")}
    assert not Hosts(settings, around, listed_only=True).may_be_plain("old.site:5000")


def test_a_stand_in_of_a_listed_host_counts_as_listed(rules):
    """The administrator names it; mirrors of other hosts are not for the site's account."""
    settings = {"docker.io": RegistrySettings(mirrors=("own.site/proxy",))}
    hosts = Hosts(settings, Surroundings(rules), listed_only=True)
    for url in ("https://own.site/v2/", "https://hub.site:5000/v2/", "https://cache.site/v2/"):
        hosts.check(url)
    # By its own name nobody listed it: what the site says of docker.io would be passed by.
    with pytest.raises(NotListedError, match=r'registry host "own\.site" is not listed'):
        hosts.endpoints(parse_reference("own.site/proxy/qnib/a"))
    for host in ("new.site", "own.site:444", "old.site:5000"):
        with pytest.raises(NotListedError, match=f'registry host "{host}" is not listed'):
            hosts.check(f"https://{host}/v2/")
    with pytest.raises(NotListedError, match=r'host "old\.site:5000" is not listed'):
        hosts.endpoints(parse_reference("old.site:5000/a"))


def test_wildcard_prefixes():
    """`*.` stands for subdomains, not for the domain, a path or a part of a name."""
    rule = RegistryRule("*.example.org", mirrors=(Mirror("m.site"),))
    found = [
        name
        for name in ("a.example.org/x", "a.b.example.org/x", "example.org/x", "bexample.org/x",
                     "a.example.org.evil.com/x", "evil.com/a.example.org/x")
        if rule_for([rule], parse_reference(name))
    ]  # fmt: skip
    assert found == ["a.example.org/x", "a.b.example.org/x"]
    assert places([rule], "a.example.org/x/y") == ["m.site/x/y", "a.example.org/x/y"]
    assert rule.is_of_host("a.example.org")
    assert not rule.is_of_host("example.org")


def test_later_files_replace_earlier_ones(tmp_path):
    """Drop-in files come in the order of their names, and count by prefix."""
    written(tmp_path, '[[registry]]\nlocation = "a.b"\nblocked = true\n')
    written(tmp_path, '[[registry]]\nlocation = "c.d"\n', "registries.conf.d/20.conf")
    written(tmp_path, '[[registry]]\nlocation = "a.b"\n', "registries.conf.d/10.conf")
    written(tmp_path, "nonsense [", "registries.conf.d/README")
    found = read_rules(files_of(tmp_path))
    assert [(rule.prefix, rule.blocked) for rule in found] == [("a.b", False), ("c.d", False)]


def test_files_of_a_user(tmp_path):
    """An own registries.conf replaces the system's; own drop-in files alone come after it."""
    system, home = tmp_path / "etc", tmp_path / "home"
    own = home / ".config/containers"
    first = written(system, "", "registries.conf.d/1.conf")
    second = written(own, "", "registries.conf.d/0.conf")
    assert user_files({}, home, system) == (system / "registries.conf", first, second)
    main = written(own, "")
    assert user_files({}, home, system) == (main, second)
    elsewhere = tmp_path / "xdg"
    variables = {"XDG_CONFIG_HOME": str(elsewhere)}
    assert user_files(variables, home, system) == (system / "registries.conf", first)
    named = {"CONTAINERS_REGISTRIES_CONF": "/x.conf"}
    assert user_files(named, home, system) == (Path("/x.conf"),)


def test_short_names(tmp_path):
    """Aliases add up and can be taken back; the last list of registries to search counts."""
    written(
        tmp_path,
        'unqualified-search-registries = ["a.b", "c.d"]\n[aliases]\n"x" = "a.b/x"\n"y" = "a.b/y"\n',
    )
    written(
        tmp_path,
        'unqualified-search-registries = ["e.f"]\n[aliases]\n"x" = ""\n',
        "registries.conf.d/1.conf",
    )
    found = read_short_names(files_of(tmp_path))
    assert (found.aliases, found.search) == ({"y": "a.b/y"}, ("e.f",))


def test_files_without_rules_are_not_parsed(tmp_path):
    """Comments and short names, which distributions ship, load no parser and break nothing."""
    text = '# [[registry]]\n[aliases]\n"x" = "registry.a/x"\n  "registry" = "a.b/c"\nnot toml'
    only_names = written(tmp_path, text)
    assert read_rules([only_names, tmp_path / "missing.conf"]) == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[registry]", "it is not TOML"),
        ("[registries.search]\nregistries = []", "it has the form of version 1"),
        ("[[registry]]\nblocked = true", "'' is no prefix of image names"),
        ('[[registry]]\nprefix = "a b"', "'a b' is no prefix of image names"),
        ('[[registry]]\nlocation = "a.b"\ninsecure = 1', '"insecure" must be true or false'),
        ("[[registry]]\nlocation = 5", '"location" must be a text'),
        ('[[registry]]\nprefix = "a.b"\nlocation = "../x"', "location '../x' is not HOST"),
        ('registry = "a.b"', '"registry" must be a list of tables'),
        ('"registry" = ["a.b"]', '"registry" must be a list of tables'),
        (
            '[[registry]]\nlocation = "a.b"\n[[registry.mirror]]\nlocation = "x/../y"',
            "a mirror's location 'x/../y' is not HOST",
        ),
        (
            '[[registry]]\nprefix = "a.b"\nmirror = [{location="c.d", pull-from-mirror="never"}]',
            "\"pull-from-mirror\" is all, digest-only, tag-only, not 'never'",
        ),
    ],
)
def test_a_mistake_names_the_file(tmp_path, text, why):
    """A file that cannot be used stops, since it may have been written to block something."""
    path = written(tmp_path, text)
    with pytest.raises(SettingsError, match=re.escape(f'"{path}" cannot be used: {why}')):
        read_rules([path])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("aliases = 1", '"aliases" must be a table of texts'),
        ("[aliases]\nx = 1", '"aliases" must be a table of texts'),
        ('unqualified-search-registries = ["hub"]', '"unqualified-search-registries" must be'),
    ],
)
def test_a_mistake_in_short_names(tmp_path, text, why):
    """Short names that cannot be read decide nothing."""
    with pytest.raises(SettingsError, match=re.escape(why)):
        read_short_names([written(tmp_path, text)])


def test_pushes_go_to_the_location(rules):
    """What is written goes where the content comes from in the end, past all mirrors."""
    hosts = Hosts({}, Surroundings(rules), listed_only=False)
    assert hosts.origin(parse_reference("qnib/a")) == Endpoint("hub.site:5000", "mirror/qnib/a")
