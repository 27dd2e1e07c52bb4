"""The settings' schema says what the code reads: the same keys, the same defaults."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path

import jsonschema
import pytest
import yaml

import hpcimg
from hpcimg.bind import FLAGS
from hpcimg.container_settings import MountSettings
from hpcimg.host_mpi_settings import HostMpi
from hpcimg.policy import PolicyRule
from hpcimg.registry_settings import RegistrySettings
from hpcimg.settings import (
    _CHOICES,
    LOCKS,
    Limits,
    PrologSettings,
    Settings,
    StoreSettings,
    parse_settings,
)

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((Path(hpcimg.__file__).parent / "data/settings.schema.json").read_text())
TOP = SCHEMA["properties"]
SECTIONS = {
    "top": (Settings, {key: one for key, one in TOP.items() if key != "platform-features"}),
    "registry": (RegistrySettings, TOP["registries"]["additionalProperties"]["properties"]),
    "store": (StoreSettings, TOP["store"]["properties"]),
    "limits": (Limits, TOP["limits"]["properties"]),
    "prolog": (PrologSettings, TOP["prolog"]["properties"]),
    "rule": (PolicyRule, SCHEMA["definitions"]["rule"]["properties"]),
    "host_mpi": (HostMpi, SCHEMA["definitions"]["host_mpi"]["properties"]),
    "mount": (MountSettings, SCHEMA["definitions"]["mount"]["properties"]),
}


def default_of(field):
    """A field's default as JSON has it."""
    value = field.default_factory() if field.default is MISSING else field.default
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(("kind", "properties"), SECTIONS.values(), ids=SECTIONS)
def test_the_schema_has_the_keys_and_defaults_of_the_code(kind, properties):
    """A key that editors do not know, or whose default is another one, misleads."""
    assert set(properties) == {field.name for field in fields(kind)}
    for field in fields(kind):
        one = properties[field.name]
        assert one["description"], field.name
        if "properties" not in one:
            assert one["default"] == default_of(field), field.name


def test_the_schema_has_the_words_of_the_code():
    """Where only a few words may stand, they are the same ones."""
    for key, words in _CHOICES.items():
        assert tuple(TOP[key]["enum"]) == words
    assert tuple(TOP["store"]["properties"]["lock"]["enum"]) == LOCKS
    assert tuple(SCHEMA["definitions"]["mount"]["properties"]["flags"]["items"]["enum"]) == FLAGS


def example(name):
    """The text of an example of settings."""
    text = (ROOT / name).read_text("utf-8")
    return text.partition("```yaml\n")[2].partition("```")[0] if name.endswith(".md") else text


@pytest.mark.parametrize("name", ["docs/reference/settings.md", "examples/slurm/settings.yaml"])
def test_the_examples_are_valid_and_read(name):
    """What people copy is right for the editor and for hpcimg."""
    text = example(name)
    jsonschema.validate(yaml.safe_load(text), SCHEMA)
    assert parse_settings(text).registries


def test_the_example_uses_what_it_shows():
    """The commented file is a site with an alias, a mount and a variable."""
    found = parse_settings(example("examples/slurm/settings.yaml"))
    assert found.aliases["bench"] == "registry:5000/qnib/bench"
    assert [(one.source, one.flags) for one in found.mounts] == [
        ("/scratch/%u", ("nosuid", "optional")),
        ("/opt/site", ("ro", "optional")),
    ]
    assert found.environment == {"SITE_SCRATCH": "/scratch"}


@pytest.mark.parametrize("text", ["", "store:\nlimits:", "registries:\n  docker.io:", "mounts:"])
def test_what_says_nothing_is_valid(text):
    """As to hpcimg itself."""
    jsonschema.validate(yaml.safe_load(text), SCHEMA)
    parse_settings(text)


@pytest.mark.parametrize(
    "text",
    [
        "policyy: exact",
        "policy: best",
        "store: {pth: /x}",
        "registries: {a.b: {plain: true}}",
        "store: {path: srv}",
        "mounts: [a:/b]",
        "mounts: [{source: /a, flags: [suid]}]",
        "environment: {A: [b]}",
        "policies: [{policyy: exact}]",
    ],
)
def test_a_mistake_is_seen_in_the_editor(text):
    """What hpcimg refuses, the schema refuses before it is saved."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), SCHEMA)
