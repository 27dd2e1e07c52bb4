"""What is left of a step's container when it ends: by itself, by force, or half way."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from conftest import COMMAND, Cluster
from launching import IMAGE, NODE, Allocation, allocate, build_probe
from mishaps import do

pytestmark = pytest.mark.integration

KEEPERS = "[h]pcimg-holder|[s]tarter|[A]pptainer|[s]quashfuse|[s]lurmstepd"


@pytest.fixture(scope="module")
def probe(cluster: Cluster) -> None:
    """The program that the steps run."""
    build_probe(cluster)


@pytest.fixture
def job(cluster: Cluster, probe: None) -> Iterator[Allocation]:
    """A job of each test's own."""
    yield from allocate(cluster)
    do(cluster, "pkill -9 -u alice probe || :", NODE)


def wait_until_gone(job: Allocation, pattern: str = KEEPERS) -> str:
    """What still runs of these after ten seconds, normally nothing and at once."""
    wait = f"for i in $(seq 100); do pgrep -f '{pattern}' >/dev/null || exit 0; sleep 0.1; done"
    return job.on_node(f"{wait}; pgrep -fa '{pattern}'")


def mounts(job: Allocation) -> str:
    """The node's own mount table."""
    return job.on_node("cat /proc/1/mounts")


def started(job: Allocation, *words: str, image: str | None = IMAGE) -> subprocess.Popen[str]:
    """A step whose program has said that it runs."""
    step = job.start(*words, image=image)
    assert step.stdout is not None
    line = step.stdout.readline()
    assert line == "ready\n", line
    return step


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["ready"], id="normal"),
        pytest.param(["ready", "crash"], id="crash"),
        pytest.param(["ready", "fork"], id="a grandchild stays"),
    ],
)
@pytest.mark.newest
def test_nothing_is_left_after_the_end(job: Allocation, words: list[str]) -> None:
    """When the last task has ended, no process and no mount of the container is there."""
    before = mounts(job)
    step = started(job, "./probe", *words)
    step.communicate(timeout=60)
    assert wait_until_gone(job) == ""
    assert wait_until_gone(job, "[.]/probe") == ""
    assert mounts(job) == before


@pytest.mark.newest
def test_nothing_is_left_after_scancel(job: Allocation) -> None:
    """A cancelled job takes its container with it, and its tickets."""
    before = mounts(job)
    step = started(job, "./probe", "ready", "sleep")
    assert job.on_node(f"ls /run/hpcimg/tickets/{job.job}").startswith("qnib+bench~none")
    assert job.cluster.run("scancel", job.job).returncode == 0
    step.communicate(timeout=60)
    assert wait_until_gone(job) == ""
    assert mounts(job) == before
    gone = (
        f"for i in $(seq 100); do [ -e /run/hpcimg/tickets/{job.job} ] || exit 0; sleep 0.1; done"
    )
    assert job.on_node(f"{gone}; ls /run/hpcimg/tickets") == ""


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["ready", "sleep"], id="sleeping"),
        pytest.param(["ready", "spin"], id="busy"),
        pytest.param(["ready", "fork", "sleep"], id="forked twice"),
    ],
)
def test_killed_slurmstepd(job: Allocation, words: list[str]) -> None:
    """After kill -9 of slurmstepd nothing of ours is left, and tasks only as a bare step's are."""
    before = mounts(job)
    left = {}
    for image in (None, IMAGE):
        step = started(job, "./probe", *words, image=image)
        job.on_node(f"pkill -9 -f '[s]lurmstepd: .{job.job}[.][0-9]'")
        assert wait_until_gone(job) == ""
        left[image] = job.on_node("pgrep -fc '[.]/probe'").strip()
        job.on_node("pkill -9 -u alice probe")
        step.kill()
        step.wait()  # and not for srun, which waits some seconds for a slurmstepd that is gone
        assert wait_until_gone(job, "[.]/probe") == ""
    assert int(left[IMAGE]) <= int(left[None])
    assert mounts(job) == before


def test_killed_keepers(job: Allocation) -> None:
    """A user who kills the holder harms that step alone: nothing stays behind."""
    step = started(job, "./probe", "ready", "sleep")
    job.on_node("pkill -9 -f '[h]pcimg-holder'")
    job.on_node("pkill -9 -u alice probe")
    step.communicate(timeout=60)
    assert wait_until_gone(job) == ""
    again = job.step("bench")
    assert "cpu:broadwell" in again.output, again.errors


@pytest.fixture
def silent_registry(cluster: Cluster) -> Iterator[None]:
    """A registry that takes connections and never answers."""
    do(cluster, "pkill -STOP docker-registry")
    yield
    do(cluster, "pkill -CONT docker-registry")


def test_cancelled_while_fetching(job: Allocation, silent_registry: None) -> None:
    """A job can be cancelled while its image is fetched; what fetches ends with the step."""
    fetching = "[m] hpcimg get"
    command = [str(COMMAND), "exec", "--", *job.command("./probe", "ready", image=IMAGE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as step:
        wait = f"for i in $(seq 100); do pgrep -f '{fetching}' && exit; sleep 0.1; done"
        assert job.on_node(wait)
        assert job.cluster.run("scancel", job.job).returncode == 0
        output = step.communicate(timeout=60)[0]
    assert b"ready" not in output
    assert wait_until_gone(job, fetching) == ""
    assert wait_until_gone(job) == ""


def test_fetch_ends_with_slurmstepd(job: Allocation, silent_registry: None) -> None:
    """After kill -9 of slurmstepd no process goes on fetching."""
    fetching = "[m] hpcimg get"
    step = job.start("./probe", "ready")
    wait = f"for i in $(seq 100); do pgrep -f '{fetching}' && exit; sleep 0.1; done"
    assert job.on_node(wait)
    job.on_node(f"pkill -9 -f '[s]lurmstepd: .{job.job}[.][0-9]'")
    assert wait_until_gone(job, fetching) == ""
    step.kill()
    step.wait()
