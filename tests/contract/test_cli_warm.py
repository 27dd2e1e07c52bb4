"""`hpcimg cache warm` as the site's account: plans, lists, outcomes, tables, exit codes."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from registry import digest_of
from test_cli import WORDS, call, site  # noqa: F401 - a fixture
from test_convert import write_program

from hpcimg.node.words import profile_from_words
from hpcimg.settings import read_settings
from hpcimg.store.profiles import publish_profile
from hpcimg.store.store import site_store

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def slurm(site, tmp_path, monkeypatch):  # noqa: F811
    """A site where bdw1 and zen1 have published their profiles, and where Slurm knows one node."""
    site.store = site_store(read_settings(os.environ).store)
    publish_profile(site.store, profile_from_words(WORDS, node="bdw1"))
    site.bin = tmp_path / "bin"
    write_program(site.bin / "sinfo", "echo bdw1\n")
    monkeypatch.setenv("PATH", f"{site.bin}:{os.environ['PATH']}")
    return site


def table(text):
    """Read the table: IMAGE, BUILD, NODES, STATE, and the digest's beginning."""
    head, *rows = [line.split("  ") for line in text.splitlines()]
    assert [cell.strip() for cell in head if cell.strip()] == [
        "IMAGE",
        "BUILD",
        "NODES",
        "SIZE",
        "STATE",
        "DIGEST",
    ]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    return [(image, build, nodes, state) for image, build, nodes, _, state, _ in cells]


def test_every_named_node_is_warmed_or_refused(slurm, capsys):
    """A node that Slurm does not know is not dropped in silence."""
    code, out, said = call(capsys, "cache", "warm", "tool", "--nodes", "bdw1,nosuch")
    assert code == 69
    assert table(out) == [("tool", "cpu:broadwell", "bdw1", "fetched")]
    assert said[:2] == [
        'hpcimg: nosuch: node "nosuch" has published no profile',
        (
            "hpcimg: nosuch: hint: publish it on that node with `hpcimg node publish`; "
            "published are bdw1"
        ),
    ]
    assert slurm.store.lookup(slurm.digests[1], next(iter(slurm.store.entries())).record.converter)
    assert slurm.store.entries()[0].record.features == ("cpu:broadwell",)


def test_what_is_in_the_store_is_said_at_once(slurm, capsys):
    """A second run fetches nothing, starts nothing, and says what there is."""
    assert call(capsys, "cache", "warm", "tool")[0] == 0
    before = len(slurm.registry.log())
    code, out, said = call(capsys, "cache", "warm", "tool", "--json")
    assert (code, said) == (0, ["hpcimg: tool cpu:broadwell: in the store"])
    (image,) = json.loads(out)["images"]
    assert [(one["state"], one["seconds"]) for one in image["variants"]] == [("stored", 0.0)]
    assert not [line for line in slurm.registry.log()[before:] if "/blobs/" in line]


def test_several_names_and_one_that_fails(slurm, capsys):
    """A name that nobody has and one that is none stop no other; the first one's code counts."""
    code, out, said = call(capsys, "cache", "warm", "nosuch", "tool", "Tool", "tool")
    assert code == 66
    assert table(out) == [
        ("nosuch", "-", "-", "failed"),
        ("tool", "cpu:broadwell", "bdw1", "fetched"),
        ("Tool", "-", "-", "failed"),
    ]
    assert any("nosuch:latest" in line for line in said)
    assert any("'Tool'" in line for line in said)


def test_a_variant_that_cannot_be_fetched(slurm, capsys):
    """It does not look warmed; what failed is said, and the exit code is its own."""
    slurm.registry.fail(digest_of(b"layer 1"), status=500, times=99)
    code, out, said = call(capsys, "cache", "warm", "tool", "--type", WORDS, "--type", "broadwell")
    assert code == 75
    assert table(out) == [("tool", "cpu:broadwell", "bdw1", "failed")]
    assert any("500" in line for line in said)
    assert said[-1] == "hpcimg: tool cpu:broadwell: failed"
    assert slurm.store.entries() == ()
    assert list((slurm.store.root / "tmp").iterdir()) == []


def test_the_other_variants_are_fetched_all_the_same(slurm, capsys):
    """And a later run has only the missing one left."""
    slurm.registry.fail(digest_of(b"layer 1"), status=403, times=1)
    types = ("--type", "broadwell", "--type", "linux/amd64:skylake_avx512")
    code, out, _ = call(capsys, "cache", "warm", "tool", *types)
    states = [(build, state) for _, build, _, state in table(out)]
    assert sorted(states) == [("cpu:broadwell", "failed"), ("cpu:skylake_avx512", "fetched")]
    assert code != 0
    code, out, _ = call(capsys, "cache", "warm", "tool", *types)
    states = [(build, state) for _, build, _, state in table(out)]
    assert sorted(states) == [("cpu:broadwell", "fetched"), ("cpu:skylake_avx512", "in the store")]
    assert code == 0


def test_hardware_that_no_node_has_yet(slurm, capsys):
    """A platform in words is warmed before its first node is there, and no other."""
    code, out, _ = call(capsys, "cache", "warm", "tool", "--hardware", "linux/amd64:zen4")
    assert code == 0
    assert table(out) == [("tool", "generic", "-", "fetched")]


def test_a_misspelt_platform_is_told(slurm, capsys):
    """It would warm the generic image, and nobody would see why."""
    _, _, said = call(capsys, "cache", "warm", "tool", "--type", "linux/amd64:brodwell")
    assert said[0].startswith("hpcimg: 'brodwell' is no known word")


def test_names_that_all_fail_make_no_table(slurm, capsys):
    """What failed and what to do is all there is to say."""
    code, out, said = call(capsys, "cache", "warm", "nosuch")
    assert (code, out, len(said)) == (66, "", 2)


def test_a_type_as_coverage_names_it(slurm, capsys):
    """One without GPU too; a type that there is not is told with those that there are."""
    gpu = profile_from_words("linux/amd64:broadwell:nv-compute-5-2", node="gpu1")
    publish_profile(slurm.store, gpu)
    _, out, _ = call(capsys, "coverage", "tool")
    labels = [line.split("  ")[0] for line in out.splitlines()[1:]]
    assert "broadwell + nvcap:5.2" in labels
    _, out, _ = call(capsys, "cache", "warm", "tool", "--type", "broadwell + nvcap:5.2")
    assert [row[2] for row in table(out)] == ["gpu1"]
    code, out, said = call(capsys, "cache", "warm", "tool", "--type", "zen4")
    assert (code, out) == (2, "")
    assert said[0] == "hpcimg: no node is of the type 'zen4'"
    assert "there are broadwell" in said[1]
    assert "linux/amd64:WORDS" in said[1]


def test_a_dry_run_fetches_nothing(slurm, capsys):
    """It shows the plan, and what is there already."""
    code, out, said = call(capsys, "cache", "warm", "tool", "--dry-run")
    assert (code, table(out)) == (0, [("tool", "cpu:broadwell", "bdw1", "to fetch")])
    assert said == [], "the table says it once"
    assert slurm.store.entries() == ()


def test_names_from_a_list(slurm, capsys, tmp_path, monkeypatch):
    """One a line, with comments; `-` is standard input; a number sign in a name is none."""
    listed = tmp_path / "warm.list"
    host = slurm.registry.name
    listed.write_text(f"# what we run\n\ntool   # the tool\n  {host}#wide:latest\ntool\n#nothing\n")
    code, out, _ = call(capsys, "cache", "warm", "--file", str(listed), "--dry-run", "--json")
    assert code == 69
    found = json.loads(out)["images"]
    assert [one["name"] for one in found] == ["tool", f"{host}#wide:latest"]
    assert found[1]["refused"][0]["nodes"] == "bdw1"
    monkeypatch.setattr(sys, "stdin", io.StringIO("tool\n"))
    code, out, _ = call(capsys, "cache", "warm", "--file", "-", "--dry-run")
    assert (code, [row[0] for row in table(out)]) == (0, ["tool"])


def test_an_empty_list_is_no_failure(slurm, capsys, tmp_path):
    """A timer's list may be empty; a list that is not there, and no name at all, are mistakes."""
    listed = tmp_path / "warm.list"
    listed.write_text("# nothing yet\n")
    said = [f"hpcimg: the list '{listed}' names no image"]
    assert call(capsys, "cache", "warm", "--file", str(listed)) == (0, "", said)
    code, _, said = call(capsys, "cache", "warm", "--file", f"{listed}.no")
    assert (code, said[0].endswith("No such file or directory")) == (2, True)
    code, _, said = call(capsys, "cache", "warm")
    assert (code, said[0]) == (2, "hpcimg: no NAME and no --file LIST says what")


@pytest.mark.parametrize("words", [("--jobs", "0"), ("--jobs", "99"), ("--wait", "soon")])
def test_numbers_have_bounds(slurm, capsys, words):
    """So many at once is a small number."""
    code, _, said = call(capsys, "cache", "warm", "tool", *words)
    assert code == 2
    assert "is no number from 1 to" in said[0]


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_half_made(slurm, tmp_path, sign):
    """Exit code 130, the table says what is missing, no child and no temporary file stays."""
    fifo = tmp_path / "began"
    os.mkfifo(fifo)
    slurm.fake.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && { echo apptainer version 1.4.5; exit; }\n'
        f"echo began > {fifo}; exec sleep 1000\n"
    )
    program = "import sys; from hpcimg.cli import run; run()"
    types = ["--type", "broadwell", "--type", "linux/amd64:skylake_avx512", "--jobs", "1"]
    with subprocess.Popen(
        [sys.executable, "-c", program, "cache", "warm", "tool", *types],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as warming:
        assert fifo.read_text() == "began\n"
        warming.send_signal(sign)
        out, said = warming.communicate(timeout=60)
    assert warming.returncode == 130, said
    assert [row[3] for row in table(out)] == ["not fetched", "not fetched"]
    assert said.splitlines()[-1] == "hpcimg: interrupted: run it again for what is missing"
    assert slurm.store.entries() == ()
    assert list((slurm.store.root / "tmp").iterdir()) == []


def test_the_child_is_ours_wherever_it_is_started(slurm, capsys, tmp_path, monkeypatch):
    """A directory called hpcimg in the working directory is not run by root."""
    (tmp_path / "hpcimg").mkdir()
    (tmp_path / "hpcimg/__main__.py").write_text(f"open('{tmp_path}/ran', 'w')\n")
    (tmp_path / "hpcimg/__init__.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert call(capsys, "cache", "warm", "tool")[0] == 0
    assert not (tmp_path / "ran").exists()


def test_two_images_at_once(slurm, capsys):
    """With two jobs both are being fetched at the same time: each layer waits for the other's."""
    meeting = threading.Barrier(2, timeout=60)
    plain = slurm.registry.blobs
    slurm.registry.blobs = Meeting(plain, meeting, {digest_of(b"layer 1"), digest_of(b"layer 2")})
    types = ("--type", "broadwell", "--type", "linux/amd64:skylake_avx512")
    code, out, _ = call(capsys, "cache", "warm", "tool", *types)
    assert code == 0
    assert [row[3] for row in table(out)] == ["fetched", "fetched"]
    assert not meeting.broken


class Meeting(dict):
    """Blobs of which some are given only when as many are asked for at once."""

    def __init__(self, blobs, meeting, digests):
        super().__init__(blobs)
        self._meeting = meeting
        self._digests = digests

    def __getitem__(self, digest):
        if digest in self._digests:
            self._meeting.wait()
        return super().__getitem__(digest)

    def get(self, digest, default=None):
        """Wait as well."""
        return self[digest] if digest in set(self) else default
