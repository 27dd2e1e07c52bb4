"""Containers with a name: what a flag means, what a name keeps, who may join what runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Cluster
from launching import IMAGE, Allocation, allocate

pytestmark = pytest.mark.integration

LIVE = "echo live >/live; readlink /proc/self/ns/mnt >/mounts; echo $SLURM_STEP_ID; sleep 60"
OTHER = "qnib/plain-featuretest:generic"
RUNNING = "/run/hpcimg/running"
KEPT = "/var/lib/hpcimg/containers"
FORGED = f"""
set -e
end='asked=qnib/bench\\nimage=/x\\nenvironment 0\\n'
say() {{ printf "%s\\n$end" "$1" >{RUNNING}/1001~s~77.$2; }}
start() {{ cut -d' ' -f22 "/proc/$1/stat"; }}
sleep 600 <&- >&- 2>&- & echo $! >/tmp/forged
setpriv --reuid=bob --regid=bob --clear-groups sleep 600 <&- >&- 2>&- & echo $! >>/tmp/forged
own=$(head -1 /tmp/forged) bobs=$(tail -1 /tmp/forged)
say "uid=1001
anchor $own $(start $own)
processes" 1
say "uid=1001
anchor $bobs $(start $bobs)
processes" 2
say "uid=1002
anchor $bobs $(start $bobs)
processes" 3
say "uid=1001
anchor 1 1
processes" 4
say "uid=1001" 5
cp {RUNNING}/1001~s~77.1 {RUNNING}/1001~s~77.6; chmod 0666 {RUNNING}/1001~s~77.6
ln -s 1001~s~77.1 {RUNNING}/1001~s~77.7
"""
"""Root's processes, another user's, wrong owners, a pid used again, files that are not root's."""


@pytest.fixture(scope="module")
def job(cluster: Cluster) -> Iterator[Allocation]:
    """One job for all steps of this file."""
    yield from allocate(cluster)


def named(job: Allocation, name: str, script: str, *words: str, image: str | None = None):
    """A step in the container of a name."""
    return job.step(f"--container-name={name}", *words, "sh", "-c", script, image=image)


@pytest.fixture
def running(job: Allocation) -> Iterator[str]:
    """A step that runs in the container `live`; its number, JOB.STEP."""
    words = ("--container-name=live", "sh", "-c", LIVE)
    step = job.start(*words)
    assert step.stdout is not None
    number = step.stdout.readline().strip()
    yield f"{job.job}.{number}"
    job.cluster.run("scancel", f"{job.job}.{number}")
    step.wait(timeout=60)


def test_a_name_keeps_what_was_written(job: Allocation) -> None:
    """For the job's later steps, which need no image; the layer is the user's alone."""
    assert named(job, "keeps", "echo kept >/kept; rm $(which bench)", image=IMAGE).code == 0
    again = named(job, "keeps", "cat /kept; which bench || echo gone")
    assert again.output == "kept\ngone\n", again.errors
    same = named(job, "keeps:auto", "cat /kept", image=f"docker://{IMAGE}")
    assert same.output == "kept\n", same.errors
    modes = job.on_node(f"stat -c '%a %U' {KEPT} {KEPT}/1001 {KEPT}/1001/jobs")
    assert modes == "755 root\n700 alice\n700 alice\n"


def test_create(job: Allocation) -> None:
    """Makes one, and refuses where there is one."""
    assert named(job, "new:create", "echo x >/new", image=IMAGE).code == 0
    ended = named(job, "new:create", "true", image=IMAGE)
    assert (ended.code, ended.output) == (125, "")
    assert 'there is a container "new" on this node already' in ended.errors
    assert named(job, "new", "cat /new").output == "x\n"


def test_no_exec(job: Allocation, running: str) -> None:
    """Starts from what is left, and joins nothing."""
    assert running
    assert named(job, "left", "echo left >/left", image=IMAGE).code == 0
    assert named(job, "left:no_exec", "cat /left").output == "left\n"
    ended = named(job, "live:no_exec", "true")
    assert 'the container "live" runs, and what it has can be used by one alone' in ended.errors
    ended = named(job, "nobody:no_exec", "true", image=IMAGE)
    assert 'there is no container "nobody" on this node' in ended.errors


def test_exec(job: Allocation, running: str) -> None:
    """Joins what runs, by its name or its step's number, and refuses where nothing does."""
    assert running
    for name in ("live:exec", "live:auto", "live"):
        ended = named(job, name, "cat /live")
        assert ended.output == "live\n", ended.errors
    ended = named(job, "live:create", "true", image=IMAGE)
    assert 'a container "live" runs on this node already' in ended.errors
    ended = named(job, "nobody:exec", "true")
    assert 'no container "nobody" of yours runs on this node' in ended.errors


def test_what_joins_has_the_environment_of_the_image(job: Allocation, running: str) -> None:
    """As a task of the step that started it; the job's own variables stay."""
    script = "echo $APPTAINER_CONTAINER $SLURM_STEP_ID; readlink /proc/self/ns/mnt; cat /mounts"
    image, step, mounts, theirs = named(job, "live", script).output.split()
    assert image.endswith("image.sif")
    assert step != running.partition(".")[2]
    assert mounts == theirs


def test_an_unnamed_one_is_joined_by_its_step(job: Allocation) -> None:
    """And is gone when its step is."""
    step = job.start("sh", "-c", "echo $SLURM_STEP_ID; sleep 60")
    assert step.stdout is not None
    number = f"{job.job}.{step.stdout.readline().strip()}"
    ended = named(job, number, "test -e /.singularity.d && echo inside")
    assert ended.output == "inside\n", ended.errors
    job.cluster.run("scancel", number)
    step.wait(timeout=60)
    ended = named(job, number, "true")
    assert f'no container "{number}" of yours runs on this node' in ended.errors
    assert number not in job.on_node(f"ls {RUNNING}")


def test_another_image(job: Allocation, running: str) -> None:
    """Is refused with both, whether the container runs or is kept."""
    assert running
    assert named(job, "of", "true", image=IMAGE).code == 0
    for name in ("of", "live"):
        ended = named(job, name, "true", image=OTHER)
        assert ended.code == 125
        assert f'the container of that name is of "{IMAGE}", not of "{OTHER}"' in ended.errors


def test_options_that_change_nothing(job: Allocation, running: str) -> None:
    """Whoever joins is told that mounts of their own do not come in."""
    assert running
    ended = named(job, "live", "ls -d /mine", "--container-mounts=/etc:/mine")
    assert "warning: --container-mounts changes nothing in a container that runs" in ended.errors
    assert "/mine: No such file" in ended.errors


def test_a_file_that_has_changed(job: Allocation) -> None:
    """What was written lies on the old one, and fits no other."""
    image = f"$(hpcimg run --dry-run {IMAGE} -- true | grep -o '/[^ ]*image.sif')"
    made = job.cluster.shell(f"hpcimg run {IMAGE} -- true; cp {image} ~/f.sif", node=job.node)
    assert made.returncode == 0, made.stderr
    assert named(job, "file", "echo x >/x", "--container-image=/home/alice/f.sif").code == 0
    assert named(job, "file", "cat /x").output == "x\n"
    job.cluster.shell("touch -d 2001-01-01 ~/f.sif")
    ended = named(job, "file", "cat /x")
    assert "the file has changed since the container was made of it" in ended.errors
    assert (ended.code, ended.output) == (125, "")


def test_two_at_once(job: Allocation) -> None:
    """Of two steps that start one of a name, the second joins the first; no layer is lost."""
    wait = "until [ $(ls /one | wc -l) = 2 ]; do sleep 0.1; done"
    script = f"mkdir -p /one; echo >/one/$SLURM_STEP_ID; {wait}; ls /one | wc -l"
    words = ("--container-name=both", "sh", "-c", script)
    steps = [job.start(*words) for _ in range(2)]
    assert [step.communicate(timeout=60)[0].strip() for step in steps] == ["2", "2"]


@pytest.mark.parametrize(
    "name", ["../up", "a/b", ".hidden", "-x", "a b", "a~b", "x:yes", "x:", "x" * 200]
)
def test_what_is_no_name(job: Allocation, name: str) -> None:
    """On the submit side, and again on the node, where anything may have been sent."""
    ended = job.step(f"--container-name={name}", "true", image=IMAGE)
    assert ended.code == 1
    assert "this is no name of a container:" in ended.errors
    forged = job.step(f"--export=ALL,SLURM_HPCIMG_NAME={name}", "true")
    assert (forged.code, forged.output) == (125, ""), forged
    assert "is no name of a container" in forged.errors


def test_forged_lists(job: Allocation) -> None:
    """Nobody is led into another's process: owner, process and start must all be right."""
    job.on_node(FORGED)
    try:
        for number in range(1, 8):
            ended = named(job, f"77.{number}", "id")
            assert (ended.code, ended.output) == (125, "")
            assert f'no container "77.{number}" of yours runs on this node' in ended.errors
    finally:
        job.on_node(f"kill $(cat /tmp/forged); rm -f {RUNNING}/1001~s~77.*")


def test_a_users_own_tricks(job: Allocation) -> None:
    """Links in the user's directory lead nowhere that the user could not go."""
    own = f"{KEPT}/1001/jobs/{job.job}"
    assert named(job, "tricks", "true", image=IMAGE).code == 0
    trick = f"cd {own}/tricks && rm -rf upper && ln -s /root upper"
    job.cluster.shell(trick, node=job.node)
    ended = named(job, "tricks", "echo x >/planted")
    assert ended.code != 0
    assert job.on_node("ls /root/planted 2>&1").startswith("ls: cannot access")
    job.cluster.shell(f"printf 'image=../x;id\\n' >{own}/tricks/about", node=job.node)
    ended = named(job, "tricks", "true")
    assert 'what the container "tricks" left is damaged' in ended.errors


def test_another_user(cluster: Cluster, job: Allocation, running: str) -> None:
    """Has names of their own, and joins nothing of others."""
    line = f"srun -w {job.node} --mem=100 --container-name="
    for name in ("live:exec", f"{running}:exec"):
        ended = cluster.shell(f"cd /tmp; {line}{name} id", user="bob")
        assert ended.stdout == ""
        assert f'no container "{name.partition(":")[0]}" of yours runs' in ended.stderr
    assert job.on_node(f"stat -c '%a %U %G' {RUNNING}") == "700 root root\n"


def test_the_job_ends(cluster: Cluster) -> None:
    """And with it what its containers kept, files that their owner could not enter included."""
    script = "mkdir -p /d/e; echo >/d/e/f; chmod 0 /d/e"
    line = f"srun -w bdw1 --mem=100 --container-image={IMAGE} --container-name=over"
    done = cluster.shell(f"{line} sh -c 'echo $SLURM_JOB_ID; {script}'")
    number = done.stdout.strip()
    assert number.isdigit(), done.stderr
    there = f"[ -e {KEPT}/1001/jobs/{number} ]"
    gone = f"for i in $(seq 100); do {there} || exit 0; sleep 0.1; done; exit 1"
    assert cluster.shell(gone, node="bdw1", user="root").returncode == 0
    assert cluster.shell(f"ls -A {KEPT}/1001", node="bdw1").stdout == "jobs\n"


def test_for_good(cluster: Cluster) -> None:
    """Where the site says so, a name outlives its job, and the next one has what it left."""
    line = "srun -w bdw1 --mem=100 --container-name=good"
    keep = "sed -i '$a containers: {keep: always}' /etc/hpcimg/settings.yaml"
    drop = "sed -i '/^containers:/d' /etc/hpcimg/settings.yaml"
    cluster.shell(keep, user="root")
    try:
        first = cluster.shell(f"{line} --container-image={IMAGE} sh -c 'echo good >/good'")
        assert first.returncode == 0, first.stderr
        again = cluster.shell(f"{line} cat /good")
        assert again.stdout == "good\n", again.stderr
    finally:
        cluster.shell(f"{drop}", user="root")
        cluster.shell(f"rm -rf {KEPT}/1001/always", node="bdw1", user="root")


def test_nothing_is_left(job: Allocation) -> None:
    """After all these steps the list is empty, and no process of theirs runs."""
    left = f"ls {RUNNING}; pgrep -a -u alice fuse; pgrep -a -u alice -f libexec/hpcimg"
    wait = f'for i in $(seq 100); do [ -z "$({left})" ] && break; sleep 0.1; done; {left}'
    assert job.on_node(wait) == ""


def test_the_build_for_another_platform_is_refused(job: Allocation, running: str) -> None:
    """Of one image there are several: what runs or is kept for one is not given for another."""
    assert running
    skylake = "--container-platform=linux/amd64:skylake"
    assert named(job, "built", "true", skylake, image=IMAGE).code == 0
    ended = named(job, "live", "echo ran", skylake, image=IMAGE)
    assert (ended.code, ended.output) == (125, "")
    assert 'has the build for "the node", not for "linux/amd64:skylake"' in ended.errors
    ended = named(job, "built", "echo ran", image=IMAGE)
    assert (ended.code, ended.output) == (125, "")
    assert 'has the build for "linux/amd64:skylake", not for "the node"' in ended.errors
    assert "cpu:skylake" in named(job, "built", "bench", skylake, image=IMAGE).output
    assert "cpu:skylake" in named(job, "built", "bench").output


def test_a_batch_script_needs_an_image_beside_a_name(cluster: Cluster) -> None:
    """By the name alone it would run on the host."""
    done = cluster.run("sbatch", "--container-name=mine", "--wrap=true")
    assert (done.returncode, done.stdout) == (1, "")
    assert "a container's name is for one command:" in done.stderr
