"""What `resolve` and `explain` answer for several nodes, and inside a job for what it runs."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from test_cli import WORDS, _put_index, call, site  # noqa: F401 - a fixture
from three_nodes import BDW1, KEY, ZEN1

from hpcimg.node.detect import detect
from hpcimg.node.profile import Gpu, GpuFacts
from hpcimg.store.profiles import publish_profile


def test_explain_says_what_uniform_would_pick(nodes, capsys):
    """For a list of nodes: the choice, and which node refuses what."""
    code, out, said = call(capsys, "resolve", "tool", "--nodes", "bdw1,skx1")
    assert (code, out, said) == (0, f"{nodes.registry.name}/tool@{nodes.digests[1]}\n", [])
    code, out, _ = call(capsys, "explain", "tool", "--nodes", "bdw1,skx1")
    assert code == 0
    assert "needs cpu:skylake_avx512; bdw1 is broadwell" in out
    code, _, said = call(capsys, "resolve", "tool", "--nodes", "bdw1", "--node", "bdw1")
    assert code == 2
    assert said[0].endswith("--node, --nodes, --profile and --platform exclude each other")


def in_a_job(monkeypatch, nodes, **variables):
    """Be in a step of a job on these nodes."""
    job = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NODELIST": nodes, **variables}
    for name, value in job.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("variable", ["SLURM_HPCIMG_MATCH", "HPCIMG_CONTAINER_MATCH"])
def test_inside_a_job_its_match_counts(nodes, capsys, monkeypatch, variable):
    """What is answered is what the job's steps run, and the head says who decided so."""
    in_a_job(monkeypatch, "bdw1,zen1", **{variable: "uniform"})
    image = f"{nodes.registry.name}/tool@{nodes.digests[0]}\n"
    assert call(capsys, "resolve", "tool") == (0, image, [])
    _, out, _ = call(capsys, "explain", "tool")
    assert "node     bdw1,zen1, linux/amd64\n" in out
    assert "match    uniform (the job's --container-match)\n" in out
    _, out, _ = call(capsys, "explain", "tool", "--node", "bdw1")
    assert "match    per-node (default)\n" in out
    assert "chosen: cpu:broadwell" in out


def test_a_job_of_nodes_that_choose_alone(nodes, capsys, monkeypatch):
    """Said by the job, this node's own image is the answer, and the head says it."""
    in_a_job(monkeypatch, "bdw1,zen1", SLURM_HPCIMG_MATCH="per-node")
    _, out, _ = call(capsys, "explain", "tool")
    assert "match    per-node (the job's --container-match)\n" in out
    assert "node     bdw1,zen1" not in out
    monkeypatch.setenv("SLURM_HPCIMG_MATCH", "same")
    code, _, said = call(capsys, "resolve", "tool")
    assert (code, said[0]) == (2, "hpcimg: the job's way to match is 'same'")


def test_a_job_whose_nodes_have_nothing_in_common(nodes, capsys, monkeypatch):
    """With `uniform` the answer is this node's own and a remark, with the stricter word none."""
    host = detect()
    here = replace(host, node="here")
    publish_profile(nodes.store, here)
    other = replace(ZEN1, node="other", architecture=host.architecture, target=None, compatible=())
    publish_profile(nodes.store, other)
    (digest,) = _put_index(nodes.registry, "split", (f"cpu:{host.target}",))
    in_a_job(monkeypatch, "here,other", SLURM_HPCIMG_MATCH="uniform")
    code, out, said = call(capsys, "resolve", "split")
    assert (code, out) == (0, f"{nodes.registry.name}/split@{digest}\n")
    assert said[0].startswith("hpcimg: the nodes of the job have no image in common, so each ")
    monkeypatch.setenv("SLURM_HPCIMG_MATCH", "uniform-or-fail")
    assert call(capsys, "resolve", "split")[0] == 69


def test_the_site_s_match_counts_inside_a_job(nodes, capsys, monkeypatch):
    """The place of the setting is what the head names."""
    text = nodes.settings.read_text().replace("{", '{"match": "uniform", ', 1)
    nodes.settings.write_text(text)
    in_a_job(monkeypatch, "bdw1,zen1")
    _, out, _ = call(capsys, "explain", "tool")
    assert f"match    uniform ({nodes.settings}:1)\n" in out
    assert "chosen: the generic image" in out


def test_explain_of_nodes_with_nothing_in_common(nodes, capsys):
    """Its words are of all of them."""
    _put_index(nodes.registry, "split", ("cpu:broadwell",), ("cpu:zen3",))
    code, out, _ = call(capsys, "explain", "split", "--nodes", "bdw1,zen1")
    assert code == 69
    assert "match    uniform (--nodes)\n" in out
    last = out.splitlines()[-2:]
    assert last[0] == (
        "nothing fits all of them: with uniform-or-fail the job is refused, "
        "with uniform each node takes its own"
    )
    assert last[1].startswith("to serve these nodes, build an image for linux/amd64")


@pytest.mark.parametrize("verb", ["resolve", "explain", "coverage"])
def test_an_empty_list_of_nodes_is_a_mistake(nodes, capsys, verb):
    """A script's unset variable must not mean this node, or all."""
    code, out, said = call(capsys, verb, "tool", "--nodes", "")
    assert (code, out, said[0]) == (2, "", "hpcimg: the list of nodes is empty")


@pytest.mark.parametrize("option", ["--node", "--nodes"])
def test_gpus_that_a_node_lacks(nodes, capsys, option):
    """It is said what the node has; nobody is told what a job would get of it."""
    gpus = GpuFacts("present", driver="396.44", devices=(Gpu(0, "GPU-a", "Tesla M60", "5.2"),))
    publish_profile(nodes.store, replace(BDW1, node="gpu1", gpus=gpus))
    code, _, said = call(capsys, "explain", "tool", option, "bdw1", "--gpus", "0")
    assert (code, said[0]) == (2, "hpcimg: bdw1 has no GPU")
    code, _, said = call(capsys, "explain", "tool", option, "gpu1", "--gpus", "0,3")
    assert (code, said[0]) == (2, "hpcimg: gpu1 has GPU 0 only, not '0,3'")
    for fine in ("0", "GPU-a", "none"):
        assert call(capsys, "explain", "tool", option, "gpu1", "--gpus", fine)[0] == 0


def test_a_machine_s_own_words_are_said_where_they_count(nodes, capsys):
    """Published profiles have the words of their own machines."""
    text = nodes.settings.read_text().replace("{", '{"platform_features": ["site.x:1"], ', 1)
    nodes.settings.write_text(text)
    assert "platform_features site.x:1 (" in call(capsys, "explain", "tool")[1]
    publish_profile(nodes.store, replace(ZEN1, words=("site.disk:nvme",)))
    _, out, _ = call(capsys, "explain", "tool", "--node", "zen1")
    assert "platform_features" not in out
    assert "offers   site.disk:nvme\n" in out


def test_resolve_by_another_policy(nodes, capsys):
    """Per call: a Skylake server has nothing exact but its own."""
    words = ("resolve", "tool", "--node", "skx1", "--policy")
    assert call(capsys, *words, "compatible")[1].strip().endswith(nodes.digests[2])
    _put_index(nodes.registry, "other", (), ("cpu:broadwell",))
    words = ("resolve", "other", "--node", "skx1", "--policy")
    assert call(capsys, *words, "compatible")[1] != call(capsys, *words, "exact")[1]


def test_inside_a_job_its_pin_counts(nodes, capsys, monkeypatch):
    """What the tag was when the job read it; for another name, and before that, what it is."""
    key = replace(KEY, user=str(os.geteuid()))
    in_a_job(monkeypatch, "bdw1", SLURM_CLUSTER_NAME="folder", SLURM_JOB_START_TIME="100")
    monkeypatch.setattr("hpcimg.workflow.asked.chosen_profile", lambda *_, **__: BDW1)
    before = f"{nodes.registry.name}/tool@{nodes.digests[1]}\n"
    assert call(capsys, "resolve", "tool")[1] == before
    nodes.resolve(BDW1, "per-node", key=key)
    moved = _put_index(nodes.registry, "tool", ("cpu:haswell",))
    assert call(capsys, "resolve", "tool")[1] == before
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    assert call(capsys, "resolve", "tool")[1] == f"{nodes.registry.name}/tool@{moved[0]}\n"
