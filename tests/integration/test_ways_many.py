"""Many steps, one after another and at once, leave nothing behind; plain steps cost nothing."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Cluster
from launching import IMAGE, NODE, Allocation, allocate
from mishaps import do

pytestmark = pytest.mark.integration

_REMAINS = Path(__file__).with_name("remains.sh").read_text("utf-8")
_OPENS = Path(__file__).with_name("opens.py").read_text("utf-8")
AFTER_ANOTHER, AT_ONCE = 100, 20


@pytest.fixture(scope="module")
def job(cluster: Cluster) -> Iterator[Allocation]:
    """One job for all steps of this file."""
    yield from allocate(cluster)


def remains(job: Allocation, ended: str = "") -> list[str]:
    """What is on the job's node once its steps have ended."""
    gone = f"for i in $(seq 100); do pgrep -f '[s]lurmstepd: .{job.job}' || break; sleep 0.1; done"
    return do(job.cluster, f"{ended}{gone} >/dev/null\nset -- {job.job}\n{_REMAINS}", NODE).split(
        "\n"
    )


def test_nothing_is_left_of_many_steps(job: Allocation) -> None:
    """A hundred steps one after another and twenty at once: the node is as it was after the first.

    Processes, mounts, files, loop devices, control groups, leases, slurmd's open files.
    """
    step = shlex.join(job.command("true", image=IMAGE))
    assert job.step("true").code == 0
    before = remains(job)
    assert any(line.startswith("mount ") for line in before)
    loop = f"for i in $(seq {AFTER_ANOTHER}); do {step} || echo failed; done"
    crowd = f"for i in $(seq {AT_ONCE}); do ({step} || echo failed) & done; wait"
    done = job.cluster.shell(f"{loop}\n{crowd}", timeout=300)
    assert (done.stdout, done.stderr) == ("", "")
    assert sorted(remains(job)) == sorted(before)


def opened(job: Allocation, image: str | None) -> set[str]:
    """What of ours is opened on the node while two steps run there."""
    step = shlex.join(job.command("true", image=image))
    run = f"runuser -u alice -- sh -c {shlex.quote(f'{step} && {step}')}"
    return set(do(job.cluster, f"python3 - {run} <<'END'\n{_OPENS}\nEND", NODE).split())


def test_a_step_without_an_image_touches_nothing(job: Allocation) -> None:
    """Beside the plugin, which Slurm loads, no file of ours is opened: nothing was started."""
    plugin = "/usr/local/lib/hpcimg/hpcimg.so"
    assert "/usr/local/libexec/hpcimg/joiner" in opened(job, IMAGE)
    assert opened(job, None) == {plugin}
