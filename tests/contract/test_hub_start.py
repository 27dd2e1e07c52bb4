"""What a hub says when it starts, and what it does not start with."""

from __future__ import annotations

import json

import pytest
from hub import RunningHub
from registry import Registry
from test_hub_serve import login, settings_of

from hpcimg.cli import main


@pytest.fixture(scope="module")
def registry():
    """Make a registry."""
    with Registry() as running:
        yield running


def test_known_passwords_end_with_the_option(registry, tmp_path):
    """Whoever tried it out leaves no door open."""
    text = settings_of(registry, tmp_path)
    with RunningHub(tmp_path / "x", text) as hub:
        assert "passwords that everybody knows" in hub.said
        assert hub.ask("/v2/", login("type1")).status == 200
    with RunningHub(tmp_path / "x", text, static=False) as hub:
        assert "removed logins with known passwords: qnib-type1" in hub.said
        assert hub.ask("/v2/", login("type1")).status == 401
    with RunningHub(tmp_path / "x", text, static=False) as hub:
        assert "removed" not in hub.said


def test_what_is_missing_is_said(registry, tmp_path):
    """A name that is misspelt, and a hub that nobody can log in to."""
    text = settings_of(
        registry,
        tmp_path,
        networks={"10.0.0.0/8": "site/none"},
        anonymous="site/nobody",
        upstreams={"own": {"registry": registry.name, "accounts": ["ghost"]}},
        database=f"sqlite:///{tmp_path}/empty.sqlite",
    )
    with RunningHub(tmp_path / "x", text, static=False) as hub:
        for word in (
            "nobody can log in yet",
            "no machine type site/none, which networks names",
            "no machine type site/nobody, which anonymous names",
            "no account ghost, which an upstream lists",
            f"database sqlite:///{tmp_path}/empty.sqlite",
        ):
            assert word in hub.said


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"listen": "5000"}, '"listen" must be HOST:PORT'),
        ({"audit": "/nonexistent/audit.log"}, "could not write the audit log"),
        ({"tls": {"certificate": "/none", "key": "/none"}}, "could not use the TLS files"),
        ({"credentials": "missing"}, "which does not exist"),
        ({"credentials": "open"}, "are not safe"),
        ({"credentials": "junk"}, "junk"),
    ],
)
def test_what_it_does_not_start_with(registry, tmp_path, capsys, said, why):
    """Told in two lines, before a client finds out."""
    if name := said.pop("credentials", ""):
        path = tmp_path / name
        if name != "missing":
            path.write_text("{" if name == "junk" else "{}")
            path.chmod(0o644 if name == "open" else 0o600)
        said["registries"] = {registry.name: {"plain_http": True, "credentials": str(path)}}
    settings = tmp_path / "hub.yaml"
    settings.write_text(settings_of(registry, tmp_path, **said))
    assert main(["hub", "serve", "--settings", str(settings)]) == 78
    told = capsys.readouterr().err
    assert why in told
    assert len([line for line in told.splitlines() if not line.startswith("hpcimg hub:")]) == 2


def test_settings_are_checked_without_a_start(registry, tmp_path, capsys):
    """For whoever deploys them."""
    settings = tmp_path / "hub.yaml"
    settings.write_text(settings_of(registry, tmp_path))
    assert main(["hub", "serve", "--check", "--settings", str(settings)]) == 0
    settings.write_text(json.dumps({"upstream": {}}))
    assert main(["hub", "serve", "--check", "--settings", str(settings)]) == 78
    assert "did you mean upstreams?" in capsys.readouterr().err


def test_an_address_that_is_taken(registry, tmp_path):
    """A second one on the same port says so."""
    with RunningHub(tmp_path / "x", settings_of(registry, tmp_path)) as hub:
        text = settings_of(registry, tmp_path, listen=hub.name)
        with (
            pytest.raises(AssertionError, match="could not listen on"),
            RunningHub(tmp_path / "y", text),
        ):
            pass
