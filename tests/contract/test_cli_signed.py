"""A rule for signatures as a site writes it: it holds for every way to an image, and says so."""

from __future__ import annotations

import json
import os
import sys

import pytest
from registry import digest_of
from signing import make_signer, sign_classic
from test_cli import call, site  # noqa: F401 - a fixture
from test_cli_get import job_site  # noqa: F401 - a fixture

from hpcimg.node.words import profile_from_words
from hpcimg.store.profiles import publish_profile

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a site's settings belong to root")


@pytest.fixture
def ruled(job_site, tmp_path, capsys):  # noqa: F811
    """A site with the generic image in its store, that then asks for signatures."""
    job_site.signer = make_signer(tmp_path)
    settings = json.loads(job_site.settings.read_text())
    settings["registries"][job_site.registry.name]["signatures"] = [str(job_site.signer.file)]
    job_site.settings.write_text(json.dumps(settings))
    capsys.readouterr()
    return job_site


WAYS = {
    "step": ("get", "--node", "bdw1"),
    "own store": ("get", "--store", "own"),
    "prolog": ("prefetch",),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_way_leads_to_an_unsigned_image(ruled, capsys, way, monkeypatch):
    """Neither the one that is in the store already, nor one for the user alone."""
    said = []
    monkeypatch.setattr("syslog.syslog", lambda _, line: said.append(line))
    monkeypatch.setattr(sys, "stderr", sys.stderr)  # prefetch puts another one there
    code, out, printed = call(capsys, *WAYS[way], ruled.generic)
    lines = said or printed
    assert (code, out, len(lines)) == (77, "", 2)
    assert f"bears no signature that this site asks for ({ruled.signer.file})" in lines[0]


def test_a_user_s_run_takes_no_unsigned_image_from_the_site_s_store(ruled, capsys):
    """Before it was listed what must be signed, everybody could run it from there."""
    code, out, said = call(capsys, "run", "--dry-run", ruled.generic, "--", "true")
    assert (code, out, len(said)) == (77, "", 2)
    sign_classic(ruled.registry, "tool", ruled.digests[0], ruled.signer)
    code, out, _ = call(capsys, "run", "--dry-run", ruled.generic, "--", "true")
    assert code == 0
    assert str(ruled.store.root) in out


def test_warming_takes_no_unsigned_image(ruled, capsys, monkeypatch):
    """An administrator's own command is no way round."""
    publish_profile(ruled.store, profile_from_words("linux/amd64:broadwell", node="bdw1"))
    monkeypatch.setattr("hpcimg.slurm.named_nodes", lambda *_: ("bdw1",))
    code, out, said = call(capsys, "cache", "warm", "tool", "--nodes", "bdw1")
    assert (code, out.count(" failed ")) == (77, 1)
    assert any("signature" in line for line in said)


def test_warming_proves_what_is_in_the_store_already(ruled, capsys, monkeypatch):
    """`in the store` would be a promise that no job could keep."""
    publish_profile(ruled.store, profile_from_words("linux/amd64", node="zen1"))
    monkeypatch.setattr("hpcimg.slurm.named_nodes", lambda *_: ("zen1",))
    code, out, said = call(capsys, "cache", "warm", ruled.generic, "--nodes", "zen1")
    assert (code, out.count(" failed ")) == (77, 1)
    assert any("bears no signature that this site asks for" in line for line in said)
    sign_classic(ruled.registry, "tool", ruled.digests[0], ruled.signer)
    code, out, _ = call(capsys, "cache", "warm", ruled.generic, "--nodes", "zen1")
    assert (code, out.count(" fetched ")) == (0, 1)
    code, out, _ = call(capsys, "cache", "warm", ruled.generic, "--nodes", "zen1")
    assert (code, out.count(" in the store ")) == (0, 1)


def test_warming_takes_nothing_from_a_repository_that_is_not_listed(ruled, capsys):
    """The image is in the store, and no job may run it."""
    settings = json.loads(ruled.settings.read_text())
    settings["registries"][ruled.registry.name]["repositories"] = ["other"]
    ruled.settings.write_text(json.dumps(settings))
    publish_profile(ruled.store, profile_from_words("linux/amd64", node="zen1"))
    code, _, said = call(capsys, "cache", "warm", "tool", "--type", "linux/amd64")
    assert code == 77
    assert "is not listed in the site's settings" in said[0]


def test_warming_goes_on_past_a_key_that_is_not_there(ruled, capsys):
    """It fails the names that it is for, and no other."""
    settings = json.loads(ruled.settings.read_text())
    rules = {"tool": ["/etc/nothing.pub"]}
    settings["registries"][ruled.registry.name]["signatures"] = rules
    ruled.settings.write_text(json.dumps(settings))
    words = ("cache", "warm", "tool", "nosuch", "--type", "linux/amd64")
    code, out, said = call(capsys, *words)
    assert (code, out) == (78, "")
    assert said[0].startswith('hpcimg: could not use the public key "/etc/nothing.pub": ')
    assert "nosuch:latest" in said[2]


def test_the_index_s_signature_is_found_by_a_name(ruled, capsys):
    """What `cosign sign NAME` makes is enough for every node's image."""
    index = digest_of(ruled.registry.documents["tool"]["latest"].raw)
    sign_classic(ruled.registry, "tool", index, ruled.signer)
    code, _, said = call(capsys, "get", "tool")
    assert (code, said) == (0, [])
    code, out, _ = call(capsys, "cache", "info", "tool")
    assert f"signed     {index} by key sha256:" in out


def test_repositories_bound_jobs_and_not_a_user_s_own_run(job_site, capsys):  # noqa: F811
    """As with hosts: what no job may use, a user may still run by hand, into the own store."""
    settings = json.loads(job_site.settings.read_text())
    settings["registries"][job_site.registry.name]["repositories"] = ["other/*"]
    job_site.settings.write_text(json.dumps(settings))
    capsys.readouterr()
    for store in ("site", "own"):
        code, out, said = call(capsys, "get", "--store", store, f"tool@{job_site.digests[1]}")
        assert (code, out, len(said)) == (77, "", 2)
        assert said[0].endswith("/tool\" is not listed in the site's settings")
    code, out, _ = call(capsys, "run", "--dry-run", "--", f"tool@{job_site.digests[1]}", "true")
    assert code == 0
    assert str(job_site.store.root) not in out
