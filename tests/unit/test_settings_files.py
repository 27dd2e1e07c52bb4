"""Several settings files: which count, in what order, how they join, and that they are root's."""

from __future__ import annotations

import os

import pytest

from hpcimg.errors import SettingsError
from hpcimg.registry_settings import RegistrySettings
from hpcimg.settings import Settings, places_of_settings, read_settings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose files the site's are")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Give a function that writes files in the place of the site's, by their names."""
    monkeypatch.setattr("hpcimg.settings.DEFAULT_PATH", tmp_path / "settings.yaml")

    def write(**texts):
        for name, text in texts.items():
            stem = name.replace("_", "-")
            path = tmp_path / (f"{stem}.yaml" if name == "settings" else f"settings.d/{stem}.yaml")
            path.parent.mkdir(mode=0o755, exist_ok=True)
            path.write_text(text)
            path.chmod(0o644)
        return tmp_path

    return write


def test_no_file_at_all(site):
    """A machine without settings has the defaults."""
    assert read_settings({}) == Settings()


def test_drop_ins_come_in_the_order_of_their_names(site):
    """A later file counts over an earlier one, and all of them over the main file."""
    site(
        b20="pull: always\nmatch: uniform",
        a10="pull: missing\npolicy: exact",
        settings="pull: newer",
    )
    found = read_settings({})
    assert (found.pull, found.policy, found.match) == ("always", "exact", "uniform")


def test_drop_ins_alone_are_a_site(site):
    """A package may bring a drop-in to a site that has no main file."""
    site(a10="policy: exact")
    assert read_settings({}).policy == "exact"


def test_mappings_join_and_lists_are_replaced(site):
    """A drop-in adds a registry, and a key to one that is there; a list is said anew as a whole."""
    site(
        settings="registries:\n  A.b: {plain_http: true, mirrors: [c.d, e.f]}\n  g.h: {}\n"
        "store: {path: /s, account: me}\nno_proxy: [a, b]",
        a10="registries:\n  a.b: {mirrors: [x.y]}\n  i.j:\nstore: {path: /t}\nno_proxy: [c]",
    )
    found = read_settings({})
    assert found.registries == {
        "a.b": RegistrySettings(plain_http=True, mirrors=("x.y",)),
        "g.h": RegistrySettings(),
        "i.j": RegistrySettings(),
    }
    assert (found.store.path, found.store.account, found.no_proxy) == ("/t", "me", ("c",))


def test_a_key_without_a_value_takes_nothing_away(site):
    """An empty section of a drop-in is no mistake and no change; an empty list is a change."""
    site(settings="store: {path: /s}\nno_proxy: [a]", a10="store:\nno_proxy: []")
    assert (read_settings({}).store.path, read_settings({}).no_proxy) == ("/s", ())


def test_both_spellings_of_a_key_are_one(site):
    """A drop-in may write platform-features where the main file has platform_features."""
    site(settings="platform_features: [a.b]", a10="platform-features: [c.d]")
    assert read_settings({}).platform_features == ("c.d",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("policy: exact\nstore: {pathh: x}", 'a10.yaml:2: "pathh" is no setting; did you mean'),
        ("store:\n  path: srv", "a10.yaml:2: \"path\" must begin with /, not 'srv'"),
        ("[]", 'a10.yaml:1: "the file" must be a mapping of keys to values'),
        ("a: 1\nb: ]", "a10.yaml:2: not YAML: "),
        ("\npull: x\npull: y", "a10.yaml:3: 'pull' stands twice in one mapping"),
        ("pull: !!timestamp x", "a10.yaml:1: not YAML: "),
    ],
)  # fmt: skip
def test_a_mistake_in_a_drop_in_names_its_file_and_line(site, text, message):
    """The main file's own line of the same key would send its reader to the wrong place."""
    folder = site(settings="\n\n\nstore: {path: /s, account: me}\npull: newer", a10=text)
    with pytest.raises(SettingsError) as caught:
        read_settings({})
    assert caught.value.message.startswith(f"{folder}/settings.d/{message}")


def test_a_key_s_place_is_that_of_the_file_that_counts(site):
    """What a drop-in does not say keeps its place in the main file."""
    folder = site(
        settings="policy: exact\nstore:\n  path: /s\n  account: me\n",
        a10="\nstore:\n  account: you",
    )
    places = places_of_settings({})
    assert places["policy",] == f"{folder}/settings.yaml:1"
    assert places["store", "path"] == f"{folder}/settings.yaml:3"
    assert places["store", "account"] == f"{folder}/settings.d/a10.yaml:3"


def test_only_yaml_files_count(site):
    """What editors and package managers leave behind is passed over."""
    folder = site(settings="pull: newer", a10="policy: exact") / "settings.d"
    for name in (".a20.yaml", "a20.yaml~", "a20.yaml.rpmnew", "README"):
        (folder / name).write_text("pull: always")
    assert read_settings({}).pull == "newer"


def test_a_users_own_file_stands_alone(site, tmp_path):
    """HPCIMG_SETTINGS names one file; the site's drop-ins are of the site's file."""
    site(settings="pull: newer", a10="policy: exact")
    own = tmp_path / "own.yaml"
    own.write_text("pull: always")
    found = read_settings({"HPCIMG_SETTINGS": str(own)})
    assert (found.pull, found.policy) == ("always", "compatible")


@pytest.mark.parametrize("what", ["settings.d", "settings.d/a10.yaml"])
@pytest.mark.parametrize(("uid", "mode"), [(12345, 0o755), (0, 0o775), (0, 0o757)])
def test_drop_ins_and_their_directory_are_root_s_to_write(site, what, uid, mode):
    """Who may add a file decides as much as who may write the main one."""
    path = site(settings="pull: newer", a10="policy: exact") / what
    assert read_settings({}).policy == "exact"
    os.chown(path, uid, -1)
    path.chmod(mode)
    with pytest.raises(SettingsError) as caught:
        read_settings({})
    kind = "directory" if path.is_dir() else "file"
    assert caught.value.message == (
        f'settings {kind} "{path}" is not safe: it belongs to uid {uid} (mode {mode:04o})'
    )
    assert caught.value.hint == f"as root: chown root {path} && chmod go-w {path}"


def test_what_cannot_be_read_is_said_with_what_to_do(site, tmp_path):
    """Of the site's file as of a user's own."""
    folder = site(a10="policy: exact")
    (folder / "settings.yaml").mkdir(mode=0o755)
    for environment, hint in (
        ({}, f"as root: chmod a+r {folder}/settings.yaml"),
        ({"HPCIMG_SETTINGS": str(tmp_path)}, "name a file that you may read"),
    ):
        with pytest.raises(SettingsError, match="could not read settings file") as caught:
            read_settings(environment)
        assert caught.value.hint == hint
