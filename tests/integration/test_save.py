"""Containers that are saved: when, what is in the file, and how a failure is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Cluster
from launching import IMAGE, Allocation, allocate, needs_kernel_mount
from mishaps import settings

pytestmark = pytest.mark.integration

MADE = "echo made >/made; mkdir -p /deep/er; echo x >/deep/er/x"


@pytest.fixture(scope="module")
def job(cluster: Cluster) -> Iterator[Allocation]:
    """One job for all steps of this file."""
    cluster.shell("rm -rf ~/saved; mkdir -p ~/saved/'a dir'; chmod 500 ~/saved/'a dir'")
    yield from allocate(cluster)


def save(job: Allocation, path: str, script: str, *words: str, image: str | None = IMAGE):
    """A step that saves its container under ~/saved."""
    asked = (f"--container-save={path}", *words)
    return job.step(*asked, "sh", "-c", script, image=image, environment="cd ~/saved")


@pytest.mark.parametrize("name", ["it.sqsh", "it.squashfs", "it.sif", "an other.sif"])
def test_what_is_saved_runs_again(job: Allocation, name: str) -> None:
    """With what the tasks wrote, and without what the host showed; said with its size."""
    ended = save(job, name, MADE)
    assert ended.code == 0, ended.errors
    assert f"hpcimg: bdw1: saved the container to '/home/alice/saved/{name}' (" in ended.errors
    assert " MB)" in ended.errors
    script = "cat /made /deep/er/x; which bench; ls -A / /home"
    again = save(job, "none.sif", script, "--no-container-mount-home", image=f"./{name}")
    said = again.output.split()
    assert said[:2] == ["made", "x"], again.errors
    assert ".hpcimg-holder" not in job.cluster.shell(f"unsquashfs -l ~/saved/'{name}'").stdout
    inside = "find /home /tmp /var/tmp -type f"
    listed = job.cluster.shell(
        f"cd /; apptainer exec --userns --contain --no-home ~/saved/'{name}' {inside}",
        node=job.node,
    )
    assert (listed.returncode, listed.stdout) == (0, ""), listed.stderr


def test_after_the_last_task(job: Allocation) -> None:
    """What any of them wrote is in it, whatever order they end in, and one file comes of it."""
    script = "sleep 0.$((3 - SLURM_LOCALID)); echo >/task$SLURM_LOCALID"
    ended = save(job, "all.sqsh", script, "-n4")
    assert (ended.code, ended.errors.count("saved the container")) == (0, 1), ended.errors
    again = job.step("sh", "-c", "ls /", image="/home/alice/saved/all.sqsh")
    assert {f"task{number}" for number in range(4)} <= set(again.output.split())


def test_the_command_decides_how_the_step_ends(job: Allocation) -> None:
    """By its exit code or its signal; the container is saved all the same."""
    ended = save(job, "code.sqsh", f"{MADE}; exit 7")
    assert ended.code == 7
    assert "saved the container" in ended.errors
    ended = save(job, "signal.sqsh", f"{MADE}; kill -TERM $$")
    assert "Terminated" in ended.errors
    assert "saved the container" in ended.errors


def test_a_read_only_one_is_its_image(job: Allocation) -> None:
    """Nothing can be written, and what is saved is the image."""
    ended = save(job, "same.sqsh", "echo >/made", "--container-readonly")
    assert "can't create /made: Read-only file system" in ended.errors
    assert "saved the container" in ended.errors
    assert job.step("bench", image="/home/alice/saved/same.sqsh").code == 0


def test_a_named_one(job: Allocation) -> None:
    """Is saved with all that its steps have left."""
    asked = ("--container-name=pets", "sh", "-c", "echo one >/one")
    assert job.step(*asked).code == 0
    ended = save(job, "pets.sqsh", "echo two >/two", "--container-name=pets", image=None)
    assert "saved the container" in ended.errors
    again = job.step("cat", "/one", "/two", image="/home/alice/saved/pets.sqsh")
    assert again.output == "one\ntwo\n", again.errors


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("no/it.sqsh", '"/home/alice/saved/no/it.sqsh": its directory: No such file or directory'),
        ("a dir/it.sqsh", '"/home/alice/saved/a dir/it.sqsh": its directory: Permission denied'),
    ],
)
def test_where_nothing_can_be_written(job: Allocation, path: str, why: str) -> None:
    """Said once, before the tasks begin; no task runs for nothing."""
    ended = save(job, path, "echo began", "-n3")
    assert (ended.code, ended.output) == (125, "")
    said = [line for line in ended.errors.splitlines() if line.startswith("hpcimg")]
    assert said == [f"hpcimg: bdw1: could not save the container to {why}"]


def test_a_failure_fails_the_step(job: Allocation) -> None:
    """And what stood there stays: whole or not at all."""
    assert save(job, "it.sqsh", "true").code == 0
    before = job.cluster.shell("sha256sum <~/saved/it.sqsh; ls -A ~/saved").stdout
    ended = save(job, "it.sqsh", "chmod 500 ~/saved")
    assert ended.code == 125
    assert "could not save to '/home/alice/saved/it.sqsh': Permission denied" in ended.errors
    after = job.cluster.shell("chmod 700 ~/saved; sha256sum <~/saved/it.sqsh; ls -A ~/saved").stdout
    assert before == after


def test_a_killed_task_saves_nothing(job: Allocation) -> None:
    """And the step says so."""
    job.cluster.shell("rm -f ~/saved/killed.sqsh")
    step = job.start(
        "--container-save=/home/alice/saved/killed.sqsh",
        "sh",
        "-c",
        "echo $SLURM_STEP_ID; sleep 60",
    )
    assert step.stdout is not None
    number = step.stdout.readline().strip()
    job.cluster.run("scancel", "--signal=KILL", f"{job.job}.{number}")
    said, _ = step.communicate(timeout=60)
    assert 'was not saved to "/home/alice/saved/killed.sqsh": a task was killed' in said
    assert job.cluster.shell("ls ~/saved/killed.sqsh").returncode != 0


def test_signals_reach_the_command(job: Allocation) -> None:
    """Who waits for it stays, and saves what it has left."""
    script = "trap 'echo got >/got; exit 0' USR1; echo $SLURM_STEP_ID; while :; do sleep 0.1; done"
    step = job.start("--container-save=/home/alice/saved/got.sqsh", "sh", "-c", script)
    assert step.stdout is not None
    number = step.stdout.readline().strip()
    job.cluster.run("scancel", "--signal=USR1", f"{job.job}.{number}")
    said, _ = step.communicate(timeout=60)
    assert "saved the container" in said
    assert job.step("cat", "/got", image="/home/alice/saved/got.sqsh").output == "got\n"


def test_a_file_that_is_no_image_stays(job: Allocation) -> None:
    """Somebody's own file may have the name; an older image is replaced."""
    job.cluster.shell("echo my thesis >~/saved/thesis.sif")
    ended = save(job, "thesis.sif", "true")
    assert ended.code != 0
    assert "could not save to '/home/alice/saved/thesis.sif': there is something" in ended.errors
    assert job.cluster.shell("cat ~/saved/thesis.sif").stdout == "my thesis\n"
    assert save(job, "twice.sqsh", "true").code == 0
    assert save(job, "twice.sqsh", "true").code == 0


@pytest.mark.parametrize(
    "command",
    [
        "sbatch --container=qnib/bench --container-save=x.sif --wrap=true",
        "salloc --container-image=qnib/bench --container-save=x.sif true",
    ],
)
def test_where_nothing_would_be_saved(cluster: Cluster, command: str) -> None:
    """Steps do not inherit it, and the command itself runs on the host."""
    done = cluster.shell(command)
    assert done.returncode == 1, done.stderr
    assert 'what is to be saved is for one command: "x.sif"' in done.stderr


def test_several_nodes(cluster: Cluster) -> None:
    """Would write one file: refused, or each has its node's name in it."""
    line = f"srun -w bdw1,skx1 --mem=100 --container-image={IMAGE} --container-save="
    done = cluster.shell(f"cd ~/saved; {line}one.sqsh true")
    assert done.returncode != 0
    assert "each node of the step would save its container to the same file" in done.stderr
    done = cluster.shell(f"cd ~/saved; {line}of-%N.sqsh true; ls of-*")
    assert done.stdout.split() == ["of-bdw1.sqsh", "of-skx1.sqsh"], done.stderr


@pytest.mark.parametrize("path", ["it.tar", "it", ".sqsh", "it.sqsh/", "a\tb.sif"])
def test_what_is_no_file_to_save_to(job: Allocation, path: str) -> None:
    """On the submit side, with the formats that there are."""
    ended = save(job, path, "true")
    assert ended.code == 1
    assert "this is no image file to save a container to:" in ended.errors
    assert "write a path that ends in .sqsh, .squashfs or .sif; %N in it is" in ended.errors


@needs_kernel_mount
def test_where_the_kernel_mounts_the_image(cluster: Cluster) -> None:
    """What is written and saved is the same; the user has all groups there."""
    line = f"srun -w bdw1 --mem=100 --container-image={IMAGE} --container-save=kernel.sqsh"
    # A node's disk is an overlay here, and the kernel puts none on top of another.
    with settings(cluster, mount="kernel", containers={"path": "/run/kept"}):
        script = "'echo k >/k; head -1 /proc/mounts; wc -l </proc/self/gid_map'"
        done = cluster.shell(f"cd ~/saved; {line} sh -c {script}")
        again = cluster.shell("cd ~/saved; srun -w bdw1 --container-image=kernel.sqsh cat /k")
    assert done.stdout.startswith("overlay / overlay rw"), done.stderr
    assert done.stdout.splitlines()[-1] == "3"
    assert again.stdout == "k\n", again.stderr


def test_nothing_is_left(job: Allocation) -> None:
    """Neither a layer of a step, nor a part of a file."""
    assert job.on_node(f"ls -A /var/lib/hpcimg/containers/1001/jobs/{job.job}") == "pets\n"
    assert job.cluster.shell("ls -A ~/saved | grep part").stdout == ""
