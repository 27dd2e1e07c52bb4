"""Slurm's commands inside a container: they work where the client is bound, or say why not."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import Cluster
from launching import IMAGE, NODE, Allocation, allocate
from mishaps import settings

pytestmark = pytest.mark.integration

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "ways.md"
CLIENT: list[str] = yaml.safe_load(PAGE.read_text("utf-8").split("```yaml")[1].split("```")[0])[
    "mounts"
]
"""What the page tells a site to bind. The image has no libc at all: all comes from the host."""
WHERE = "if test -e /.singularity.d; then echo inside; else echo host; fi"
SCRIPT = f"""#!/bin/sh
{WHERE}
srun bench
srun --container-image=none /bin/sh -c '{WHERE}'
srun --mpi=pmix --container mpi mpihello
LD_PRELOAD=/image/lib.so LD_LIBRARY_PATH=/image srun sh -c 'echo $LD_LIBRARY_PATH; exit 3'
echo $?
squeue -hs -o %j
"""
INSIDE = [
    "inside",
    ">> This container is optimized for: cpu:broadwell",
    "host",
    "rank 0 of 1 on bdw1, sum of ranks 0",
    "/.singularity.d/libs",
    f"srun: error: {NODE}: task 0: Exited with exit code 3",
    "3",
    "batch",
]


@pytest.fixture(scope="module")
def job(cluster: Cluster) -> Iterator[Allocation]:
    """One job for the steps of this file."""
    yield from allocate(cluster)


def batch(cluster: Cluster, script: str, *words: str) -> list[str]:
    """What a batch script prints that runs inside of the image."""
    write = f"cd; rm -f said; printf %s {shlex.quote(script)} >script"
    asked = shlex.join([f"--container-image={IMAGE}", *words])
    submit = f"id=$(sbatch --parsable -w {NODE} --mem=500 -o said {asked} script)"
    wait = 'until [ -z "$(squeue -hj $id)" ]; do sleep 0.1; done'
    done = cluster.shell(f"{write}; {submit}; {wait}; cat said")
    return done.stdout.splitlines() + done.stderr.splitlines()


def test_a_site_binds_the_client(cluster: Cluster) -> None:
    """A script inside starts steps: in its own image, in another, on the host."""
    with settings(cluster, mounts=CLIENT):
        assert batch(cluster, SCRIPT) == INSIDE


def test_a_user_binds_the_client(cluster: Cluster) -> None:
    """The same by the command line, which the script's own steps inherit."""
    assert batch(cluster, SCRIPT, f"--container-mounts={','.join(CLIENT)}") == INSIDE


def test_without_the_client_a_script_is_told(cluster: Cluster) -> None:
    """Two lines say what is missing and what to do, with the exit code of shells."""
    reason, hint, code = batch(cluster, "#!/bin/sh\nsrun bench\necho $?\n")
    assert reason == (
        'hpcimg: could not run "srun" in this container: the site binds no Slurm into it '
        "(/.hpcimg/usr)"
    )
    assert hint.startswith("hpcimg: hint: have the script run on the host, with --container=NAME")
    assert code == "127"


@pytest.mark.parametrize(
    ("bound", "missing"),
    [
        pytest.param("/var:/.hpcimg/usr", "has no ld-linux-x86-64.so.2", id="another folder"),
        pytest.param("/usr/lib:/.hpcimg/usr/lib", "does not have it", id="libraries alone"),
    ],
)
def test_what_is_missing_is_named(cluster: Cluster, bound: str, missing: str) -> None:
    """A site that binds half of the client reads which half it is."""
    said = batch(cluster, "#!/bin/sh\nsrun bench\n", f"--container-mounts={bound}")
    assert said[0].endswith(f"what is bound at /.hpcimg/usr {missing}"), said


def test_no_promise_where_it_does_not_work(job: Allocation) -> None:
    """Programs look for an srun: a task finds none in its PATH where none would work."""
    ended = job.step("sh", "-c", "which srun; srun true")
    assert (ended.code, ended.output) == (127, ""), ended
    assert "srun: not found" in ended.errors


def test_a_step_finds_the_client_too(job: Allocation) -> None:
    """Where it is bound, a task starts steps as a script does."""
    bound = f"--container-mounts={','.join(CLIENT)}"
    ended = job.step(bound, "sh", "-c", "which srun; srun --overlap bench")
    assert ended.output.splitlines() == ["/.hpcimg/bin/srun", INSIDE[1]], ended.errors


def test_an_image_keeps_its_own(job: Allocation) -> None:
    """An srun that is in the PATH of the image goes before ours."""
    bound = f"--container-mounts={','.join(CLIENT)},/bin/echo:/usr/local/bin/srun"
    ended = job.step(bound, "sh", "-c", "which srun")
    assert ended.output == "/usr/local/bin/srun\n", ended.errors
