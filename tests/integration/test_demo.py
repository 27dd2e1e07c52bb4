"""The demo's screen: what a new user sees is what the announcement promises."""

from __future__ import annotations

import subprocess

import pytest
from conftest import COMMAND, Cluster

pytestmark = pytest.mark.integration

SCREEN = """\
bdw1 >> This container is optimized for: cpu:broadwell
skx1 >> This container is optimized for: cpu:skylake
zen1 >> This container is not optimized for a specific microarchitecture
"""


def test_demo_shows_the_right_build_on_every_node(cluster: Cluster) -> None:
    """Each node runs its own build of one name, and `explain` tells why."""
    done = subprocess.run(
        [str(COMMAND.with_name("demo"))], check=False, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    assert f'"$SLURMD_NODENAME $(bench)"\'\n{SCREEN}$ srun -w gpu1' in done.stdout
    assert "\ngpu1 >> This container is optimized for: cpu:broadwell,nvcap:5.2\n" in done.stdout
    assert "$ hpcimg explain qnib/bench" in done.stdout
    assert "needs cpu:skylake" in done.stdout
