"""`cache warm` and `cache ls`: what nodes will pick is in the store before the first job."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import mishaps
import pytest

pytestmark = pytest.mark.integration

NODES = ("bdw1", "gpu1", "skx1", "zen1")
BENCH = "qnib/bench"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(autouse=True)
def cold(cluster):
    """Start each test with a store without images."""
    mishaps.forget_images(cluster)


def variants(text):
    """Read the table that warm prints: nodes and state of each build."""
    _, *lines = [re.split(r"  +", line.strip()) for line in text.splitlines()]
    return {build: (nodes, state) for _, build, nodes, _, state, _ in lines}


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
        "cpu:broadwell": ("bdw1,gpu1", "fetched"),
        "cpu:broadwell,nvcap:5.2": ("gpu1", "fetched"),
        "cpu:skylake": ("skx1", "fetched"),
        "generic": ("zen1", "fetched"),
    }
    before = mishaps.blob_requests(cluster)
    said = run_bench(cluster)
    assert mishaps.blob_requests(cluster) == before
    assert said[("bdw1",)] == said[("gpu1",)] == "cpu:broadwell"
    assert said[("skx1",)] == "cpu:skylake"
    assert said["gpu1", "--gres=gpu:1"] == "cpu:broadwell,nvcap:5.2"


def test_a_user_warms_through_slurm(cluster):
    """An ordinary user may not write the store; small jobs do it, on the nodes that pick it."""
    done = cluster.run("hpcimg", "cache", "warm", BENCH, "mpi", "--partition", "gpu")
    assert done.returncode == 0, done.stderr
    warmed = {line.split()[-1] for line in done.stdout.splitlines()[1:]}
    listed = json.loads(cluster.run("hpcimg", "cache", "ls", "--json").stdout)
    assert {entry["digest"][:19] for entry in listed} == warmed
    assert len(warmed) == 3
    assert {entry["builder"] for entry in listed} == {"gpu1"}
    owners = mishaps.do(cluster, "stat -c %U /srv/hpcimg/store/entries/sha256/*/image.sif").split()
    assert owners == ["hpcimg"] * 3
    again = cluster.run("hpcimg", "cache", "warm", BENCH, "--partition", "gpu")
    assert {state for _, state in variants(again.stdout).values()} == {"in the store"}


HOSTILE = """\
import sys
sys.path.insert(0, "/usr/local/lib/cluster/images")
from make_images import *
script = b"#!/bin/busybox sh\\necho ran >&2\\ntouch /home/alice/ran-by-warm\\n"
kept = [each for each in busybox_entries() if each.path not in ("bin/true", "bin/sh")]
scripts = [Entry(f"bin/{name}", 0o755, content=script) for name in ("true", "sh")]
push("registry:5000/hostile/warm:latest", [pack([*kept, *scripts])], {"Env": ["PATH=/bin"]})
"""


def test_warming_runs_nothing_of_an_image(cluster):
    """It would be as its user, with all of that user's files."""
    mishaps.do(cluster, f"python3 -c '{HOSTILE}'")
    done = cluster.run("hpcimg", "cache", "warm", "hostile/warm", "--nodes", "bdw1")
    assert done.returncode == 0, done.stderr
    assert variants(done.stdout) == {"generic": ("bdw1", "fetched")}
    assert "ran" not in done.stderr
    mishaps.do(cluster, "test ! -e /home/alice/ran-by-warm")


def test_inside_of_a_job_it_makes_jobs_of_its_own(cluster):
    """Their node is not the job's, so they could be no steps of it; hardware in words works too."""
    words = ("--nodes", "zen1", "--type", "zen3", "--type", "linux/amd64:skylake")
    done = cluster.run("srun", "-w", "bdw1", "hpcimg", "cache", "warm", BENCH, *words)
    assert done.returncode == 0, done.stderr
    assert variants(done.stdout) == {
        "generic": ("zen1", "fetched"),
        "cpu:skylake": ("-", "fetched"),
    }


def test_nodes_are_named_as_slurm_names_them(cluster):
    """A list of names and ranges."""
    options = ("--nodes", "bdw[1],zen1", "--json", "--dry-run")
    done = cluster.run("hpcimg", "cache", "warm", BENCH, *options)
    (found,) = json.loads(done.stdout)["images"]
    assert found["reference"] == "registry:5000/qnib/bench:latest"
    assert [(v["features"], v["nodes"], v["state"]) for v in found["variants"]] == [
        (["cpu:broadwell"], ["bdw1"], "planned"),
        ([], ["zen1"], "planned"),
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
    assert variants(done.stdout) == {"cpu:skylake_avx512": ("skx1", "fetched")}
    what, hint, *_ = done.stderr.splitlines()
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
    assert (done.returncode, done.stdout) == (69, "")
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
    assert variants(done.stdout) == {"cpu:broadwell": ("bdw1", "fetched")}
    assert 'hpcimg: nosuch: node "nosuch" has published no profile' in done.stderr


def test_what_is_in_the_store(cluster):
    """A table for people: digest, size, features, times, leases, reference."""
    empty = cluster.run("hpcimg", "cache", "ls", "--json")
    assert json.loads(empty.stdout) == []
    warmed = cluster.run("hpcimg", "cache", "warm", BENCH, "--nodes", "zen1", user="root")
    assert warmed.returncode == 0, warmed.stderr
    head, row = cluster.run("hpcimg", "cache", "ls").stdout.splitlines()
    assert head.split() == ["DIGEST", "SIZE", "FEATURES", "CREATED", "USED", "LEASES", "REFERENCE"]
    assert warmed.stdout.splitlines()[1].endswith(row.split()[0])
    assert row.split()[3] == "generic"
    assert row.endswith("registry:5000/qnib/bench:latest")


@pytest.fixture
def listed(cluster):
    """A site with a list of images to keep."""
    path = "/etc/hpcimg/warm.list"
    text = (EXAMPLES / "slurm/warm.list").read_text()
    mishaps.do(cluster, f"cat >{path} <<'END'\n{text}END")
    yield
    mishaps.do(cluster, f"rm {path}")


def units():
    """The command of the service, and of the cron table, with the account that runs each."""
    unit = (EXAMPLES / "slurm/hpcimg-warm.service").read_text()
    fields = dict(line.split("=", 1) for line in unit.splitlines() if re.match(r"\w+=", line))
    table = (EXAMPLES / "cron/hpcimg-warm").read_text().splitlines()[-1]
    *_, user, command = table.split(maxsplit=6)
    return {"service": (fields["User"], fields["ExecStart"]), "cron": (user, command)}


@pytest.mark.parametrize("kind", ["service", "cron"])
def test_a_list_is_kept_warm(cluster, listed, kind):
    """The example's command, as its account, in an empty environment: all images are there."""
    user, command = units()[kind]
    assert user == "hpcimg"
    empty = ("env", "-i", "PATH=/usr/bin:/bin")
    done = cluster.run(*empty, "sh", "-c", command, user=user)
    assert done.returncode == 0, done.stderr
    found = json.loads(cluster.run("hpcimg", "cache", "ls", "--json").stdout)
    names = {name for entry in found for name in entry["references"]}
    assert names == {"registry:5000/qnib/bench:latest", "registry:5000/mpi:latest"}
    assert len(found) == 5
    if kind == "cron":
        assert done.stdout + done.stderr == "", "cron would mail it"
        assert "mpi generic: fetched" in mishaps.do(cluster, "grep hpcimg /var/log/syslog")


def test_the_units_are_in_order():
    """Systemd's own check finds nothing but the program, which is not on this machine."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on this machine")
    paths = [str(EXAMPLES / f"slurm/hpcimg-warm.{kind}") for kind in ("service", "timer")]
    done = subprocess.run(
        ["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False
    )
    found = [line for line in done.stderr.splitlines() if "hpcimg-warm" in line]
    assert [line for line in found if "is not executable" not in line] == []
