"""The settings file: what may stand in it, and how a mistake in it is said."""

from __future__ import annotations

import os
import re

import pytest

from hpcimg.errors import SettingsError
from hpcimg.registry_settings import KeyRule, RegistrySettings
from hpcimg.settings import Settings, StageSettings, parse_settings, read_settings


@pytest.mark.parametrize("text", ["", "store:\n", "registries: {}\nlimits:\n"])
def test_nothing_said_means_the_defaults(text):
    """An empty file or section is no mistake."""
    assert parse_settings(text) == Settings()


def test_a_host_s_case_does_not_matter():
    """A reference has its registry in lower case, and must find what the site says of it."""
    settings = parse_settings("registries: {Registry.Example:5000: {plain_http: true}}")
    assert settings.registries == {"registry.example:5000": RegistrySettings(plain_http=True)}


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("[/k/a.pub, /k/b.pub]", (KeyRule("*", ("/k/a.pub", "/k/b.pub")),)),
        ("[]", (KeyRule("*", ()),)),
        (
            '{"qnib/*": [/k/a.pub], "*": []}',
            (KeyRule("qnib/*", ("/k/a.pub",)), KeyRule("*", ())),
        ),
    ],
    ids=["all", "none", "by pattern"],
)
def test_keys_for_all_repositories_or_by_pattern(text, rules):
    """A list is for the whole host, a mapping has the pattern of the repositories first."""
    settings = parse_settings(f"registries: {{a.b: {{repositories: [x/*], signatures: {text}}}}}")
    assert settings.registries["a.b"] == RegistrySettings(repositories=("x/*",), signatures=rules)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", 's.yaml:1: "the file" must be a mapping of keys to values'),
        ("false", 's.yaml:1: "the file" must be a mapping of keys to values'),
        ("policy: exact\nstore: []", 's.yaml:2: "store" must be a mapping of keys to values'),
        ("limits:\n  layer: 5", 's.yaml:2: "layer" is no setting; did you mean layers?'),
        ("limits:\n  qqq: 5", 's.yaml:2: "qqq" is no setting; known: compressed_bytes, '),
        ("registries: {a.b: {ca_file: 5}}", '"ca_file" must be a text, not 5'),
        ("registries: {a.b: {plain_http: 1}}", '"plain_http" must be true or false, not 1'),
        ("store: {lock_timeout: .nan}", '"lock_timeout" must be a number, not nan'),
        ("store: {lock_timeout: -1}", '"lock_timeout" must be a number, not -1'),
        ("limits: {layers: true}", '"layers" must be a number, not True'),
        ("registries: {a.b: {repositories: x}}", '"repositories" must be a list'),
        ("registries: {a.b: {signatures: x}}", '"signatures" must be a list'),
        ("registries: {a.b: {repositories: }}", '"repositories" says nothing: write a list'),
        ("registries: {a.b: {signatures: }}", '"signatures" says nothing: write a list'),
        ("registries:\n  a.b:\n    signatures:\n      x:", 's.yaml:4: "x" says nothing'),
        ("registries: {a.b: {signatures: {x: 5}}}", '"x" must be a list'),
        (
            "registries:\n  a.b:\n    signatures: [site.pub]",
            "s.yaml:3: \"signatures\" names paths that begin with /, not 'site.pub'",
        ),
        ("policy: best", 's.yaml:1: "policy" is compatible or exact, not '),
        ("pull: never", "s.yaml:1: \"pull\" is missing or newer or always, not 'never'"),
        ("accounting: all", '"accounting" is none or admin-comment or comment, not '),
        ("policy: exact\nstale_age: -1", 's.yaml:2: "stale_age" must be a number, not -1'),
        ("a: [", ": not YAML: "),
        ("policy: exact\n---\npolicy: exact\n", "s.yaml:2: not YAML: "),
        ("a: !!python/object:os.system x", "s.yaml:1: not YAML: "),
        ("policy: exact\npolicy: compatible", "s.yaml:2: 'policy' stands twice in one mapping"),
        ("store:\n  path: /a\n  path: /b", "s.yaml:3: 'path' stands twice in one mapping"),
        ("store: {path: srv}", "s.yaml:1: \"path\" must begin with /, not 'srv'"),
        (
            "registries:\n  a.b: {}\n  c.d:\n    plain_http: 1\naliases: {plain_http: x}",
            's.yaml:4: "plain_http" must be true or false, not 1',
        ),
        ("policy: exact\nstore: {account: a,\n  loc: 1}", 's.yaml:3: "loc" is no setting'),
        ("store: {lock: soft}", "\"lock\" is flock or fcntl or link or none, not 'soft'"),
        ("store:\n  high_water: 2X", "s.yaml:2: \"high_water\" is '2X': a size is a number"),
        ("store: {low_water: 1}", '"low_water" is more than "high_water", at which removing'),
        ("registries: {a.b: {mirrors: c.d}}", 's.yaml:1: "mirrors" must be a list'),
        (
            "registries:\n  a.b:\n    mirrors: [c.d, x/../y]",
            "s.yaml:3: \"mirrors\" has 'x/../y', which is no HOST[:PORT][/PATH]",
        ),
        ("registries: {a.b: {connections: 0}}", '"connections" must be 1 or more'),
        ("registries: {a.b: {connections: 1.5}}", '"connections" must be 1 or more'),
        (
            "registries: {a.b: {client_key: /k}}",
            '"client_key" is of no use without "client_certificate"',
        ),
        ("registries: {a.b: {readable: [x]}}", '"readable" is of no use without "credentials"'),
        ("no_proxy: a.b", '"no_proxy" must be a list'),
        ("limits: {layers: 1}\nregistries:\n  limits: []", 's.yaml:3: "limits" must be a mapping'),
    ],
)
def test_a_mistake_is_named(text, message):
    """Nothing that an administrator wrote is passed over in silence."""
    with pytest.raises(SettingsError) as caught:
        parse_settings(text, source="s.yaml")
    assert message in caught.value.message


def test_a_file_that_is_no_text(tmp_path):
    """A wrong file is said to be one."""
    (tmp_path / "s").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r'/s" is not UTF-8 text'):
        read_settings({"HPCIMG_SETTINGS": str(tmp_path / "s")})


@pytest.fixture
def site_file(tmp_path, monkeypatch):
    """A file in the place of the site's."""
    path = tmp_path / "settings.yaml"
    path.write_text("policy: exact\n")
    path.chmod(0o644)
    monkeypatch.setattr("hpcimg.settings.DEFAULT_PATH", path)
    return path


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose file the site's is")
@pytest.mark.parametrize(("uid", "mode"), [(12345, 0o644), (0, 0o664), (0, 0o646)])
def test_the_site_s_file_is_root_s_to_write(site_file, uid, mode):
    """Who may write it decides where every job's image comes from; the hint mends it."""
    assert read_settings({}).policy == "exact"
    os.chown(site_file, uid, -1)
    site_file.chmod(mode)
    with pytest.raises(SettingsError) as caught:
        read_settings({})
    assert caught.value.message == (
        f'settings file "{site_file}" is not safe: it belongs to uid {uid} (mode {mode:04o})'
    )
    assert caught.value.hint == f"as root: chown root {site_file} && chmod go-w {site_file}"
    assert read_settings({"HPCIMG_SETTINGS": str(site_file)}).policy == "exact"


def test_water_marks_are_bytes_or_texts():
    """Sizes are written as people do."""
    store = parse_settings("store: {high_water: 2T, low_water: 1500, blob_bytes: 5G}").store
    assert (store.high_water, store.low_water) == (2 * 10**12, 1500)
    assert store.blob_bytes == 5 * 10**9


def test_what_is_said_of_a_registry():
    """Lists become tuples; what is left out is the default."""
    text = "registries: {a.b: {mirrors: [c.d/x], connections: 2, proxy: '', readable: [q/*],"
    settings = parse_settings(
        text + " credentials: /x.json}}\nno_proxy: [.site]\nproxy: http://p:1"
    )
    assert settings.registries["a.b"] == RegistrySettings(
        mirrors=("c.d/x",), connections=2, proxy="", readable=("q/*",), credentials="/x.json"
    )
    assert (settings.proxy, settings.no_proxy) == ("http://p:1", (".site",))


@pytest.mark.parametrize(
    "text",
    [
        "proxy: socks5://u:hush@p",
        "proxy: 'http://u:hush@p/x y'",
        "registries: {a.b: {proxy: u:hush}}",
    ],
)
def test_a_proxy_is_not_shown(text):
    """A proxy's URL may hold a login, so that a mistake in one names the key only."""
    with pytest.raises(SettingsError, match='"proxy" must be http') as caught:
        parse_settings(text)
    assert "hush" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stage: none", StageSettings()),
        ("stage: local", StageSettings("/var/cache/hpcimg")),
        ("stage: {path: /scratch/images, bytes: 2T}", StageSettings("/scratch/images", 2 * 10**12)),
        ("stage: {bytes: 5}", StageSettings("/var/cache/hpcimg", 5)),
    ],
)
def test_where_nodes_keep_copies(text, expected):
    """In a word, or with a place and a limit."""
    assert parse_settings(text).stage == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stage: always", 'x:1: "stage" must be a mapping of keys to values'),
        ("stage: {path: images}", "x:1: \"path\" must begin with /, not 'images'"),
        ("stage: {bytes: many}", "x:1: \"bytes\" is 'many': "),
    ],
)
def test_a_wrong_stage(text, message):
    """It names its line."""
    with pytest.raises(SettingsError, match=re.escape(message)):
        parse_settings(text, source="x")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("containers: {path: var/kept}", '1: "path" must begin with /'),
        ("containers: {path: '/a:b'}", "have no colon or comma"),
        ("containers: {keep: ever}", "\"keep\" is job or always, not 'ever'"),
        ("containers: {kept: job}", "kept"),
    ],
)
def test_where_containers_are_kept_is_checked(text, why):
    """Root makes directories there, and Apptainer takes a colon for an end."""
    with pytest.raises(SettingsError) as refused:
        parse_settings(text)
    assert why in refused.value.message


def test_where_containers_are_kept():
    """On each node, until the job ends, unless the site says otherwise."""
    assert parse_settings("").containers.keep == "job"
    given = parse_settings("containers: {path: /scratch/kept, keep: always}").containers
    assert (given.path, given.keep) == ("/scratch/kept", "always")
