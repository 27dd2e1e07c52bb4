"""With `mount: kernel` the kernel mounts the site's images: the same container, nothing left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath

import pytest
from conftest import Cluster
from launching import IMAGE, NODE, Allocation, allocate, needs_kernel_mount
from mishaps import PYTHON, do, settings

pytestmark = [pytest.mark.integration, needs_kernel_mount]

MOUNTER = "/usr/local/libexec/hpcimg/mounter"
MOUNTS = "/run/hpcimg/mounts"
TICKETS = "/run/hpcimg/tickets"
WHERE = 'echo "$APPTAINER_CONTAINER"'
LOOPS = "for file in /srv/hpcimg/store/entries/*/*/image.sif; do losetup -j $file; done"
# All that a launch could leave: mounts, loop devices, processes, markers.
LEFT = (
    f"grep -E 'squash|{MOUNTS}' /proc/1/mounts; {LOOPS}; pgrep -a squashfuse;"
    f" pgrep -fa '[h]pcimg-holder'; ls -A {MOUNTS} 2>/dev/null | grep -v '^[.]lock$'"
)
CLOSED = "kernel/closed"
MAKE_CLOSED = f"""\
import sys
sys.path.insert(0, "/usr/local/lib/cluster/images")
from make_images import *
entries = [*busybox_entries(), Entry("closed", 0o700), Entry("closed/link", link="file")]
entries += [Entry("closed/file", 0o600, content=b"inside")]
entries += [Entry("closed/root", 0o4711, content=b"x")]
settings = {{"Env": ["PATH=/bin:/usr/bin", "MINE=a b"], "Labels": {{"org.example": "yes"}}}}
settings |= {{"Entrypoint": ["echo", "entry"], "Cmd": ["words"]}}
push("registry:5000/{CLOSED}:latest", [pack(entries)], settings)
"""
# Every file with all that can be seen of it; directories have no size that means anything.
SURVEY = (
    "all() { find . '(' -path ./proc -o -path ./sys -o -path ./dev -o -path './home/*' -o"
    " -path './tmp/*' -o -path './var/tmp/*' ')' -prune -o \"$@\" | sort; }; cd /;"
    " all -exec stat -c '%n %a %u %g %F %t %T' {} +; sort etc/group;"
    " all -type f ! -path ./etc/group -exec md5sum {} +; all -type l -exec ls -l {} +;"
    " cat .singularity.d/runscript .singularity.d/labels.json; id;"
    " env | grep -vE '^(SLURM|SPANK|(APPTAINER|SINGULARITY)_(CONTAINER|NAME)=)' | sort"
)


@pytest.fixture(scope="module", autouse=True)
def by_kernel(cluster: Cluster) -> Iterator[None]:
    """A site that lets the kernel mount its images, which are in the store."""
    made = cluster.run("python3", "-c", MAKE_CLOSED, user="root")
    assert made.returncode == 0, made.stderr
    with settings(cluster, mount="kernel"):
        yield


@pytest.fixture
def job(cluster: Cluster) -> Iterator[Allocation]:
    """A job of each test's own."""
    yield from allocate(cluster)


@contextmanager
def allocated(cluster: Cluster, user: str = "alice") -> Iterator[str]:
    """Hold a job of a user on the node; its number."""
    granted = cluster.run("salloc", "--no-shell", "-w", NODE, "--mem=100", user=user)
    number = re.findall(r"Granted job allocation (\d+)", granted.stderr)
    assert number, granted.stderr
    try:
        yield number[0]
    finally:
        cluster.run("scancel", number[0], user=user)


def left(cluster: Cluster, node: str = NODE) -> str:
    """What is still there of any launch after ten seconds, normally nothing and soon."""
    wait = f'for i in $(seq 100); do [ -n "$({LEFT})" ] || exit 0; sleep 0.1; done; {LEFT}'
    return cluster.shell(wait, node=node, user="root").stdout


def log(cluster: Cluster) -> str:
    """What the node's log says of images that the kernel did not mount."""
    return do(cluster, "grep 'not by the kernel' /var/log/syslog || :", NODE)


@pytest.mark.parametrize("image", [IMAGE, "mpi", CLOSED])
def test_the_same_container(cluster: Cluster, image: str) -> None:
    """Files, owners, modes, environment, runscript and labels are those that FUSE shows."""
    step = ["srun", "-w", NODE, f"--container-image={image}", "sh", "-c", f"{SURVEY}; {WHERE}"]
    ours = cluster.run(*step)
    with settings(cluster, mount="fuse"):
        theirs = cluster.run(*step)
    assert (ours.returncode, theirs.returncode) == (0, 0), ours.stderr + theirs.stderr
    *ours_seen, ours_place = ours.stdout.splitlines()
    *theirs_seen, theirs_place = theirs.stdout.splitlines()
    assert ours_place.startswith(MOUNTS)
    assert theirs_place.endswith("/image.sif")
    assert ours_seen == theirs_seen
    assert len(ours_seen) > 100
    if image == CLOSED:
        assert "./closed/file 600 1001 1001 regular file 0 0" in ours_seen
        assert any(line.endswith("./closed/file") and len(line) > 40 for line in ours_seen)


def test_no_process_and_no_device(job: Allocation) -> None:
    """No FUSE process runs; the mount is read-only, without set-uid and devices, in root's hand."""
    ours = job.step("sh", "-c", f"{WHERE}; ls /dev/loop0 2>&1; echo x >/new; sleep 0.2")
    place = ours.output.splitlines()[0]
    assert "Read-only file system" in ours.errors
    seen = job.on_node(f"grep squashfs /proc/1/mounts; stat -c '%U %a' {MOUNTS} {MOUNTS}/.lock")
    mount, *owners = seen.splitlines()
    assert mount.split()[1:3] == [place, "squashfs"]
    assert mount.split()[3].startswith("ro,nosuid,nodev")
    assert owners == ["root 755", "root 600"]
    assert job.on_node("pgrep -a squashfuse") == ""


def test_one_mount_for_many(cluster: Cluster) -> None:
    """Steps of two users that start at once share one mount and one loop device."""
    step = f"srun --overlap -O --container-image={IMAGE} --jobid=$JOB sh -c '{WHERE}; sleep 1'"
    with allocated(cluster) as ours, allocated(cluster, "bob") as theirs:
        running = [
            f'(runuser -u {user} -- env JOB={job} sh -c "{step.replace("$", chr(92) + "$")}" &) '
            for user, job in (("alice", ours), ("bob", theirs))
            for _ in range(4)
        ]
        done = cluster.shell(f"cd /; {'; '.join(running)}; wait; sleep 2", user="root")
        places = set(done.stdout.split())
        seen = do(cluster, f"grep -c squashfs /proc/1/mounts; {LOOPS}; ls {MOUNTS}/*.jobs", NODE)
    count, *devices = (line for line in seen.splitlines() if "/dev/loop" in line or line == "1")
    assert len(done.stdout.split()) == 8, done
    assert len(places) == 1
    assert (count, len(devices)) == ("1", 1), seen
    assert {ours, theirs} <= set(seen.split())
    assert left(cluster) == ""


def test_the_last_job_unmounts(cluster: Cluster) -> None:
    """While one of two jobs lasts the mount stays, for its next step; then it goes."""
    step = ("srun", "--overlap", f"--container-image={IMAGE}", "sh", "-c", WHERE)
    with allocated(cluster) as ours:
        with allocated(cluster, "bob") as theirs:
            for user, number in (("alice", ours), ("bob", theirs)):
                done = cluster.run(*step[:1], f"--jobid={number}", *step[1:], user=user)
                assert done.stdout.startswith(MOUNTS), done.stderr
        gone = f"until [ ! -e {TICKETS}/{theirs} ]; do sleep 0.05; done; grep squash /proc/1/mounts"
        assert done.stdout.strip() in do(cluster, f"timeout 30 sh -c '{gone}'", NODE)
        again = cluster.run(*step[:1], f"--jobid={ours}", *step[1:])
        assert again.stdout == done.stdout, again.stderr
    assert left(cluster) == ""


@pytest.mark.parametrize(
    "end",
    [
        pytest.param("scancel {job}", id="cancelled"),
        pytest.param("pkill -9 -f '[s]lurmstepd: .{job}[.][0-9]'; scancel {job}", id="slurmstepd"),
        pytest.param(
            "kill -9 $(cat /run/slurmd.pid); sleep 0.5; slurmd; scancel {job}", id="slurmd"
        ),
    ],
)
def test_nothing_is_left(cluster: Cluster, job: Allocation, end: str) -> None:
    """However a running job ends: no mount, no loop device, no process, no marker."""
    step = job.start("sh", "-c", f"{WHERE}; exec sleep 100")
    assert step.stdout is not None
    assert step.stdout.readline().startswith(MOUNTS)
    do(cluster, end.format(job=job.job), NODE)
    do(cluster, "pkill -u alice sleep || :", NODE)
    step.kill()
    step.communicate()
    assert left(cluster) == ""


def test_a_requeued_job(cluster: Cluster) -> None:
    """It gets its image again; afterwards nothing is left."""
    script = f"srun sh -c '{WHERE}'; [ $SLURM_RESTART_COUNT ] || sleep 100"
    command = ["sbatch", "--parsable", "--requeue", "--open-mode=append", "-w", NODE]
    command += ["-o", "/home/alice/requeued", f"--container={IMAGE}", f"--wrap={script}"]
    cluster.run("rm", "-f", "/home/alice/requeued")
    job = cluster.run(*command).stdout.strip()
    first = "until grep -qs hpcimg/mounts requeued; do sleep 0.1; done"
    assert cluster.shell(f"cd; timeout 60 sh -c '{first}'").returncode == 0
    do(cluster, f"scontrol requeue {job}")
    assert left(cluster) == ""
    # Slurm would wait two minutes.
    second = (
        "until [ $(grep -cs hpcimg/mounts ~alice/requeued) = 2 ]; do"
        f" scontrol update jobid={job} starttime=now; sleep 0.2; done"
    )
    do(cluster, f"timeout 60 bash -c '{second}' 2>/dev/null")
    assert left(cluster) == ""


def test_a_node_that_loses_power(cluster: Cluster) -> None:
    """After a new start of the node nothing is mounted, no loop device is held, and jobs run."""
    node = "skx1"
    with allocated_on(cluster, node) as job:
        assert job.step("sh", "-c", WHERE).output.startswith(MOUNTS)
        assert cluster.verb("kill", node).returncode == 0
        assert cluster.verb("start", node).returncode == 0
    assert left(cluster, node) == ""
    done = cluster.run("srun", "-w", node, "--container", IMAGE, "sh", "-c", WHERE)
    assert done.stdout.startswith(MOUNTS), done.stderr
    assert left(cluster, node) == ""


@contextmanager
def allocated_on(cluster: Cluster, node: str) -> Iterator[Allocation]:
    """A job on another node."""
    granted = cluster.run("salloc", "--no-shell", "-w", node, "--mem=100")
    job = granted.stderr.split("Granted job allocation ")[1].split()[0]
    try:
        yield Allocation(cluster, job, node)
    finally:
        cluster.run("scancel", job)


def test_a_job_whose_epilog_never_ran(cluster: Cluster) -> None:
    """A job that has no step and has started none for an hour keeps nothing mounted."""
    entry = f"{MOUNTS}/{'0' * 64}.made"
    old, young = "4000000002", "4000000003"
    make = f"mkdir -p {entry} {entry}.jobs {TICKETS}/{old} {TICKETS}/{young}; cd {entry}.jobs"
    do(cluster, f"{make}; touch file {young}; touch -d '2 hours ago' {old}; {MOUNTER} sweep", NODE)
    assert do(cluster, f"ls {entry}.jobs", NODE).split() == [young, "file"]
    do(cluster, f"touch -d '2 hours ago' {entry}.jobs/{young}; {MOUNTER} sweep", NODE)
    assert entry not in do(cluster, f"ls -d {MOUNTS}/* || :", NODE)
    do(cluster, f"rm -rf {TICKETS}/{old} {TICKETS}/{young}", NODE)


def test_what_is_in_use_is_left_for_the_next_time(cluster: Cluster) -> None:
    """A process outside of all jobs that stands in the mount keeps it until the next sweep."""
    with allocated_on(cluster, NODE) as job:
        place = job.step("sh", "-c", WHERE).output.strip()
        assert place.startswith(MOUNTS)
        stand = f"cd {place}; setsid sleep 100 >/dev/null 2>&1 </dev/null & echo $!"
        pid = do(cluster, stand, NODE).strip()
    gone = f"until [ ! -e {TICKETS}/{job.job} ]; do sleep 0.05; done; {MOUNTER} sweep"
    mounted = "cut -d' ' -f2 /proc/1/mounts"
    assert place in do(cluster, f"timeout 30 sh -c '{gone}'; {mounted}", NODE).split()
    do(cluster, f"kill {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.05; done", NODE)
    assert place not in do(cluster, f"{MOUNTER} sweep; {mounted}", NODE).split()
    assert left(cluster) == ""


@pytest.mark.parametrize(
    ("harm", "mend", "reason"),
    [
        # What is wrong with the file itself is seen before: then the entry is built again.
        pytest.param("chmod g+w {all}", "chmod g-w {all}", "sha256", id="others may write there"),
        pytest.param("chown bob {all}", "chown hpcimg {all}", "sha256", id="another's folder"),
        pytest.param(
            "mv /dev/loop-control /dev/x", "mv /dev/x /dev/loop-control", "loop", id="no device"
        ),
    ],
)
def test_what_root_does_not_trust(
    cluster: Cluster, job: Allocation, harm: str, mend: str, reason: str
) -> None:
    """The image is then mounted with FUSE, by the user, and the node's log has one line of it."""
    name = "qnib/plain-featuretest:generic"
    assert job.step("true", image=name).code == 0
    ticket = f"{TICKETS}/{job.job}/qnib+plain*"
    where = do(cluster, f"sed -n s/image=//p {ticket}", NODE).strip()
    entries = str(PurePath(where).parent.parent)
    before = log(cluster)
    do(cluster, f"umount {MOUNTS}/*[0-9]; {harm.format(all=entries)}", NODE)
    try:
        ours = job.step("sh", "-c", f"{WHERE}; bench", image=name)
    finally:
        do(cluster, mend.format(all=entries), NODE)
    assert ours.output.splitlines()[0] == where, ours
    assert "not optimized" in ours.output
    assert ours.errors == ""
    new = log(cluster).removeprefix(before).splitlines()
    assert len(new) == 1
    assert reason in new[0]


def test_never_a_users_own_image(cluster: Cluster, job: Allocation) -> None:
    """Whatever the user's own `hpcimg get` says, the kernel gets no file of a user."""
    sif = "/srv/hpcimg/store/entries/sha256/*/image.sif"
    do(cluster, f"cp $(ls {sif} | head -1) /home/alice/mine.sif; chown alice /home/alice/mine.sif")
    forged = (
        '#!/bin/sh\ncase "$*" in *"get --store site"*) exit 80 ;; esac\n'
        "echo image=/home/alice/mine.sif\necho mount=kernel\n"
    )
    do(cluster, f"mv {PYTHON} {PYTHON}.x; printf '{forged}' >{PYTHON}; chmod 755 {PYTHON}", NODE)
    try:
        ours = job.step("sh", "-c", WHERE, image="forged")
    finally:
        do(cluster, f"mv {PYTHON}.x {PYTHON}", NODE)
    assert ours.output == "/home/alice/mine.sif\n", ours
    assert "squashfs" not in job.on_node("cat /proc/1/mounts; rm /home/alice/mine.sif")
