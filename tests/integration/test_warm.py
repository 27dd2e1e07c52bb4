"""`cache warm` and `cache ls`: what nodes will pick is in the store before the first job."""

from __future__ import annotations

import json

import mishaps
import pytest

pytestmark = pytest.mark.integration

NODES = ("bdw1", "gpu1", "skx1", "zen1")
BENCH = "qnib/bench"


@pytest.fixture(autouse=True)
def cold(cluster):
    """Start each test with a store without images."""
    mishaps.forget_images(cluster)


def variants(text):
    """Read what warm prints: the features of each variant and its nodes."""
    lines = [line.split() for line in text.splitlines()]
    assert all(words[0].startswith("sha256:") and words[2] == "for" for words in lines), text
    return {words[1]: words[3].split(",") for words in lines}


def run_bench(cluster):
    """Start the first jobs on all nodes, with and without GPU; what each says."""
    said = {}
    for node, options in [(n, ()) for n in NODES] + [("gpu1", ("--gres=gpu:1",))]:
        done = cluster.run("srun", "-w", node, *options, "--container", BENCH, "bench")
        assert done.returncode == 0, done.stderr
        said[(node, *options)] = done.stdout.rpartition(": ")[2].strip()
    return said


@pytest.mark.parametrize("user", ["root", "hpcimg"])
def test_the_site_warms_for_all_nodes(cluster, user):
    """Every variant is named with its nodes, and the first jobs ask the registry for no blob."""
    done = cluster.run("hpcimg", "cache", "warm", BENCH, user=user)
    assert done.returncode == 0, done.stderr
    assert variants(done.stdout) == {
        "cpu:broadwell": ["bdw1", "gpu1"],
        "cpu:broadwell,nvcap:5.2": ["gpu1"],
        "cpu:skylake": ["skx1"],
        "generic": ["zen1"],
    }
    before = mishaps.blob_requests(cluster)
    said = run_bench(cluster)
    assert mishaps.blob_requests(cluster) == before
    assert said[("bdw1",)] == said[("gpu1",)] == "cpu:broadwell"
    assert said[("skx1",)] == "cpu:skylake"
    assert said["gpu1", "--gres=gpu:1"] == "cpu:broadwell,nvcap:5.2"


def test_a_user_warms_through_slurm(cluster):
    """An ordinary user may not write the store; a small job on a node does it."""
    done = cluster.run("hpcimg", "cache", "warm", BENCH, "--partition", "gpu")
    assert done.returncode == 0, done.stderr
    assert sorted(variants(done.stdout)) == ["cpu:broadwell", "cpu:broadwell,nvcap:5.2"]
    listed = json.loads(cluster.run("hpcimg", "cache", "ls", "--json").stdout)
    assert sorted(entry["digest"] for entry in listed) == sorted(
        line.split()[0] for line in done.stdout.splitlines()
    )
    assert {entry["builder"] for entry in listed} == {"gpu1"}
    owners = mishaps.do(cluster, "stat -c %U /srv/hpcimg/store/entries/sha256/*/image.sif").split()
    assert owners == ["hpcimg", "hpcimg"]


def test_nodes_are_named_as_slurm_names_them(cluster):
    """A list of names and ranges."""
    done = cluster.run("hpcimg", "cache", "warm", BENCH, "--nodes", "bdw[1],zen1", "--json")
    found = json.loads(done.stdout)
    assert found["reference"] == "registry:5000/qnib/bench:latest"
    assert [(v["features"], v["nodes"]) for v in found["variants"]] == [
        (["cpu:broadwell"], ["bdw1"]),
        ([], ["zen1"]),
    ]
    assert found["refused"] == []


def test_a_node_that_nothing_fits(cluster):
    """The others are warmed, the node and the reason are said, and the exit code is its own."""
    entry = ("qnib/plain-featuretest:cpu-skylake", "cpu:skylake_avx512")
    mishaps.push(cluster, "qnib/avx512-only", entry)
    done = cluster.run(
        "hpcimg", "cache", "warm", "qnib/avx512-only", "--nodes", "bdw1,skx1", user="root"
    )
    assert done.returncode == 69
    assert variants(done.stdout) == {"cpu:skylake_avx512": ["skx1"]}
    what, hint = done.stderr.splitlines()
    assert what == (
        "hpcimg: bdw1: no image of registry:5000/qnib/avx512-only:latest runs on bdw1: "
        "needs cpu:skylake_avx512 (this node is broadwell)"
    )
    assert hint.startswith("hpcimg: bdw1: hint: see every entry with")


def test_a_node_that_published_nothing(cluster):
    """Nobody guesses what hardware it has."""
    profile = "/srv/hpcimg/store/nodes/zen1.json"
    with mishaps.missing(cluster, "login", profile):
        done = cluster.run("hpcimg", "cache", "warm", BENCH, "--nodes", "zen1", user="root")
    assert done.returncode == 69
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        'hpcimg: zen1: node "zen1" has published no profile',
        (
            "hpcimg: zen1: hint: publish it on that node with `hpcimg node publish`; "
            "published are bdw1, gpu1, skx1"
        ),
    ]


@pytest.mark.parametrize(
    ("options", "code", "wanted"),
    [
        (("--partition", "nope"), 66, "Slurm has no node in partition 'nope'"),
        (("--nodes", "bdw[1-"), 2, "'bdw[1-' is no list of nodes"),
    ],
)
def test_what_slurm_does_not_know(cluster, options, code, wanted):
    """A partition or node that is not there is an error, and not an empty success."""
    done = cluster.run("hpcimg", "cache", "warm", BENCH, *options, user="root")
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.splitlines()[0] == f"hpcimg: {wanted}"


def test_a_node_that_there_is_not(cluster):
    """A name that nobody has is refused beside the others, and not dropped in silence."""
    done = cluster.run("hpcimg", "cache", "warm", BENCH, "--nodes", "bdw1,nosuch", user="root")
    assert done.returncode == 69
    assert variants(done.stdout) == {"cpu:broadwell": ["bdw1"]}
    assert 'hpcimg: nosuch: node "nosuch" has published no profile' in done.stderr


def test_what_is_in_the_store(cluster):
    """A table for people: digest, size, features, times, leases, reference."""
    empty = cluster.run("hpcimg", "cache", "ls", "--json")
    assert json.loads(empty.stdout) == []
    warmed = cluster.run("hpcimg", "cache", "warm", BENCH, "--nodes", "zen1", user="root")
    assert warmed.returncode == 0, warmed.stderr
    head, row = cluster.run("hpcimg", "cache", "ls").stdout.splitlines()
    assert head.split() == ["DIGEST", "SIZE", "FEATURES", "CREATED", "USED", "LEASES", "REFERENCE"]
    assert warmed.stdout.startswith(row.split()[0])
    assert row.split()[3] == "generic"
    assert row.endswith("registry:5000/qnib/bench:latest")
