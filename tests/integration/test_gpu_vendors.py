"""Other vendors' GPUs, and slices of NVIDIA's: a container has the job's device files alone."""

from __future__ import annotations

import re

import mishaps
import pytest
from gpus import (
    A100_IN_TWO,
    FOUR_M60,
    OTHERS,
    SEEN,
    SRUN,
    TWO_MI250,
    TWO_PVC,
    denied_to_others,
    lines,
    node_with,
)

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


def test_a_slice_brings_its_own_capabilities(cluster):
    """A MIG slice by the UUID that Slurm tells programs; by a number alone it is not clear which.

    Slurm has the UUIDs of NVML, for which Debian's is not built: the task is told here.
    """
    run = "sh -c \"ls /dev/nvidia-caps | sort -V | tr '\\n' ' '; echo; ls /dev/nvidia[0-9]\""
    told = "env CUDA_VISIBLE_DEVICES=MIG-00000000-0000-0000-0002-000000000000"
    with node_with(cluster, A100_IN_TWO):
        found = lines(
            cluster,
            f"{SRUN} --gres=gpu:1 {told} hpcimg run mpi -- {run};"
            f"{SRUN} --gres=gpu:1 --container mpi {run};"
            f"{SRUN} --container mpi ls -A /dev/nvidia-caps",
        )
    caps = [f"nvidia-cap{number}" for number in (2, 12, 13, 21, 22)]
    assert found == [
        " ".join(one for one in caps if one not in caps[1:3]),
        "/dev/nvidia0",
        " ".join(caps),
        "/dev/nvidia0",
    ]


def test_numbers_stay_where_a_control_group_denies_the_others(cluster):
    """Slurm counts from 0 there, and so does the container."""
    conf = mishaps.do(cluster, "cat /etc/slurm/cgroup.conf 2>/dev/null || true")
    if not re.search("^CgroupPlugin=cgroup", conf, re.MULTILINE):
        pytest.skip("Slurm has no control groups on this machine")
    task = f'sh -c "{SEEN}; echo \\$CUDA_VISIBLE_DEVICES of \\$SLURM_STEP_GPUS"'
    with node_with(cluster, FOUR_M60), denied_to_others(cluster):
        found = lines(
            cluster,
            f"{OTHERS} {SRUN} --gres=gpu:2 --container mpi {task};"
            f"{SRUN} --gres=gpu:2 hpcimg run mpi -- {task}",
        )
    assert found == ["nvidia1 nvidia2 nvidiactl", "0,1 of 1,2"] * 2
