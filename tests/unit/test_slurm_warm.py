"""What `cache warm` asks of Slurm: which nodes are free, and the smallest job on one of them."""

from __future__ import annotations

import pytest

from hpcimg.slurm import UsableNode, parse_usable, warm_argv, warm_environment

STATES = """\
bdw1 alloc 64000
bdw2 idle 64000
bdw2 idle 64000
bdw3 mix 64000
bdw4 down* 64000
bdw5 idle* 64000
bdw6 drain 64000
bdw7 drng 64000
bdw8 idle~ 1
bdw9 comp 64000
bdw12 plnd 64000
bdw10 resv 64000
bdw11 maint 64000
"""


def test_the_freest_node_comes_first():
    """Each node once; those that take no jobs not at all; one that sleeps after one that waits."""
    assert [node.name for node in parse_usable(STATES)] == [
        "bdw2",
        "bdw8",
        "bdw3",
        "bdw12",
        "bdw9",
        "bdw1",
    ]


def test_a_job_as_small_as_it_can_be():
    """One task, bounded memory and wait, on the node, in the partition."""
    argv = warm_argv(UsableNode("bdw2", 0, 64000), "tool:1", partition="debug", wait=300)
    assert argv == [
        "srun",
        "--quiet",
        "--quit-on-interrupt",
        "--job-name=hpcimg-warm",
        "--nodes=1",
        "--ntasks=1",
        "--nodelist=bdw2",
        "--immediate=300",
        "--partition=debug",
        "--mem=2048M",
        "--container-image=tool:1",
        "true",
    ]


@pytest.mark.parametrize("memory", [1, 0, 2048])
def test_no_memory_is_asked_where_slurm_knows_of_none(memory):
    """A site that does not tell Slurm its memory would refuse the job."""
    argv = warm_argv(UsableNode("bdw2", 0, memory), "tool", partition="", wait=5)
    assert not [word for word in argv if word.startswith(("--mem", "--partition"))]


def test_it_is_a_job_of_its_own_also_inside_of_one():
    """What Slurm told the outer job would make it a step; a user's wishes count outside of one."""
    given = {
        "PATH": "/bin",
        "SLURM_CONF": "/etc/slurm/slurm.conf",
        "SLURM_ACCOUNT": "physics",
        "SLURM_TIMELIMIT": "10",
        "SRUN_CONTAINER": "other",
        "SLURM_CONTAINER": "other",
        "HPCIMG_CONTAINER_MATCH": "uniform-or-fail",
        "SLURM_HPCIMG_MATCH": "uniform",
    }
    outside = {"SLURM_HPCIMG_REPORTS", "PATH", "SLURM_CONF", "SLURM_ACCOUNT", "SLURM_TIMELIMIT"}
    assert set(warm_environment(given)) == outside
    inside = warm_environment({**given, "SLURM_JOB_ID": "7", "SLURM_NNODES": "4"})
    assert inside == {
        "PATH": "/bin",
        "SLURM_CONF": "/etc/slurm/slurm.conf",
        "SLURM_TIMELIMIT": "60",
        "SLURM_HPCIMG_REPORTS": "1",
    }
    assert warm_environment({})["SLURM_TIMELIMIT"] == "60"
    assert warm_environment(given)["SLURM_TIMELIMIT"] == "10"
