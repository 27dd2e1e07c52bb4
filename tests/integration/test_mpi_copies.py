"""Ranks of a node copy straight from each other's memory in the shared container, and only there.

What is counted are the kernel's calls for it, made by the image's own MPI: no time is taken. Such
a call succeeds only where the kernel would let one rank trace the other.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from conftest import Cluster

pytestmark = pytest.mark.integration

# In one round after the first two ranks send each other 40 messages of 4 MiB each.
ENOUGH = 40
_COUNTER = Path(__file__).with_name("count_copies.c")


@pytest.fixture(scope="module")
def counter(cluster: Cluster) -> str:
    """The counter's library in alice's home, which every step sees."""
    source = shlex.quote(_COUNTER.read_text("utf-8"))
    made = cluster.shell(f"printf %s {source} | gcc -shared -fPIC -O1 -x c -o ~/copies.so -")
    assert made.returncode == 0, made.stderr
    return "/home/alice/copies.so"


def copies(cluster: Cluster, step: str) -> list[int]:
    """How often each of two ranks copied from or into the other's memory, where it did."""
    done = cluster.shell(f"cd ~; timeout 60 srun -w bdw1 -n2 {step}")
    assert "GB/s" in done.stdout, done.stderr
    return [int(number) for number in re.findall(r"^copies: (\d+)$", done.stderr, re.MULTILINE)]


@pytest.mark.parametrize(("image", "word"), [("mpi", "pmix"), ("mpich", "pmi2")])
def test_ranks_in_the_shared_container_copy_from_memory_to_memory(cluster, counter, image, word):
    """Each big message is one copy by the kernel, without a buffer between."""
    program = f"env LD_PRELOAD={counter} pingpong 1"
    counted = copies(cluster, f"--mpi={word} --container={image} {program}")
    assert len(counted) == 2
    assert min(counted) >= ENOUGH


@pytest.mark.parametrize(("image", "word"), [("mpi", "pmix"), ("mpich", "pmi2")])
def test_ranks_in_containers_of_their_own_do_not(cluster, counter, image, word):
    """With one `apptainer exec` for each rank the same image copies nothing: the check can fail."""
    found = cluster.run("hpcimg", "run", "--dry-run", image, "true").stdout
    sif = next(one for one in found.split() if one.endswith(".sif"))
    program = f"env LD_PRELOAD={counter} pingpong 1"
    assert copies(cluster, f"--mpi={word} apptainer -q exec --userns {sif} {program}") == []
