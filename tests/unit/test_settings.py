"""The settings file: what may stand in it, and how a mistake in it is said."""

from __future__ import annotations

import pytest

from hpcimg.errors import SettingsError
from hpcimg.settings import RegistrySettings, Settings, parse_settings, read_settings


@pytest.mark.parametrize("text", ["", "store:\n", "registries: {}\nlimits:\n"])
def test_nothing_said_means_the_defaults(text):
    """An empty file or section is no mistake."""
    assert parse_settings(text) == Settings()


def test_a_host_s_case_does_not_matter():
    """A reference has its registry in lower case, and must find what the site says of it."""
    settings = parse_settings("registries: {Registry.Example:5000: {plain_http: true}}")
    assert settings.registries == {"registry.example:5000": RegistrySettings(plain_http=True)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", 's.yaml:1: "the file" must be a mapping of keys to values'),
        ("false", 's.yaml:1: "the file" must be a mapping of keys to values'),
        ("policy: exact\nstore: []", 's.yaml:2: "store" must be a mapping of keys to values'),
        ("limits:\n  layer: 5", 's.yaml:2: "layer" is no setting; known: compressed_bytes, '),
        ("registries: {a.b: {ca_file: 5}}", '"ca_file" must be a text, not 5'),
        ("registries: {a.b: {plain_http: 1}}", '"plain_http" must be true or false, not 1'),
        ("store: {lock_timeout: .nan}", '"lock_timeout" must be a number, not nan'),
        ("store: {lock_timeout: -1}", '"lock_timeout" must be a number, not -1'),
        ("limits: {layers: true}", '"layers" must be a number, not True'),
        ("policy: best", 's.yaml:1: "policy" is compatible or exact, not '),
        ("a: [", '"s.yaml" is not YAML: while parsing'),
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
