"""Leases, prune and doctor in the cluster: real jobs, a real Slurm, two real nodes."""

from __future__ import annotations

import json

import mishaps
import pytest

pytestmark = pytest.mark.integration

IMAGE = "qnib/plain-featuretest:generic"
# In settings of its own: what was used just now may go as well.
PRUNE = (
    "sed 's/account: hpcimg/&, keep_hours: 0/' /etc/hpcimg/settings.yaml > /tmp/prune.yaml"
    " && HPCIMG_SETTINGS=/tmp/prune.yaml hpcimg cache prune --older 1s --json"
)


@pytest.fixture
def job(cluster):
    """A job of alice's on two nodes, whose image has run; gives its number, and ends it."""
    mishaps.forget_images(cluster)
    start = f"sbatch --parsable -N2 -w bdw1,skx1 --wrap 'srun --container {IMAGE} true; sleep 600'"
    number = cluster.shell(start).stdout.strip()
    waiting = f"until ls /srv/hpcimg/store/leases/*/*/*~{number}~*; do sleep 0.2; done 2>/dev/null"
    done = cluster.shell(f"timeout 60 sh -c '{waiting}'", user="hpcimg")
    assert done.returncode == 0, done.stderr
    yield number
    cluster.run("scancel", number)


def leases(cluster):
    """Name the leases of the site's store."""
    script = "cd /srv/hpcimg/store/leases && find . -name '*~*' -printf '%f\\n' | sort"
    return cluster.shell(script, user="hpcimg").stdout.split()


def test_prune_lets_a_job_s_image_be(cluster, job):
    """Two nodes hold one lease for their job; what no job holds goes."""
    alice = cluster.run("id", "-u").stdout.strip()
    assert [name for name in leases(cluster) if f"~{job}~" in name] == [f"folder~{job}~{alice}"]
    other = cluster.run("hpcimg", "cache", "warm", "qnib/bench", "--nodes", "bdw1", user="root")
    assert other.returncode == 0, other.stderr
    done = cluster.shell(f"sleep 1.1; {PRUNE}", user="root")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["note"] == ""
    assert [f"job {job} of folder" in one["in_use"] for one in said["kept"]] == [True]
    assert ["bench" in one["references"][0] for one in said["removed"]] == [True]
    removal = cluster.shell("hpcimg cache rm qnib/plain-featuretest:generic", user="root")
    assert removal.returncode == 73
    assert "is in use: " in removal.stderr
    assert f"job {job} of folder" in removal.stderr


def test_a_user_may_not_prune(cluster):
    """The refusal names who may."""
    done = cluster.run("hpcimg", "cache", "prune")
    assert done.returncode == 73
    assert "only hpcimg and root remove images" in done.stderr


@pytest.mark.parametrize("user", ["root", "hpcimg"])
def test_the_doctor_tries_the_store_between_two_nodes(cluster, user):
    """Whoever may write it learns which locks exclude there."""
    done = cluster.run("hpcimg", "doctor", "--store", "--json", user=user)
    said = json.loads(done.stdout)
    assert (done.returncode, said["fit"]) == (0, True), said
    assert said["lock"] == {"setting": "flock", "safe": ["flock", "fcntl", "link", "none"]}
    assert said["where"].startswith("tried between ")
    assert cluster.shell("ls /srv/hpcimg/store/tmp", user="hpcimg").stdout == ""


def test_a_user_s_doctor_only_looks(cluster):
    """Nothing is tried in the site's store, and the doctor says who may."""
    done = cluster.run("hpcimg", "doctor", "--store", "--json")
    said = json.loads(done.stdout)
    states = {one["check"]: one["state"] for one in said["checks"]}
    assert done.returncode == 0
    assert (states["owners"], states["trial"], states["lock"]) == ("ok", "unknown", "unknown")
