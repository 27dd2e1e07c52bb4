"""The cluster in a folder as the tests see it: started once, left up for the next run."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

COMMAND = Path(__file__).resolve().parents[1] / "cluster" / "cluster"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known of the tests that run on the newest Slurm as well (tests/newest)."""
    config.addinivalue_line("markers", "newest: also on the newest Slurm (tests/newest)")


@dataclass(frozen=True)
class Cluster:
    """One cluster; ``folder`` names another one than the default."""

    folder: str = ""

    def verb(self, *words: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Run a verb of the cluster command and return how it ended."""
        environment = dict(os.environ)
        if self.folder:
            environment["HPCIMG_CLUSTER"] = self.folder
        return subprocess.run(
            [str(COMMAND), *words],
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
        )

    def run(
        self, *command: str, node: str = "login", user: str = "alice", timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a node as a user."""
        return self.verb("exec", "-n", node, "-u", user, "--", *command, timeout=timeout)

    def shell(
        self, script: str, node: str = "login", user: str = "alice", timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell script on a node as a user."""
        return self.run("bash", "-c", script, node=node, user=user, timeout=timeout)


def _started(cluster: Cluster) -> Cluster:
    if os.geteuid() != 0:
        pytest.skip("the cluster in a folder needs root")
    done = cluster.verb("up")
    assert done.returncode == 0, done.stderr
    return cluster


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The default cluster, up."""
    return _started(Cluster())


@pytest.fixture
def own_cluster(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory):
    """A second cluster beside the default one, for tests that end it."""
    own = Cluster(str(tmp_path_factory.mktemp("cluster")))
    yield own
    own.verb("down")
