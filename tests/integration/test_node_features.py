"""`node features`: Slurm finds nodes by the hardware that hpcimg found, beside the site's words."""

from __future__ import annotations

import json

import mishaps
import pytest

from hpcimg.slurm import parse_features

pytestmark = pytest.mark.integration


def features(cluster):
    """What Slurm has of each node."""
    return parse_features(mishaps.do(cluster, "scontrol --oneliner show nodes"))


@pytest.fixture
def as_before(cluster):
    """Give the nodes their features back."""
    before = features(cluster)
    yield before
    for node, had in before.items():
        lists = (",".join(had.available), ",".join(had.active))
        words = "AvailableFeatures={} ActiveFeatures={}".format(*lists)
        mishaps.do(cluster, f"scontrol update NodeName={node} {words}")


def apply(cluster, *options):
    """Run the commands that are printed, as root."""
    done = cluster.run("hpcimg", "node", "features", "--all", "--scontrol", *options)
    assert (done.returncode, done.stderr) == (0, "")
    mishaps.do(cluster, done.stdout)
    return done.stdout


def test_jobs_ask_for_hardware(cluster, as_before):
    """A constraint leads to the nodes that have it; the site's words stay; twice is as once."""
    mishaps.do(
        cluster,
        "scontrol update NodeName=bdw1 AvailableFeatures=big,later,cpu:stale ActiveFeatures=big",
    )
    first = apply(cluster)
    found = features(cluster)
    assert found["bdw1"].available[:3] == ("big", "later", "cpu:broadwell")
    assert "later" not in found["bdw1"].active
    assert "cpu:stale" not in found["bdw1"].available
    assert set(found["bdw1"].active) >= {"big", "cpu:broadwell", "cpu:x86_64_v3"}
    assert "nvcap:5.2" in found["gpu1"].active
    for constraint, nodes in (
        ("cpu:broadwell", {"bdw1", "gpu1"}),
        ("cpu:skylake_avx512", {"skx1"}),
        ("cpu:broadwell&nvcap:5.2", {"gpu1"}),
        ("cpu:x86_64_v4", {"skx1"}),
        ("big", {"bdw1"}),
    ):
        done = cluster.run("srun", "-C", constraint, "hostname")
        assert done.stdout.strip() in nodes, done.stderr
    assert apply(cluster) == first
    assert features(cluster) == found


def test_compatible_targets(cluster, as_before):
    """An older target's code runs on the newer node, and a job may ask for that."""
    apply(cluster, "--compatible")
    done = cluster.run("srun", "-C", "cpu:skylake&cpu:broadwell", "hostname")
    assert done.stdout == "skx1\n", done.stderr


def test_lines_for_slurm_conf(cluster):
    """One for each set of features, merged with what the node has; nobody's file is changed."""
    before = features(cluster)
    done = cluster.run("hpcimg", "node", "features", "--all", "--slurm")
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(" ") for line in done.stdout.splitlines())
    assert lines["NodeName=zen1"] == "Feature=cpu:zen3,cpu:x86_64_v3,cpu:x86_64_v2"
    here = cluster.run("hpcimg", "node", "features", "--slurm", "--feature-line", node="zen1")
    assert here.stdout == lines["NodeName=zen1"] + "\n", here.stderr
    assert features(cluster) == before


def test_nodes_that_slurm_does_not_know(cluster):
    """They are named and left out; alone they are an error."""
    text = mishaps.do(cluster, "cat /srv/hpcimg/store/nodes/zen1.json")
    stray = json.dumps({**json.loads(text), "node": "stray1"})
    path = "/srv/hpcimg/store/nodes/stray1.json"
    mishaps.do(cluster, f"cat >{path} <<'END'\n{stray}\nEND\nchown hpcimg: {path}")
    try:
        done = cluster.run("hpcimg", "node", "features", "--all", "--slurm")
        alone = cluster.run("hpcimg", "node", "features", "--node", "stray1", "--slurm")
    finally:
        mishaps.do(cluster, f"rm {path}")
    left_out = "hpcimg: node stray1 is left out: Slurm does not know it\n"
    assert (done.returncode, done.stderr) == (0, left_out)
    assert len(done.stdout.splitlines()) == 4
    assert (alone.returncode, alone.stdout) == (66, "")
    assert "Slurm knows none of these nodes" in alone.stderr
