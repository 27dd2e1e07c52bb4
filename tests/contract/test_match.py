"""The nodes of one job: each with its own image, or all with one that they agree on."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from test_cli import WORDS, _put_index, call, site  # noqa: F401 - a fixture
from three_nodes import BDW1, KEY, NODES, SKX1, ZEN1, profile

from hpcimg.errors import NoCandidateError, NotFoundError, StoreError
from hpcimg.node.detect import detect
from hpcimg.node.words import profile_from_words
from hpcimg.policy import PolicyRule
from hpcimg.store.agreement import agree
from hpcimg.store.profiles import publish_profile
from hpcimg.store.wanted import read_missed


def test_per_node_each_has_its_own(nodes):
    """And nothing is kept for the job but what its tag stands for."""
    assert nodes.resolve(BDW1, "per-node") == (nodes.digests[1], "")
    assert nodes.resolve(SKX1, "per-node") == (nodes.digests[2], "")
    assert len(list((nodes.store.root / "jobs/folder").glob("*/*.json"))) == 1


@pytest.mark.parametrize("match", ["uniform", "uniform-or-fail"])
def test_uniform_is_the_best_that_all_run(nodes, match):
    """A Skylake server runs a Broadwell's build; beside a Zen both run the generic one."""
    assert nodes.resolve(BDW1, match) == (nodes.digests[1], "")
    assert nodes.resolve(SKX1, match) == (nodes.digests[1], "")
    other = ("bdw1", "zen1")
    assert nodes.resolve(BDW1, match, other) == (nodes.digests[0], "")
    assert nodes.resolve(ZEN1, match, other) == (nodes.digests[0], "")


def test_a_job_of_one_node_has_its_own(nodes):
    """There is nothing to agree on."""
    assert nodes.resolve(SKX1, on=("skx1",)) == (nodes.digests[2], "")
    assert len(list((nodes.store.root / "jobs/folder").glob("*/*.json"))) == 1


def test_without_a_key_each_computes_the_same(nodes):
    """But a tag may move in between: `uniform` is told, `uniform-or-fail` refuses."""
    warning = (
        "the nodes of the job may run different images: "
        "the job's cluster or start time is not known here"
    )
    assert {nodes.resolve(one, key=None) for one in (BDW1, SKX1)} == {(nodes.digests[1], warning)}
    with pytest.raises(StoreError, match="start time is not known here") as caught:
        nodes.resolve(BDW1, "uniform-or-fail", key=None)
    assert "hpcimg's prolog" in caught.value.hint
    assert nodes.resolve(BDW1, "uniform-or-fail", ("bdw1",), key=None) == (nodes.digests[1], "")


def test_what_cannot_be_written_is_told(nodes, monkeypatch):
    """With `uniform` each goes on with the same pick; `uniform-or-fail` does not start."""

    def full(*_):
        raise StoreError("no space left")

    monkeypatch.setattr("hpcimg.store.agreement.agree", full)
    told = (nodes.digests[1], "the nodes of the job may run different images: no space left")
    assert {nodes.resolve(one) for one in (BDW1, SKX1)} == {told}
    with pytest.raises(StoreError, match="no space left"):
        nodes.resolve(BDW1, "uniform-or-fail")


def test_a_moved_tag_does_not_split_the_job(nodes):
    """What the first node found is fetched by digest; the next job gets what is new."""
    assert nodes.resolve(BDW1)[0] == nodes.digests[1]
    moved = _put_index(nodes.registry, "tool", ("cpu:haswell",))
    assert nodes.resolve(SKX1)[0] == nodes.digests[1]
    assert nodes.resolve(SKX1, step="1")[0] == nodes.digests[1], "the next step has another"
    assert nodes.resolve(SKX1, key=replace(KEY, job="8"))[0] == moved[0]


def test_the_profile_of_a_node_may_change_in_between(nodes):
    """The agreement stands, and the node that cannot run it says so."""
    assert nodes.resolve(BDW1)[0] == nodes.digests[1]
    changed = profile("skx1", "x86_64_v2")
    digest, warning = nodes.resolve(changed)
    assert digest == nodes.digests[0]
    assert warning == (
        "the nodes of the job may run different images: what the nodes of the job agreed on does "
        "not run here: cpu:broadwell needs cpu:broadwell; this node is x86_64_v2"
    )
    with pytest.raises(NoCandidateError, match="agreed on does not run here"):
        nodes.resolve(changed, "uniform-or-fail")


def test_nothing_in_common(nodes):
    """`uniform` gives each its own with a warning; `uniform-or-fail` says which node lacks what."""
    digests = _put_index(nodes.registry, "split", ("cpu:broadwell",), ("cpu:zen3",))
    on = ("bdw1", "zen1")
    for one, digest in ((BDW1, digests[0]), (ZEN1, digests[1])):
        found, warning = nodes.resolve(one, on=on, name="split")
        assert found == digest
        assert "bdw1,zen1 have no image in common" in warning
    with pytest.raises(NoCandidateError) as caught:
        nodes.resolve(BDW1, "uniform-or-fail", on, name="split")
    assert caught.value.message == (
        f"bdw1,zen1 have no image in common: no image of {nodes.registry.name}/split:latest runs "
        "on bdw1,zen1: needs cpu:broadwell (zen1 is zen3); needs cpu:zen3 (bdw1 is broadwell)"
    )
    assert f"explain {nodes.registry.name}/split:latest --nodes bdw1,zen1`" in (caught.value.hint)
    assert "--container-match=per-node" in caught.value.hint


def test_a_node_without_a_profile(nodes):
    """What it is, nobody knows."""
    on = ("bdw1", "new1")
    digest, warning = nodes.resolve(BDW1, on=on)
    assert digest == nodes.digests[1]
    assert 'node "new1" has published no profile' in warning
    with pytest.raises(NotFoundError, match='"new1" has published no profile'):
        nodes.resolve(BDW1, "uniform-or-fail", on)


def test_unknown_nodes_cannot_be_uniform(nodes):
    """Outside of a job there is no list."""
    assert "the job's nodes are not known" in nodes.resolve(BDW1, on=())[1]
    with pytest.raises(NotFoundError, match="the job's nodes are not known"):
        nodes.resolve(BDW1, "uniform-or-fail", on=())


def test_an_exact_target_must_be_each_node_s(nodes):
    """The best common target of two nodes is not what each of them is."""
    digests = _put_index(nodes.registry, "exact", (), ("cpu:=broadwell",))
    assert {nodes.resolve(one, name="exact")[0] for one in (BDW1, SKX1)} == {digests[0]}


def test_policy_exact_on_all_nodes(nodes):
    """A build for one node's very words is not for the other."""
    assert {nodes.resolve(one, policy="exact")[0] for one in (BDW1, SKX1)} == {nodes.digests[0]}


def test_a_rule_for_some_nodes_binds_the_others(nodes):
    """Where one node may have no generic image, none of the job gets it."""
    rule = PolicyRule(nodes=("zen*",), allow_generic=False)
    on = ("bdw1", "zen1")
    with pytest.raises(NoCandidateError, match="is generic, which the site does not allow on zen1"):
        nodes.resolve(BDW1, "uniform-or-fail", on, policies=(rule,))


def test_steps_with_and_without_gpus_agree_apart(nodes):
    """A step without GPUs does not take the GPUs' image of another one."""
    gpus = profile_from_words("linux/amd64:broadwell:nvcap-5-2:nvidia-396-44").gpus
    on = ("gpu1", "gpu2")
    both = [replace(profile(one, "broadwell"), gpus=gpus) for one in on]
    for one in both:
        publish_profile(nodes.store, one)
    digests = _put_index(nodes.registry, "gpu", ("cpu:broadwell",), ("nvcap:5.2",))
    for one in both:
        told = nodes.resolve(one.allocated(("0",)), on=on, name="gpu", step="0")
        assert told == (digests[1], "")
        assert nodes.resolve(one.allocated(()), on=on, name="gpu", step="1") == (digests[0], "")
        assert not nodes.answer.is_for_all_steps, "a ticket would keep a node from asking"
    gpu1, gpu2 = both
    # One step, with GPUs on one node alone: whoever is first, none runs another image.
    for first, second, step in ((("0",), (), "2"), ((), ("0",), "3")):
        digest, _ = nodes.resolve(gpu1.allocated(first), "uniform-or-fail", on, KEY, "gpu", step)
        if not first:
            found = nodes.resolve(gpu2.allocated(second), "uniform-or-fail", on, KEY, "gpu", step)
            assert found[0] == digest
            continue
        with pytest.raises(NoCandidateError, match="agreed on does not run here"):
            nodes.resolve(gpu2.allocated(second), "uniform-or-fail", on, KEY, "gpu", step)
        own, warning = nodes.resolve(gpu2.allocated(second), "uniform", on, KEY, "gpu", step)
        assert own == digests[0]
        assert "may run different images" in warning


def test_an_image_without_an_index(nodes):
    """All run the only one."""
    digest = nodes.registry.put_image("single", "latest", [b"layer"])
    assert {nodes.resolve(one, name="single") for one in (BDW1, ZEN1)} == {(digest, "")}


def test_a_bad_agreement_is_refused_or_told(nodes):
    """Nothing is taken from it."""
    subject = {
        "image": f"{nodes.registry.name}/tool:latest",
        "nodes": list(NODES),
    }
    agree(nodes.store, KEY, subject, {"index": "x", "pick": "y"})
    (path,) = (nodes.store.root / "jobs/folder").glob("*/*.json")
    path.write_text("garbage")
    digest, warning = nodes.resolve(BDW1)
    assert digest == nodes.digests[1]
    assert "not using the agreement" in warning
    with pytest.raises(StoreError, match="not using the agreement"):
        nodes.resolve(BDW1, "uniform-or-fail", step="1")


@pytest.fixture
def job_site(nodes, monkeypatch):
    """This machine as a node `here`, beside one that runs nothing but generic images."""
    monkeypatch.setattr("hpcimg.settings.DEFAULT_PATH", nodes.settings)
    publish_profile(nodes.store, replace(detect(), node="here"))
    publish_profile(nodes.store, profile("old1", "x86_64"))
    nodes.words = ("--job", "7", "--uid", "0", "--cluster", "folder", "--started", "100")
    return nodes


@pytest.mark.skipif(os.geteuid() != 0, reason="a site's settings belong to root")
def test_get_uniform(job_site, capsys):
    """The command that the plugin calls takes the word, the list and the job's name."""
    words = ("get", *job_site.words, "--match", "uniform")
    code, out, said = call(capsys, *words, "--nodelist", "here,old1", "tool")
    assert (code, said) == (0, [])
    assert f"digest={job_site.digests[0]}\n" in out
    assert (job_site.store.root / "jobs/folder/7-0-100").is_dir()
    code, out, said = call(capsys, *words, "--node", "here", "--nodelist", "here,gone1", "tool")
    assert (code, said) == (0, [])
    (warning,) = [line for line in out.splitlines() if line.startswith("warning=")]
    assert warning.startswith("warning=the nodes of the job may run different images: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="a site's settings belong to root")
def test_get_refuses_in_two_lines(job_site, capsys):
    """A node that is not known, a word that is none, a list that is none."""
    base = ("get", *job_site.words)
    code, _, said = call(
        capsys, *base, "--match", "uniform-or-fail", "--nodelist", "here,gone1", "tool"
    )
    assert (code, len(said)) == (66, 2)
    for hostile in ("uniform\nx", "'\"", "x" * 10000):
        for words in (("--match", hostile, "--nodelist", "here,old1"), ("--nodelist", hostile)):
            code, out, said = call(capsys, *base, *words, "tool")
            if words[0] == "--match" or code:
                assert (code, out) == (2, ""), words
                assert len(said) == 2
                assert len(said[0]) < 300
    hostile = ("--cluster", "../../x", "--match", "uniform", "--nodelist", "here,old1")
    code, _, said = call(capsys, *base, *hostile, "tool")
    assert (code, said[0]) == (2, "hpcimg: '../../x' is no part of a job's name")


@pytest.mark.skipif(os.geteuid() != 0, reason="a site's settings belong to root")
def test_a_job_that_must_agree_and_cannot_is_wanted(job_site, capsys):
    """Its builds are missing as those of each other job that is refused."""
    features = (("cpu:x86_64_v2",), ("cpu:zen3", "kernel:99.0"))
    _put_index(job_site.registry, "split", *features)
    words = ("get", *job_site.words, "--match", "uniform-or-fail", "--nodelist", "here,old1")
    assert call(capsys, *words, "split")[0] == 69
    (missed,) = read_missed(job_site.store, 0)
    assert (missed.job, missed.got) == ("7", None)


@pytest.mark.skipif(os.geteuid() != 0, reason="a site's settings belong to root")
def test_the_site_s_word_is_the_default(job_site, capsys):
    """Where the job says nothing, the settings do; the job's own word wins."""
    text = job_site.settings.read_text().replace("{", '{"match": "uniform", ', 1)
    job_site.settings.write_text(text)
    listed = ("--nodelist", "here,old1")
    _, out, _ = call(capsys, "get", *job_site.words, *listed, "tool")
    assert f"digest={job_site.digests[0]}\n" in out
    own = call(capsys, "resolve", "tool", "--node", "here")[1].strip()
    _, out, _ = call(capsys, "get", *job_site.words, *listed, "--match", "per-node", "tool")
    assert f"digest={own.partition('@')[2]}\n" in out
