"""`hpcimg job`: what each step ran on each node, while the job runs and long after."""

from __future__ import annotations

import json
import re
import shlex

import mishaps
import pytest

pytestmark = pytest.mark.integration

BENCH = "qnib/bench"
TWO = ("-N2", "-w", "bdw1,skx1", "--mem=100")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@pytest.fixture(scope="module", autouse=True)
def warmed(cluster):
    """Have the bench's images in the store, and no job of an earlier cluster's numbers."""
    mishaps.do(cluster, "rm -rf /srv/hpcimg/store/jobs/*")
    done = cluster.run("hpcimg", "cache", "warm", BENCH, user="root")
    assert done.returncode == 0, done.stderr


def runs(cluster, job, user="bob"):
    """The runs of a job, as anybody may read them."""
    done = cluster.run("hpcimg", "job", job, "--json", user=user)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ended(cluster, job):
    """Wait until the epilogs of two nodes have left their records."""
    here = f"/srv/hpcimg/store/jobs/folder/{job}-*/steps/{job}"
    there = f"[ -e {here}.bdw1.json ] && [ -e {here}.skx1.json ]"
    mishaps.do(cluster, f"timeout 60 sh -c 'until {there}; do sleep 0.1; done'")


def test_a_job_while_it_runs_and_after(cluster):
    """What is fetched is seen at once; when the job has ended, each step on each node."""
    inner = (
        f"echo $SLURM_JOB_ID; srun --container {BENCH} true; hpcimg job $SLURM_JOB_ID;"
        f" srun --container {BENCH} true"
    )
    done = cluster.shell(f"salloc -Q {shlex.join(TWO)} sh -c {shlex.quote(inner)}")
    job, *running = done.stdout.splitlines()
    assert running[0].startswith(f"job {job} of uid 1001 on cluster folder, started 20"), done
    assert [line.split(" at ")[0] for line in running if line.startswith("step")] == [
        "step 0 on bdw1",
        "step 0 on skx1",
    ]
    ended(cluster, job)
    (run,) = runs(cluster, job)
    assert (run["job"], run["user"], run["cluster"]) == (job, "1001", "folder")
    found = [(one["step"], one["node"], one["label"], one["by_ticket"]) for one in run["ran"]]
    assert found == [
        ("0", "bdw1", "cpu:broadwell", False),
        ("0", "skx1", "cpu:skylake", False),
        ("1", "bdw1", "cpu:broadwell", True),
        ("1", "skx1", "cpu:skylake", True),
    ]
    assert len({one["index"] for one in run["ran"]}) == 1
    assert len({one["digest"] for one in run["ran"]}) == 2
    for one in run["ran"]:
        assert DIGEST.fullmatch(one["index"])
        assert DIGEST.fullmatch(one["digest"])
        assert one["reference"] == f"registry:5000/{BENCH}:latest"
        assert one["digest"].partition(":")[2] in one["image"]
        assert one["reason"].startswith("fits")
        assert (one["scope"], one["source"]) == ("site", "store")
        assert one["converter"].startswith("stream-")
        assert one["millis"] > 0


@pytest.mark.parametrize("field", ["AdminComment", "Comment"])
@pytest.mark.newest
def test_a_line_in_slurms_accounting(cluster, field):
    """With the setting, the first node says for all what the job runs; Slurm keeps it."""
    setting = {"AdminComment": "admin-comment", "Comment": "comment"}[field]
    shown = f"scontrol show job $SLURM_JOB_ID | grep -o '^ *{field}=hpcimg.*'"
    inner = f'echo $SLURM_JOB_ID; timeout 60 sh -c "until {shown}; do sleep 0.1; done"'
    with mishaps.settings(cluster, accounting=setting):
        words = shlex.join((*TWO, f"--container-image={BENCH}"))
        done = cluster.shell(f"salloc -Q {words} sh -c {shlex.quote(inner)}")
    job, line = done.stdout.splitlines()
    starts = cluster.shell(f"ls /srv/hpcimg/store/jobs/folder/{job}-1001-*/steps").stdout
    assert f"{job}.bdw1" in starts
    (run,) = runs(cluster, job)
    index = run["ran"][0]["index"][:19]
    assert line.strip() == f"{field}=hpcimg: registry:5000/{BENCH}:latest@{index} on 2 nodes"


def test_what_was_built_and_waited_for(cluster):
    """A cold image is built by one node, named, and the other one waits for it or finds it."""
    mishaps.forget_images(cluster)
    inner = "echo $SLURM_JOB_ID; srun --container qnib/plain-featuretest:generic true"
    done = cluster.shell(f"salloc -Q {shlex.join(TWO)} sh -c {shlex.quote(inner)}")
    job = done.stdout.split()[0]
    ended(cluster, job)
    (run,) = runs(cluster, job)
    had = {one["node"]: one for one in run["ran"]}
    built = [one for one in had.values() if one["source"] == "built"]
    assert [one["builder"] for one in built] == [one["node"] for one in built], run
    assert len(built) == 1, run
    assert cluster.run("hpcimg", "cache", "warm", BENCH, user="root").returncode == 0


def test_a_job_that_ran_nothing(cluster):
    """It says so, in two lines."""
    done = cluster.run("hpcimg", "job", "4000000000")
    assert (done.returncode, done.stdout) == (66, "")
    assert done.stderr.startswith("hpcimg: nothing is known of a job 4000000000\nhpcimg: hint: ")
