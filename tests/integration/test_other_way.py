"""The choice seen from the cluster: needs, coverage, and what jobs missed, on real nodes."""

from __future__ import annotations

import json

import mishaps
import pytest

pytestmark = pytest.mark.integration

BENCH = "qnib/bench"


@pytest.fixture
def nothing_missed(cluster):
    """A site whose journal is empty."""
    mishaps.do(cluster, "rm -rf /srv/hpcimg/store/wanted")


def wanted(cluster):
    """What `hpcimg wanted` says: jobs, nodes and what they got, by image and build."""
    done = cluster.run("hpcimg", "wanted", "--json")
    assert done.returncode == 0, done.stderr
    return {
        (one["reference"], ",".join(one["variant"])): (one["jobs"], one["nodes"], one["got"])
        for one in json.loads(done.stdout)
    }


def run(cluster, script):
    """Run a job's script of a few srun lines in an allocation of zen1."""
    done = cluster.run(
        "sbatch",
        "--wait",
        "-w",
        "zen1",
        "--output=/dev/null",
        f"--container={BENCH}",
        "--wrap",
        script,
    )
    assert done.returncode == 0, done.stderr


def test_a_missed_build_is_counted_by_jobs(cluster, nothing_missed):
    """Three steps of one job miss one build once; a second job makes it two."""
    key = (f"registry:5000/{BENCH}:latest", "cpu:zen3")
    run(cluster, "srun bench && srun bench && srun bench")
    assert wanted(cluster) == {key: (1, ["zen1"], {"generic": 1})}
    run(cluster, "srun bench")
    assert wanted(cluster) == {key: (2, ["zen1"], {"generic": 2})}
    owners = mishaps.do(cluster, "stat -c '%U %a' /srv/hpcimg/store/wanted/*/*").splitlines()
    assert owners == ["hpcimg 644"]


def test_what_the_journal_tells_apart(cluster, nothing_missed):
    """Older code is a miss, an exact build is none, and a GPU counts when the job has it."""
    for node, options in (("bdw1", ()), ("skx1", ()), ("gpu1", ("--gres=gpu:1",))):
        for name in (BENCH, "mpi"):
            done = cluster.run("srun", "-w", node, *options, "--container", name, "true")
            assert done.returncode == 0, done.stderr
    bench, mpi = f"registry:5000/{BENCH}:latest", "registry:5000/mpi:latest"
    found = wanted(cluster)
    assert found == {
        (bench, "cpu:skylake_avx512"): (1, ["skx1"], {"cpu:skylake": 1}),
        (mpi, "cpu:broadwell"): (1, ["bdw1"], {"generic": 1}),
        (mpi, "cpu:skylake_avx512"): (1, ["skx1"], {"generic": 1}),
        (mpi, "cpu:broadwell,nvcap:5.2"): (1, ["gpu1"], {"generic": 1}),
    }


def test_a_launch_goes_on_without_a_journal(cluster, nothing_missed):
    """What cannot be noted is not, and the job does not hear of it."""
    mishaps.do(cluster, "touch /srv/hpcimg/store/wanted")
    try:
        done = cluster.run("srun", "-w", "zen1", "--container", BENCH, "true")
    finally:
        mishaps.do(cluster, "rm /srv/hpcimg/store/wanted")
    assert (done.returncode, done.stderr) == (0, "")


def test_needs_names_the_nodes(cluster):
    """Each build in words, and which of the cluster's nodes run it."""
    done = cluster.run("hpcimg", "needs", BENCH, "--json")
    entries = json.loads(done.stdout)["entries"]
    assert [(",".join(one["features"]), one["nodes"]) for one in entries] == [
        ("", ["bdw1", "gpu1", "skx1", "zen1"]),
        ("cpu:skylake", ["skx1"]),
        ("cpu:broadwell", ["bdw1", "gpu1", "skx1"]),
        ("cpu:broadwell,nvcap:5.2", ["gpu1"]),
    ]
    assert entries[3]["needs"].startswith("an Intel Broadwell processor, or a later one")


def test_coverage_of_a_partition(cluster):
    """A node type with GPUs stands twice; what it would take, and how close that is."""
    done = cluster.run("hpcimg", "coverage", BENCH, "--partition", "gpu")
    assert done.returncode == 0, done.stderr
    assert [" ".join(line.split()) for line in done.stdout.splitlines()] == [
        f"NODE TYPE {BENCH} NODES",
        "broadwell + nvcap:5.2 specific: cpu:broadwell, nvcap:5.2 gpu1",
        "broadwell (job without GPU) specific: cpu:broadwell gpu1",
    ]
    whole = cluster.run("hpcimg", "coverage", BENCH, "--nodes", "skx1,zen1").stdout
    assert [line.split()[:2] for line in whole.splitlines()[1:]] == [
        ["skylake_avx512", "partly:"],
        ["zen3", "generic"],
    ]
