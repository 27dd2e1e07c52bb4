"""The job scripts of examples/slurm, submitted as a user submits them."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from conftest import COMMAND, Cluster

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "slurm"


@pytest.fixture(scope="module")
def job(cluster: Cluster, tmp_path_factory):
    """Submit a script of the examples, wait for its end and give what it wrote."""
    folder = f"examples-{tmp_path_factory.mktemp('x').parent.name}"
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as files:
        for path in sorted(EXAMPLES.glob("*.sh")):
            files.add(path, path.name)
    unpack = f"rm -rf {folder} && mkdir {folder} && tar -x --no-same-owner -C {folder}"
    subprocess.run(
        [str(COMMAND), "exec", "--", "sh", "-c", unpack], input=archive.getvalue(), check=True
    )

    def submit(name: str) -> list[str]:
        done = cluster.shell(
            f"cd {folder} && sbatch --wait {name}.sh; code=$?; cat {name}.out; exit $code"
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.startswith("Submitted batch job"), done.stdout
        return done.stdout.splitlines()[1:]

    yield submit
    cluster.run("rm", "-rf", folder)


def test_three_steps_run_in_three_images(job):
    """Each step of a batch job runs in the image that it names, each node in its own build."""
    lines = job("three-steps")
    said = {line for line in lines if line.startswith(">>")}
    assert [line for line in lines if line.endswith(":")] == ["prepare:", "compute:", "combine:"]
    assert lines[1] == ">> This container is not optimized for a specific microarchitecture"
    assert any("optimized for: cpu:" in line for line in said), lines
    assert sum("of 2 on" in line for line in lines) == 2, lines


def test_mpi_job_spans_two_nodes(job):
    """The steps inherit the job's image, and PMIx wires up ranks of two nodes in it."""
    lines = job("mpi")
    nodes = {line.split(" on ")[1].split(",")[0] for line in lines}
    assert len(lines) == 2, lines
    assert len(nodes) == 2, lines


def test_gpu_job_gets_the_gpus_build(job):
    """A job with a GPU runs the build for that GPU and the node's processor."""
    assert job("gpu") == [">> This container is optimized for: cpu:broadwell,nvcap:5.2"]


def test_unit_file_is_valid():
    """Systemd has nothing against the unit but that this machine has no hpcimg installed."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on this machine")
    command = ["systemd-analyze", "verify", "--man=no", EXAMPLES / "hpcimg-node.service"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    said = (done.stdout + done.stderr).splitlines()
    assert [line for line in said if "/usr/local/bin/hpcimg is not executable" not in line] == []


def test_settings_are_valid():
    """The example settings are read without an error and name the store's account."""
    from hpcimg.settings import parse_settings

    settings = parse_settings((EXAMPLES / "settings.yaml").read_text("utf-8"))
    assert settings.default_registry in settings.registries
    assert settings.store.account == "hpcimg"
