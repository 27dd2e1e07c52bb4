"""GPUs of other vendors than NVIDIA: the job's device files alone are in its container."""

from __future__ import annotations

import pytest
from gpus import OTHERS, SEEN, SRUN, TWO_MI250, TWO_PVC, lines, node_with

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("gpus", "own", "control"),
    [
        (TWO_MI250, ["dri/card1 dri/renderD128", "dri/card2 dri/renderD129"], "dri/card0 kfd"),
        (TWO_PVC, ["dri/renderD128", "dri/renderD129"], ""),
    ],
    ids=["amd", "intel"],
)
def test_other_vendors_gpus_are_the_jobs_alone(cluster, gpus, own, control):
    """AMD's by the kernel's topology, Intel's by the bus; a board's own graphics stay."""
    with node_with(cluster, gpus):
        seen = f"{SRUN} --gres=gpu:1 --container mpi sh -c \"{SEEN}; env | grep -E '{{}}='\""
        found = lines(
            cluster,
            f"{seen.format('ROCR_VISIBLE_DEVICES')}; {OTHERS} {seen.format('ZE_AFFINITY_MASK')};"
            f'{SRUN} --container mpi sh -c "{SEEN}"',
        )
    first, second = (" ".join(sorted(f"{one} {control}".split())) for one in own)
    alone = control.replace(" kfd", "")
    assert found == [first, "ROCR_VISIBLE_DEVICES=0", second, "ZE_AFFINITY_MASK=0", alone]
