"""Where a task starts, what it finds there, whose variables count, and which build it is in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Cluster
from launching import Allocation, allocate

pytestmark = pytest.mark.integration

IMAGE = "app"


@pytest.fixture(scope="module")
def job(cluster: Cluster) -> Iterator[Allocation]:
    """One job for all steps of this file."""
    yield from allocate(cluster)


def test_row_workdir(job: Allocation) -> None:
    """Exactly there; without it where the step was started, else where the image wants to."""
    ended = job.step("--container-workdir=/usr/bin", "pwd", image=IMAGE)
    assert ended.output == "/usr/bin\n", ended.errors
    ended = job.step("--chdir=/tmp", "pwd", image=IMAGE)
    assert ended.output == "/tmp\n", ended.errors
    ended = job.step("--chdir=/opt", "pwd", image=IMAGE)
    assert ended.output == "/app\n", ended.errors
    ended = job.step("--chdir=/opt", "pwd")
    assert ended.output == "/home/alice\n", ended.errors
    ended = job.step("-n2", "--container-workdir=/gone", "echo", "ran", image=IMAGE)
    assert (ended.code, ended.output) == (125, "")
    assert [line for line in ended.errors.splitlines() if line.startswith("hpcimg: ")] == [
        (
            f'hpcimg: bdw1: could not start "{IMAGE}": the container has no directory "/gone": '
            "No such file or directory"
        ),
        "hpcimg: bdw1: hint: name one that it has, or mount one there: --container-mounts",
    ]


def test_row_mount_home(job: Allocation) -> None:
    """Home is there unless somebody says no; the command line wins over the environment."""
    look = ["sh", "-c", "test -e /home/alice/.. && ls -d /home/alice/ 2>/dev/null; pwd"]
    given = "export HPCIMG_CONTAINER_MOUNT_HOME=no"
    ended = job.step("--container-mount-home", *look, image=IMAGE, environment=given)
    assert ended.output == "/home/alice/\n/home/alice\n", ended.errors
    ended = job.step("--no-container-mount-home", *look, image=IMAGE)
    assert ended.output == "/app\n", ended.errors
    ended = job.step(*look, image=IMAGE, environment=given)
    assert ended.output == "/app\n", ended.errors
    deep = "mkdir -p ~/deep"
    ended = job.step(
        "--no-container-mount-home",
        "--chdir=/home/alice/deep",
        *look,
        image=IMAGE,
        environment=deep,
    )
    assert ended.output.endswith("/home/alice/deep\n"), ended.errors


def test_row_env(job: Allocation) -> None:
    """A variable that both set is the image's, or the job's where it is named."""
    given = "export BENCH_MADE_FOR=job"
    script = ["sh", "-c", 'echo "$BENCH_MADE_FOR"']
    assert job.step(*script, environment=given).output == "cpu:broadwell\n"
    ended = job.step("--container-env=NONE,BENCH_MADE_FOR", *script, environment=given)
    assert ended.output == "job\n", ended.errors
    ended = job.step("--container-env=BENCH_MADE_FOR", *script)
    assert ended.output == "cpu:broadwell\n", ended.errors


def test_row_platform(job: Allocation) -> None:
    """The build for these words and not for the node, from then on from a ticket too."""
    for _ in range(2):
        ended = job.step("--container-platform=linux/amd64", "bench")
        assert "not optimized" in ended.output, ended.errors
        assert "cpu:broadwell" in job.step("bench").output
    ended = job.step("--container-platform=linux/arm64", "bench")
    assert (ended.code, ended.output) == (125, "")
    assert "is for linux/amd64 (this node is linux/arm64)" in ended.errors
    assert job.on_node(f"ls /run/hpcimg/tickets/{job.job} | grep -c linux+amd64$") == "1\n"


def test_the_prolog_fetches_the_platform(cluster: Cluster) -> None:
    """The ticket that the prolog leaves is for the build that the job asks for."""
    words = ["--container-platform=linux/amd64:broadwell", "--container-image=qnib/bench"]
    granted = cluster.run("salloc", "--no-shell", "-w", "zen1", "--mem=100", *words)
    job = granted.stderr.split("Granted job allocation ")[1].split()[0]
    ticket = f"/run/hpcimg/tickets/{job}/qnib+bench~none~1~~linux+amd64:broadwell"
    wait = f"for i in $(seq 300); do test -e {ticket} && break; sleep 0.1; done; cat {ticket}"
    left = cluster.shell(wait, node="zen1", user="root")
    cluster.run("scancel", job)
    assert "\nlabel=cpu:broadwell\n" in left.stdout, left
