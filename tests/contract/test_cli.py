"""The command line as people and programs meet it: help, exit codes, two lines, JSON shapes."""

from __future__ import annotations

import json
import os
import pwd
import re
from types import SimpleNamespace

import pytest
from registry import Registry
from sif import sif_bytes

from hpcimg.cli import VERBS, main
from hpcimg.errors import StoreError
from hpcimg.node.words import profile_from_words
from hpcimg.settings import read_settings
from hpcimg.store.profiles import publish_profile
from hpcimg.store.store import site_store
from hpcimg.workflow.profile import publish

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
WORDS = "linux/amd64:broadwell"


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Make a site of one registry, a store of this user's and an Apptainer that builds at once."""
    sif = tmp_path / "built.sif"
    sif.write_bytes(sif_bytes())
    fake = tmp_path / "apptainer"
    fake.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && { echo apptainer version 1.4.5; exit; }\n'
        f'for word in "$@"; do case $word in *.sif) cp {sif} "$word" ;; esac; done\n'
    )
    fake.chmod(0o755)
    settings = tmp_path / "settings.yaml"
    with Registry() as registry:
        account = pwd.getpwuid(os.geteuid()).pw_name
        text = {
            "default_registry": registry.name,
            "registries": {registry.name: {"plain_http": True}},
            "store": {"path": str(tmp_path / "store"), "account": account},
            "apptainer": str(fake),
            "merger": "/nonexistent",
        }
        settings.write_text(json.dumps(text))
        monkeypatch.setenv("HPCIMG_SETTINGS", str(settings))
        monkeypatch.delenv("HPCIMG_DEBUG", raising=False)
        digests = _put_index(registry, "tool", (), ("cpu:broadwell",), ("cpu:skylake_avx512",))
        _put_index(registry, "wide", ("cpu:skylake_avx512",))
        yield SimpleNamespace(registry=registry, digests=digests, settings=settings, fake=fake)


def _put_index(registry, repository, *features):
    """Store an index of images that differ in a layer; their digests."""
    digests = [
        registry.put_image(repository, f"part{at}", [f"layer {at}".encode()])
        for at in range(len(features))
    ]
    entries = [
        {
            "mediaType": MANIFEST,
            "digest": digest,
            "size": len(registry.documents[repository][digest].raw),
            "platform": {"os": "linux", "architecture": "amd64", "features": list(words)},
        }
        for digest, words in zip(digests, features, strict=True)
    ]
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    registry.put_document(repository, "latest", INDEX, json.dumps(document).encode())
    return digests


def call(capsys, *words):
    """Run one command in this process; its exit code, its result and what it said."""
    code = main(words)
    said = capsys.readouterr()
    return code, said.out, said.err.splitlines()


def test_a_misspelt_word_is_told(site, capsys):
    """It may be meant, so the choice is made all the same; known words are not remarked on."""
    words = f"{WORDS}:brodwell:nvcap-5-2"
    code, out, said = call(capsys, "resolve", "tool", "--platform", words)
    assert (code, out) == (0, f"{site.registry.name}/tool@{site.digests[1]}\n")
    asks = "it fits only an image that asks for the very same"
    assert said == [f"hpcimg: 'brodwell' is no known word: {asks}"]


HINTS = {
    "no file": (("--profile", "/nothing"), "make one with `hpcimg node show --json > FILE`"),
    "misspelt node": (("--node", "bwd1"), "; published are bdw1, bdw2, bdw3, bdw4, bdw5, ..."),
}


@pytest.mark.parametrize("case", HINTS)
def test_a_profile_that_is_not_there(site, capsys, case):
    """The hint says where profiles come from, and which there are."""
    words, hint = HINTS[case]
    store = site_store(read_settings(os.environ).store)
    for number in range(1, 7):
        publish_profile(store, profile_from_words(WORDS, node=f"bdw{number}"))
    _, _, said = call(capsys, "resolve", "tool", *words)
    assert len(said) == 2
    assert said[1].endswith(hint)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be an ordinary user")
def test_publishing_is_for_root_or_the_account(site):
    """The hint says how to publish, and nothing of a user's own images."""
    settings = read_settings(os.environ)
    os.setresuid(12345, 12345, 0)
    try:
        with pytest.raises(StoreError, match="is written only by root") as caught:
            publish(settings)
    finally:
        os.setresuid(0, 0, 0)
    assert caught.value.hint == "run `hpcimg node publish` as root"


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help(capsys, verb):
    """It exits with 0 and names the program."""
    try:
        code = main([verb, "--help"])
    except SystemExit as end:
        code = end.code
    out = capsys.readouterr().out
    assert code == 0
    assert out.startswith(f"usage: hpcimg {verb}")


@pytest.mark.parametrize(
    "words",
    [[], ["bogus"], ["resolve"], ["cache"], ["cache", "warm"], ["get"], ["--bogus"]],
    ids=" ".join,
)
def test_wrong_usage(capsys, words):
    """Exit code 2, what is wrong and where to read on; no usage block, and no traceback."""
    code, out, said = call(capsys, *words)
    assert (code, out, len(said)) == (2, "", 2)
    assert said[0].startswith("hpcimg: ")
    verbs = " ".join(word for word in words if word in {"resolve", "cache", "warm", "get"})
    assert said[1] == f"hpcimg: hint: see hpcimg {f'{verbs} ' if verbs else ''}--help"


def test_resolve_prints_the_image_alone(site, capsys):
    """Registry, repository and digest, for another program's command line."""
    code, out, said = call(capsys, "resolve", "tool", "--platform", WORDS)
    assert (code, said) == (0, [])
    assert out == f"{site.registry.name}/tool@{site.digests[1]}\n"


def test_explain_shows_a_refusal_and_says_so_by_its_code(site, capsys):
    """The candidates are the answer; the code is that of nothing that fits."""
    code, out, _ = call(capsys, "explain", "wide", "--platform", WORDS)
    assert code == 69
    assert "nothing fits: a job with this name is refused on this node" in out
    code, out, _ = call(capsys, "explain", "wide", "--json", "--platform", WORDS)
    assert (code, json.loads(out)["pick"]) == (69, None)


REFUSALS = {
    "nothing fits": (("resolve", "wide", "--platform", WORDS), 69, "no image of .* runs here"),
    "unknown": (("resolve", "nothing", "--platform", WORDS), 66, "is not in the registry"),
    "bad name": (("resolve", "TOOL", "--platform", WORDS), 2, "'TOOL'"),
    "bad words": (("resolve", "tool", "--platform", "linux/amd64:cpu:nope"), 2, "nope"),
    "no profile": (("resolve", "tool", "--node", "bdw9"), 66, "has published no profile"),
    "no file": (("resolve", "tool", "--profile", "/nothing"), 2, 'profile "/nothing"'),
    "two profiles": (("resolve", "tool", "--node", "a", "--platform", WORDS), 2, "exclude"),
    "no command": (("run", "tool"), 2, "there is no command to run"),
    "no nodes": (("cache", "warm", "tool"), 66, "no node has published a profile"),
    "no recipe": (("index", "push", "/nothing.yml"), 2, "/nothing.yml"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_an_error_is_two_lines_and_a_code(site, capsys, case):
    """What failed, and what to do; nothing on standard output."""
    words, wanted, pattern = REFUSALS[case]
    code, out, said = call(capsys, *words)
    assert (code, out) == (wanted, ""), said
    assert len(said) in {1, 2}
    assert said[0].startswith("hpcimg: ")
    assert re.search(pattern, said[0]), said
    assert all(line.startswith("hpcimg: hint: ") for line in said[1:])


@pytest.mark.parametrize(
    ("words", "verb"), [(("cache", "ls", "--long"), "cache ls"), (("job", "1", "2"), "job")]
)
def test_a_word_that_nobody_knows_leads_to_its_verb_s_help(capsys, words, verb):
    """The list of all verbs would not show what there is instead."""
    code, _, said = call(capsys, *words)
    assert code == 2
    assert said == [
        f"hpcimg: unrecognized arguments: {words[-1]}",
        f"hpcimg: hint: see hpcimg {verb} --help",
    ]


def test_a_registry_that_refuses(site, capsys):
    """401 without a way to log in, and 403 with the registry's words, are permission's code."""
    body = json.dumps({"errors": [{"code": "DENIED", "message": "not for you"}]}).encode()
    site.registry.fail("/manifests/", status=403, body=body)
    code, _, said = call(capsys, "resolve", "tool", "--platform", WORDS)
    assert code == 77
    assert "refuses access" in said[0]
    assert "DENIED: not for you" in said[0]
    site.registry.auth = "basic"
    code, _, said = call(capsys, "resolve", "tool", "--platform", WORDS)
    assert code == 77
    assert "wants a login" in said[0]


def test_a_registry_that_is_down(site, capsys):
    """Its address and the reason; a temporary failure's code."""
    site.registry.stop()
    code, _, said = call(capsys, "resolve", "127.0.0.1:9/tool", "--platform", WORDS)
    assert code == 75
    assert "could not reach https://127.0.0.1:9/v2/tool/manifests/latest: " in said[0]


def test_settings_with_an_error(site, capsys):
    """File, line and key, and the settings' code."""
    site.settings.write_text("polices: exact\n")
    code, _, said = call(capsys, "resolve", "tool", "--platform", WORDS)
    assert code == 78
    assert said[0].startswith(f'hpcimg: {site.settings}:1: "polices" is no setting')


def test_warm_ls_and_run(site, capsys):
    """What warm brings is listed, and run starts it from there with the command's words."""
    store = site_store(read_settings(os.environ).store)
    for node, words in (("bdw1", WORDS), ("zen1", "linux/amd64:zen3")):
        publish_profile(store, profile_from_words(words, node=node))
    code, out, _ = call(capsys, "cache", "warm", "tool", "--json")
    found = json.loads(out)
    (image,) = found["images"]
    assert (code, found["unknown"], image["refused"]) == (0, [], [])
    assert image["reference"] == f"{site.registry.name}/tool:latest"
    assert [(one["digest"], one["nodes"], one["state"]) for one in image["variants"]] == [
        (site.digests[1], ["bdw1"], "fetched"),
        (site.digests[0], ["zen1"], "fetched"),
    ]
    code, out, _ = call(capsys, "cache", "ls", "--json")
    listed = json.loads(out)
    assert {entry["digest"] for entry in listed} == set(site.digests[:2])
    assert {"path", "size", "sha256", "created", "references", "features"} <= set(listed[0])
    assert all(entry["converter"] == "apptainer-1.4.5-1" for entry in listed)
    before = len(site.registry.log())
    generic = f"tool@{site.digests[0]}"
    code, out, _ = call(capsys, "run", "--dry-run", generic, "--", "echo", "a b", "--flag")
    assert code == 0
    path = next(entry["path"] for entry in listed if entry["digest"] == site.digests[0])
    assert out == f"{site.fake} --quiet exec --userns {path}/image.sif echo 'a b' --flag\n"
    assert not [line for line in site.registry.log()[before:] if "layer" in line]


def test_warm_names_the_nodes_it_leaves_out(site, capsys):
    """Two lines a node, the others in JSON all the same, and the code of nothing that fits."""
    store = site_store(read_settings(os.environ).store)
    publish_profile(store, profile_from_words(WORDS, node="bdw1"))
    code, out, said = call(capsys, "cache", "warm", "wide", "--json")
    assert code == 69
    (refused,) = json.loads(out)["images"][0]["refused"]
    assert refused["nodes"] == "bdw1"
    assert said[0] == f"hpcimg: bdw1: {refused['reason']}"
    assert said[1].startswith("hpcimg: bdw1: hint: ")
    assert len(said) == 2


def test_of_many_tasks_the_first_speaks(site, capsys, monkeypatch):
    """`hpcimg srun` starts eight that all fail alike: one says so, with its node's name."""
    monkeypatch.setenv("SLURMD_NODENAME", "bdw1")
    for task, lines in (("0", 2), ("1", 0)):
        monkeypatch.setenv("SLURM_LOCALID", task)
        code, _, said = call(capsys, "run", "--say-once", "nothing", "--", "true")
        assert code == 66
        assert len(said) == lines
        assert all(line.startswith("hpcimg: bdw1: ") for line in said)


def test_output_that_nobody_reads(site, capsys, monkeypatch):
    """A reader that went away is no error of ours."""
    monkeypatch.setattr("builtins.print", _broken_pipe)
    closed = os.open(os.devnull, os.O_WRONLY)
    monkeypatch.setattr("sys.stdout", os.fdopen(closed, "w"))
    assert main(["resolve", "tool", "--platform", WORDS]) == 0


def _broken_pipe(*_words, **_options):
    raise BrokenPipeError


def test_a_damaged_profile_hides_no_other(site, capsys):
    """`node features --all` says which it is and goes on; the exit code tells."""
    store = site_store(read_settings(os.environ).store)
    for node in ("bdw1", "bdw2"):
        path = publish_profile(store, profile_from_words(WORDS, node=node))
    path.write_text("{")
    code, out, said = call(capsys, "node", "features", "--all")
    assert (code, len(said)) == (73, 2)
    assert out.startswith("bdw1  cpu:broadwell")
    assert said[1] == "hpcimg: bdw2: hint: run `hpcimg node publish` on bdw2"


@pytest.mark.skipif(os.geteuid() != 0, reason="a site's settings belong to root")
def test_node_forget(site, capsys, monkeypatch):
    """A node that is gone is no longer chosen for."""
    monkeypatch.setattr("hpcimg.settings.DEFAULT_PATH", site.settings)
    store = site_store(read_settings(os.environ).store)
    publish_profile(store, profile_from_words(WORDS, node="bdw1"))
    assert call(capsys, "node", "forget", "bdw1") == (0, "", [])
    assert call(capsys, "explain", "tool", "--node", "bdw1")[0] == 66
