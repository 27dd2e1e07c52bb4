"""What a store stands on, read from a mountinfo file; and how two tasks are started."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcimg.slurm import pair_argv, task_rank
from hpcimg.store.ground import mount_of

MOUNTS = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /srv rw,noexec,relatime shared:2 - nfs4 server:/srv rw,vers=4.2,local_lock=none
31 30 0:41 / /srv/hpc\040img rw,nosuid - lustre mds:/x rw,flock
32 30 0:42 / /srv/hpc\040img rw - lustre mds:/y rw,localflock
broken line
"""


@pytest.mark.parametrize(
    ("path", "kind", "option"),
    [
        ("/home", "ext4", "relatime"),
        ("/srv/store", "nfs4", "local_lock=none"),
        ("/srv2", "ext4", "rw"),
        ("/srv/hpc img/store", "lustre", "localflock"),
    ],
)
def test_the_last_of_the_longest_mounts_counts(path, kind, option):
    """Options of the mount and of the file system both count; spaces are unescaped."""
    found = mount_of(Path(path), MOUNTS)
    assert found.kind == kind
    assert option in found.options


def test_without_mounts_nothing_is_known():
    """An empty table is no mount."""
    assert mount_of(Path("/"), "") is None


def test_two_tasks_run_on_two_nodes():
    """These, or any of a partition; one name twice means one node."""
    start = ["srun", "--quiet"]
    two = ["--nodes=2", "--ntasks=2", "--ntasks-per-node=1"]
    assert pair_argv(["b", "a"], None, ["x"]) == [*start, *two, "--nodelist=a,b", "x"]
    assert pair_argv([], "p", ["x"]) == [*start, *two, "--partition", "p", "x"]
    one = ["--nodes=1", "--ntasks=2", "--ntasks-per-node=2"]
    assert pair_argv(["a", "a"], None, ["x"]) == [*start, *one, "--nodelist=a", "x"]


@pytest.mark.parametrize(("text", "rank"), [("1", 1), ("x", 0), (None, 0)])
def test_a_task_knows_its_number(text, rank):
    """Slurm numbers the tasks of a step."""
    assert task_rank({} if text is None else {"SLURM_PROCID": text}) == rank
