"""A job runs one index, however its tag moves: on all nodes, in all steps, and after a requeue."""

from __future__ import annotations

import re
import shlex
from contextlib import contextmanager

import mishaps
import pytest

pytestmark = pytest.mark.integration

MOVED = "qnib/moved"
PARTS = "qnib/plain-featuretest"
OLD, NEW = "not optimized for a specific microarchitecture", "optimized for: cpu:broadwell"


@pytest.fixture(scope="module", autouse=True)
def warmed(cluster):
    """Have both builds in the store."""
    for build in ("generic", "cpu-broadwell"):
        done = cluster.run("srun", "-w", "bdw1", "--container", f"{PARTS}:{build}", "true")
        assert done.returncode == 0, done.stderr


@pytest.fixture(autouse=True)
def tag(cluster):
    """Let the tag stand for the generic build."""
    mishaps.push(cluster, MOVED, (f"{PARTS}:generic", ""))


def move(cluster):
    """Let the tag stand for another build."""
    mishaps.push(cluster, MOVED, (f"{PARTS}:cpu-broadwell", ""))


@contextmanager
def allocation(cluster, *words):
    """A job that steps can be started in."""
    granted = cluster.run("salloc", "--no-shell", *words)
    assert "Granted job allocation" in granted.stderr, granted.stderr
    job = granted.stderr.split("Granted job allocation ")[1].split()[0]
    try:
        yield job
    finally:
        cluster.run("scancel", job)


def step(cluster, job, node, image=MOVED):
    """What a step of the job on one node runs."""
    words = (f"--jobid={job}", "-w", node, "-N1", "-n1", "--overlap", "--container", image)
    done = cluster.run("srun", *words, "bench")
    assert done.returncode == 0, done.stderr
    return done.stdout


def submit(cluster, *words, script):
    """Submit a script as sbatch does; the job's number and what sbatch said."""
    text = shlex.quote(f"#!/bin/sh\n{script}\n")
    done = cluster.shell(
        f"cd; rm -f pins.out; printf %s {text} >pins.sh; sbatch -o pins.out "
        f"--open-mode=append {shlex.join(words)} pins.sh"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1], done.stderr


def wait(cluster, condition):
    """Wait until a shell condition holds on the login node."""
    done = cluster.shell(
        f"timeout 90 sh -c {shlex.quote(f'until {condition}; do sleep 0.2; done')}"
    )
    assert done.returncode == 0, cluster.shell("squeue; scontrol show job; cat ~/pins.out").stdout


def test_a_moved_tag_splits_no_job(cluster):
    """The next step, and a node that starts later, run what the first step ran."""
    with allocation(cluster, "-N2", "-w", "bdw1,skx1", "--mem=100") as job:
        before = mishaps.tag_requests(cluster, MOVED)
        assert OLD in step(cluster, job, "bdw1")
        move(cluster)
        assert OLD in step(cluster, job, "bdw1")
        assert OLD in step(cluster, job, "skx1")
        # index push has read the tag as well, or not: only then it is asked for again.
        pushed = mishaps.tag_requests(cluster, MOVED)
        assert OLD in step(cluster, job, "skx1", f"{MOVED}:latest")
        assert mishaps.tag_requests(cluster, MOVED) == pushed
        assert pushed - before <= 2
    with allocation(cluster, "-w", "bdw1", "--mem=100") as job:
        assert NEW in step(cluster, job, "bdw1")


def test_a_requeued_job_runs_the_same(cluster):
    """It was not pinned at submit: what its first start found is found again."""
    script = f"srun --container {MOVED} bench; echo done $SLURM_RESTART_COUNT; sleep 300"
    job, _ = submit(cluster, "--requeue", "-w", "bdw1", "--mem=100", script=script)
    try:
        wait(cluster, "grep -q ^done ~/pins.out")
        move(cluster)
        mishaps.do(cluster, f"scontrol requeue {job}")
        # Slurm holds a requeued job back for as long as its credential may live.
        hurry = f"scontrol update jobid={job} starttime=now 2>/dev/null || :; sleep 0.5"
        mishaps.do(cluster, f"until grep -q 'done 1' ~alice/pins.out; do {hurry}; done")
    finally:
        cluster.run("scancel", job)
    said = cluster.run("cat", "pins.out").stdout
    assert said.count(OLD) == 2, said
    assert NEW not in said


@pytest.mark.parametrize(
    ("option", "script", "runs"),
    [
        ("--container-image", "bench", 2),
        ("--container", f"srun bench; srun --container {MOVED} bench", 4),
    ],
    ids=["script", "steps"],
)
@pytest.mark.newest
def test_sbatch_pins_at_submit(cluster, option, script, runs):
    """A job that waits runs what the tag was when it was submitted; so does all of its array."""
    words = ("-H", "-w", "bdw1", "--mem=100", "-a", "1-2", f"{option}={MOVED}")
    job, said = submit(cluster, *words, script=script)
    move(cluster)
    before = mishaps.tag_requests(cluster, MOVED)
    mishaps.do(cluster, f"scontrol release {job}")
    wait(cluster, f'[ -z "$(squeue -hj {job})" ]')
    asked = mishaps.tag_requests(cluster, MOVED) - before
    output = cluster.run("cat", "pins.out").stdout
    assert "warning" not in said
    assert output.count(OLD) == runs, output
    assert NEW not in output
    assert asked == 0


def test_sbatch_where_nothing_can_be_pinned(cluster):
    """It says so in one line and submits; --test-only asks nobody."""
    with mishaps.without_registry(cluster, "login"):
        words = ("-w", "bdw1", "--mem=100", f"--container-image={MOVED}")
        job, said = submit(cluster, *words, script="bench")
        wait(cluster, f'[ -z "$(squeue -hj {job})" ]')
        output = cluster.run("cat", "pins.out").stdout
        tried = cluster.run("sbatch", "--test-only", *words, "pins.sh")
    ours = [line for line in said.splitlines() if "hpcimg" in line]
    assert len(ours) == 1, said
    assert re.search("warning: the tag is read when the job starts: could not reach http://", said)
    assert OLD in output
    assert "hpcimg" not in tried.stderr


def test_sbatch_waits_no_longer_than_a_few_seconds(cluster):
    """What hangs is ended, and the job is submitted."""
    stuck = f"mv {mishaps.PYTHON} {mishaps.PYTHON}.real; printf '#!/bin/sh\\nexec sleep 600' "
    mishaps.do(cluster, f"{stuck} >{mishaps.PYTHON}; chmod 755 {mishaps.PYTHON}")
    try:
        words = ("-H", "--mem=100", f"--container-image={MOVED}")
        job, said = submit(cluster, *words, script="bench")
        left = cluster.shell("pgrep -fx 'sleep 600'").stdout
    finally:
        mishaps.do(cluster, f"mv {mishaps.PYTHON}.real {mishaps.PYTHON}")
    cluster.run("scancel", job)
    assert "hpcimg: warning: the tag is read when the job starts: `hpcimg pin` did not" in said
    assert left == ""


def test_a_registry_that_is_down(cluster):
    """A warm image runs with one warning for the job; with `always`, or unknown, it does not."""
    nodes = ("bdw1", "skx1", "zen1")
    where = ("-w", ",".join(nodes), "--mem=100")
    assert cluster.run("srun", *where, "--container", MOVED, "true").returncode == 0
    with mishaps.without_registry(cluster, *nodes):
        inner = f"srun -n6 -O --container {MOVED} bench; srun --container {MOVED} bench"
        done = cluster.shell(f"salloc -Q {shlex.join(where)} sh -c {shlex.quote(inner)}")
        always = cluster.run(
            "srun", "-w", "bdw1", "--container-pull=always", "--container", MOVED, "true"
        )
        unknown = cluster.run("srun", "-w", "bdw1", "--container", f"{PARTS}:cpu-skylake", "true")
    assert done.stdout.count(OLD) == 9, done.stderr
    warnings = [line for line in done.stderr.splitlines() if "warning" in line]
    assert len(warnings) == 1, done.stderr
    assert re.search(
        "hpcimg: .*: warning: could not reach .* running .*moved:latest as it was", warnings[0]
    )
    for failed in (always, unknown):
        assert failed.returncode == 125
        ours = [line for line in failed.stderr.splitlines() if line.startswith("hpcimg: bdw1: ")]
        assert len(ours) == 2, failed.stderr
        assert "could not reach http://registry:5000" in ours[0]


def test_missing_asks_no_registry(cluster):
    """With the image in the store the tag is what it was, by option and by variable."""
    assert cluster.run("srun", "-w", "bdw1", "--container", MOVED, "true").returncode == 0
    move(cluster)
    before = mishaps.tag_requests(cluster, MOVED)
    command = f"srun -w bdw1 --container {MOVED}"
    done = cluster.shell(
        f"{command} --container-pull=missing bench; HPCIMG_CONTAINER_PULL=missing {command} bench"
    )
    assert done.stdout.count(OLD) == 2, done.stderr
    assert mishaps.tag_requests(cluster, MOVED) == before
    wrong = cluster.run("srun", "--container-pull=sometimes", "--container", MOVED, "true")
    assert 'this is no way to pull an image: "sometimes"' in wrong.stderr


def test_many_nodes_and_tasks_ask_once(cluster):
    """Of four nodes with four tasks each, in two steps, one asks, whatever is cold."""
    for place in ("jobs", "documents"):
        mishaps.do(cluster, f"rm -rf /srv/hpcimg/store/{place}/*")
    before = mishaps.do(cluster, "cat /var/log/registry.log")
    inner = f"srun -n16 -O --container {MOVED} bench; srun -n16 -O --container {MOVED} bench"
    done = cluster.shell(f"salloc -Q -N4 --mem=100 sh -c {shlex.quote(inner)}")
    assert done.stdout.count(OLD) == 32, done.stderr
    log = mishaps.do(cluster, "cat /var/log/registry.log").removeprefix(before)
    asked = re.findall(r'"(?:GET|HEAD) (/v2/qnib/moved/\S+)', log)
    assert len(asked) == len(set(asked)), asked
    assert asked.count(f"/v2/{MOVED}/manifests/latest") == 1
