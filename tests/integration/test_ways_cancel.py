"""A batch script whose image is not ready yet can be cancelled: nobody waits for it but Slurm."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Cluster
from launching import IMAGE, NODE
from mishaps import do, forget_images

pytestmark = pytest.mark.integration

_ENDED = """
for i in $(seq 300); do squeue -hj $id 2>/dev/null | grep -q . || break; sleep 0.1; done
echo "state $(squeue -hj $id -o %T 2>/dev/null)"
cat said"""


def cancelled(cluster: Cluster, waits: str) -> str:
    """What a job has said that was cancelled while that ran, and its state after 30 seconds."""
    submit = (
        f"id=$(sbatch --parsable -w {NODE} -o said --container-image={IMAGE} --wrap 'echo ran')"
    )
    seen = f"until srun -Q -w {NODE} pgrep -f '{waits}' >/dev/null; do sleep 0.1; done"
    done = cluster.shell(f"cd; rm -f said; {submit}; {seen}; scancel $id{_ENDED}")
    return done.stdout


@pytest.fixture
def silent_registry(cluster: Cluster) -> Iterator[None]:
    """A registry that takes connections and never answers."""
    forget_images(cluster)
    do(cluster, "pkill -STOP docker-registry")
    yield
    do(cluster, "pkill -CONT docker-registry")


def test_while_it_is_fetched(cluster: Cluster, silent_registry: None) -> None:
    """What fetches is ended, the script does not run, and the node is free again."""
    said = cancelled(cluster, "[m] hpcimg get")
    assert said.startswith("state \n"), said
    assert "ran" not in said
    assert do(cluster, "pgrep -f '[m] hpcimg get' || :", NODE) == ""
