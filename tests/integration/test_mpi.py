"""MPI of an image under Slurm: what works without a container works in one."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import pytest
from conftest import Cluster

pytestmark = pytest.mark.integration

RANK = re.compile(r"^rank (\d+) of (\d+) on (\S+), sum of ranks (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Mpi:
    """An image, the word for `--mpi` that wires its MPI up, the same program on the bare host.

    Open MPI 5.0.7 may crash in MPI_Init where ranks of several nodes do not start at once, on the
    bare host as often as here: a message comes before what it is for. `tries` is for that.
    """

    image: str
    word: str
    bare: str
    tries: int = 1


OPEN_MPI = Mpi("mpi", "pmix", "mpihello", tries=6)
MPICH = Mpi("mpich", "pmi2", "/usr/local/lib/cluster/mpich/mpihello")
both = pytest.mark.parametrize("mpi", [OPEN_MPI, MPICH], ids=["pmix", "pmi2"])


def ranks(said: str) -> list[tuple[int, int, str, int]]:
    """What the ranks said: number, how many, node, sum of all numbers."""
    found = RANK.findall(said)
    return sorted((int(rank), int(size), node, int(sum_)) for rank, size, node, sum_ in found)


def started(
    cluster: Cluster, mpi: Mpi, options: str
) -> tuple[list[tuple[int, int, str, int]], ...]:
    """The ranks of a program on the bare host, and of the same in the image, with these options."""
    tries = f'for try in $(seq {mpi.tries}); do said=$("$@") && break; done'
    again = f'again() {{ {tries}; echo "$said"; }}'
    srun = f"again timeout 60 srun --mpi={mpi.word}"
    words = " : ".join(
        f"{part} --container-image={mpi.image} mpihello" for part in options.split(" : ")
    )
    bare = " : ".join(f"{part} {mpi.bare}" for part in options.split(" : "))
    done = cluster.shell(f"{again}; {srun} {bare}; echo ---; {srun} {words}")
    assert done.returncode == 0, done.stderr
    before, _, after = done.stdout.partition("---\n")
    return ranks(before), ranks(after)


@both
@pytest.mark.parametrize(
    ("options", "nodes", "size"),
    [
        pytest.param("-w bdw1 -N1 -n2", {"bdw1": 2}, 2, id="one-node"),
        pytest.param("-w bdw1,skx1 -N2 -n4", {"bdw1": 2, "skx1": 2}, 4, id="two-nodes"),
        pytest.param("-N4 -n8", {"bdw1": 2, "skx1": 2, "zen1": 2, "gpu1": 2}, 8, id="four-nodes"),
        pytest.param("-w bdw1 -n2 : -w skx1 -n1", {"bdw1": 2, "skx1": 1}, 3, id="heterogeneous"),
    ],
)
def test_ranks_find_each_other_as_on_the_host(cluster, mpi, options, nodes, size):
    """All ranks of a step are one world, on the same nodes as without a container."""
    bare, ours = started(cluster, mpi, options)
    assert Counter(node for _, _, node, _ in ours) == nodes
    assert [(rank, of, sum_) for rank, of, _, sum_ in ours] == [
        (rank, size, size * (size - 1) // 2) for rank in range(size)
    ]
    assert ours == bare


@both
def test_more_ranks_than_processors_share_a_node(cluster, mpi):
    """Eight ranks on a node of two processors are one world too."""
    bare, ours = started(cluster, mpi, "-w zen1 --overcommit -N1 -n8")
    assert ours == bare == [(rank, 8, "zen1", 28) for rank in range(8)]


def test_without_wiring_each_rank_is_alone(cluster):
    """`--mpi=none` starts programs that know nothing of each other, as it does on the host."""
    for mpi in (OPEN_MPI, MPICH):
        none = Mpi(mpi.image, "none", mpi.bare)
        bare, ours = started(cluster, none, "-w bdw1 -N1 -n2")
        assert ours == bare == [(0, 1, "bdw1", 0)] * 2


@pytest.mark.parametrize(
    ("image", "launcher"),
    [
        pytest.param("mpi", "env -u SLURM_JOBID mpirun --oversubscribe -n 3", id="mpirun"),
        pytest.param("mpich", "mpiexec -launcher fork -n 3", id="mpiexec"),
    ],
)
def test_the_images_own_launcher_works_inside_one_node(cluster, image, launcher):
    """`--mpi=none` and one task: the image's launcher starts ranks beside itself."""
    srun = "timeout 60 srun --mpi=none -w bdw1 -n1"
    done = cluster.shell(f"{srun} --container={image} {launcher} mpihello")
    assert ranks(done.stdout) == [(rank, 3, "bdw1", 3) for rank in range(3)], done.stderr
