"""`hpcimg get` and `prefetch`, as the plugin and the prolog call them: two lines and no more."""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import replace

import pytest
from test_cli import call, site  # noqa: F401 - a fixture

from hpcimg.cli import main
from hpcimg.settings import StageSettings, read_settings
from hpcimg.store.store import site_store
from hpcimg.workflow.get import get

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a site's settings belong to root")


@pytest.fixture
def job_site(site, monkeypatch):  # noqa: F811
    """A site whose settings stand where a job's do, with the generic image in its store."""
    monkeypatch.setattr("hpcimg.settings.DEFAULT_PATH", site.settings)
    generic = f"tool@{site.digests[0]}"
    assert main(["get", generic]) == 0
    site.store = site_store(read_settings({}).store)
    site.generic = generic
    return site


@pytest.fixture
def said_by_log():
    """What the command line's logging would write on standard error."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logging.getLogger().addHandler(handler)
    yield lines
    logging.getLogger().removeHandler(handler)


def test_a_failed_get_is_two_lines(job_site, capsys, said_by_log):
    """The warning of a damaged entry does not come on top of what failed in its stead."""
    (entry,) = job_site.store.entries()
    os.truncate(entry.image, 10)
    job_site.registry.fail("/blobs/", status=500, times=99)
    capsys.readouterr()
    code, out, said = call(capsys, "get", job_site.generic)
    assert (code, out) == (75, "")
    assert len(said) == 2, said
    assert said_by_log == []


def test_a_get_that_is_told_to_speak_does(job_site, capsys, said_by_log):
    """With -v the same warning is there."""
    (entry,) = job_site.store.entries()
    os.truncate(entry.image, 10)
    assert main(["-v", "get", job_site.generic]) == 0
    assert any(line.startswith(f'not using "{entry.path}"') for line in said_by_log), said_by_log
    capsys.readouterr()


def test_a_warning_goes_to_syslog(job_site, capsys, monkeypatch):
    """An image that cannot be leased runs; the administrator is told, not the user."""
    lines = []
    monkeypatch.setattr("syslog.syslog", lambda _, line: lines.append(line))
    leases = job_site.store.root / "leases"
    leases.write_text("in the way")
    capsys.readouterr()
    code, out, said = call(capsys, "get", "--job", "7", job_site.generic)
    assert (code, said) == (0, [])
    assert "image=" in out
    (line,) = lines
    assert line.endswith("the job's image is not safe from prune")


def test_a_defect_names_the_node(job_site, capsys, monkeypatch):
    """Which of a job's many nodes it was, in two lines as all else."""

    def broken(*_):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("hpcimg.slurm.parse_gpus", broken)
    capsys.readouterr()
    code, out, said = call(capsys, "get", "--node", "bdw1", job_site.generic)
    assert (code, out, len(said)) == (70, "", 2)
    assert said[0] == "hpcimg: bdw1: unexpected ZeroDivisionError: division by zero"


def test_per_node_expands_no_list(job_site, capsys):
    """The others' names are nobody's matter, and a forged list costs nothing."""
    words = ("--match", "per-node", "--nodelist", "x[1-999][1-999][1-999]")
    assert call(capsys, "get", *words, job_site.generic)[0] == 0


def test_a_warning_fits_into_a_ticket(job_site):
    """The plugin counts bytes and drops what is too long; no character is cut in two."""
    found = get(job_site.generic, read_settings({}), scope="site", gpus=())
    lines = replace(found, warning="a" + "é" * 1000, is_for_all_steps=False).lines()
    (warning,) = [line for line in lines.splitlines() if line.startswith("warning=")]
    assert 990 < len(warning.removeprefix("warning=").encode()) < 1024
    assert lines.endswith("é\nticket=no\n")


def test_a_ticket_can_tell_whether_its_image_has_changed(job_site):
    """The plugin compares the file with what the lines say of it."""
    lines = get(job_site.generic, read_settings({}), scope="site", gpus=()).lines().splitlines()
    (entry,) = job_site.store.entries()
    about = entry.image.stat()
    assert {f"size={about.st_size}", f"owner={about.st_uid}"} <= set(lines)


@pytest.mark.parametrize(
    ("mount", "scope", "said"),
    [("kernel", "site", True), ("fuse", "site", False), ("kernel", "own", False)],
)
def test_the_kernel_mounts_the_site_s_images(job_site, monkeypatch, tmp_path, mount, scope, said):
    """Only where the settings say so, and never those of a user's own store."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = replace(read_settings({}), mount=mount)
    lines = get(job_site.generic, settings, scope=scope, gpus=()).lines()
    assert ("mount=kernel" in lines.splitlines()) is said


def test_the_site_s_mounts_are_among_what_get_prints(job_site, capsys, monkeypatch):
    """For the user and job of the question, whoever runs it."""
    monkeypatch.setattr(sys, "stderr", sys.stderr)  # prefetch puts another one there
    text = job_site.settings.read_text()
    more = {"mounts": ["/s/%U/%j:/s:ro"], "environment": {"A": "b"}, "mount_home": False}
    job_site.settings.write_text(json.dumps({**json.loads(text), **more}))
    capsys.readouterr()
    for verb in ("get", "prefetch"):
        code, out, said = call(capsys, verb, "--job", "7", "--uid", "0", job_site.generic)
        assert (code, said) == (0, [])
        assert out.endswith("bind=/s/0/7\t/s\tro\nsetenv=A=b\nhome=no\n")


def test_a_site_without_a_prefetch(job_site, capsys, monkeypatch):
    """The prolog's call ends at once, without a word or a ticket; a step's does its work."""
    monkeypatch.setattr(sys, "stderr", sys.stderr)  # prefetch puts another one there
    text = json.loads(job_site.settings.read_text())
    job_site.settings.write_text(json.dumps({**text, "prolog": {"prefetch": False}}))
    capsys.readouterr()
    assert call(capsys, "prefetch", "--job", "7", job_site.generic) == (0, "", [])
    assert call(capsys, "get", "--job", "7", job_site.generic)[1].startswith("image=")


@pytest.mark.parametrize(
    ("words", "label"),
    [
        (["--platform", "linux/amd64"], "the generic image"),
        (["--platform", "linux/amd64:broadwell"], "cpu:broadwell"),
        (["--platform", "linux/amd64:skylake_avx512", "--match", "uniform"], "cpu:skylake_avx512"),
    ],
)
def test_a_platform_stands_for_the_node(job_site, capsys, words, label):
    """All nodes of a step choose for the words, and nobody notes that a build was missed."""
    capsys.readouterr()
    code, out, said = call(capsys, "get", "--job", "7", "--nodelist", "x[1-3]", *words, "tool")
    assert (code, said) == (0, [])
    assert f"label={label}" in out.splitlines()
    assert not (job_site.store.root / "wanted").exists()


def test_a_platform_that_nothing_is_built_for(job_site, capsys):
    """The refusal is about the words; one that means nothing is a wrong use."""
    code, out, said = call(capsys, "get", "--platform", "linux/arm64", "tool")
    assert (code, out) == (69, "")
    assert "is for linux/amd64 (this node is linux/arm64)" in said[0]
    assert call(capsys, "get", "--platform", "broadwell", "tool")[0] == 2


def test_a_nodes_copy_keeps_what_the_image_says_of_itself(job_site, tmp_path):
    """Its entrypoint and directory stand beside the original, and not beside the copy."""
    (entry,) = job_site.store.entries()
    (entry.path / "config.json").write_text('{"config": {"WorkingDir": "/w", "Entrypoint": ["e"]}}')
    disk = replace(read_settings({}), stage=StageSettings(str(tmp_path / "disk")))
    ready = get(job_site.generic, disk, scope="site", gpus=())
    assert ready.entry.image.is_relative_to(tmp_path / "disk")
    assert (ready.around.workdir, ready.around.entrypoint) == ("/w", ("e",))
