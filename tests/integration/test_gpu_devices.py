"""What a container sees of its node's GPUs: the job's and no others, and the driver's libraries."""

from __future__ import annotations

from pathlib import Path

import mishaps
import pytest
from gpus import FOUR_M60, NODE, OTHERS, SEEN, SRUN, lines, node_with

pytestmark = pytest.mark.integration

SOURCE = Path(__file__).with_name("cuda_hello.c")


@pytest.fixture(scope="module")
def program(cluster):
    """Compile the user's program on the login node; homes are the same everywhere."""
    done = cluster.shell(
        f"cat >cuda_hello.c <<'END'\n{SOURCE.read_text()}END\ngcc -o cuda_hello cuda_hello.c && pwd"
    )
    assert done.returncode == 0, done.stderr
    yield f"{done.stdout.strip()}/cuda_hello"
    cluster.shell("rm -f cuda_hello cuda_hello.c")


@pytest.fixture(scope="module")
def m60s(cluster):
    """Let gpu1 have four GPUs of NVIDIA's."""
    with node_with(cluster, FOUR_M60):
        yield


@pytest.mark.usefixtures("m60s")
def test_a_job_sees_its_gpu_and_the_drivers_libraries(cluster, program):
    """One of four: its device file, the control device, and a program finds the host's driver."""
    found = lines(cluster, f'{SRUN} --gres=gpu:1 --container mpi sh -c "{SEEN}; {program}"')
    assert found == ["nvidia0 nvidiactl", "cuda 9020, code 0: nvidia0"]


@pytest.mark.usefixtures("m60s")
def test_a_job_without_gpus_sees_none(cluster, program):
    """Whatever its environment says; nor does who has some and asks for none."""
    task = f'sh -c "{SEEN}; {program} || true"'
    found = lines(
        cluster,
        f"export NVIDIA_VISIBLE_DEVICES=all CUDA_VISIBLE_DEVICES=0; {SRUN} --container mpi {task};"
        f"NVIDIA_VISIBLE_DEVICES=void {SRUN} --gres=gpu:1 --container mpi {task}",
    )
    assert [found[0], found[2]] == ["", ""]
    assert all(line.startswith("no driver: libcuda.so.1: cannot open") for line in found[1::2])


@pytest.mark.usefixtures("m60s")
def test_the_rest_of_dev_stays(cluster):
    """Shared memory, terminals, FUSE and the links to a task's own streams."""
    script = (
        "echo a >/dev/shm/$SLURM_JOB_ID; cat /dev/shm/$SLURM_JOB_ID; rm /dev/shm/$SLURM_JOB_ID;"
        "echo b | cat /dev/stdin; readlink /dev/fd; echo c >/dev/null; test -c /dev/fuse;"
        "test -c /dev/ptmx; head -c 1 /dev/urandom >/dev/null; touch /dev/new 2>/dev/null || echo d"
    )
    found = lines(cluster, f"{SRUN} --container mpi sh -ec '{script}'")
    assert found == ["a", "b", "/proc/self/fd", "d"]


@pytest.mark.usefixtures("m60s")
def test_slurms_numbers_mean_the_gpus_that_are_seen(cluster, program):
    """GPUs 1 and 2 of the node are a job's 0 and 1, in all tasks or one for each."""
    task = f'sh -c "{SEEN}; echo \\$CUDA_VISIBLE_DEVICES \\$ROCR_VISIBLE_DEVICES; {program}"'
    found = lines(
        cluster,
        f"{OTHERS} {SRUN} --gres=gpu:2 --container mpi {task};"
        f"{SRUN} --gres=gpu:2 hpcimg run mpi -- {task};"
        f"{SRUN} -n2 -O -l --gres=gpu:2 --gpu-bind=single:1 --container mpi {task} | sort",
    )
    for seen in (found[:3], found[3:6]):
        assert sorted(seen) == sorted(
            ["nvidia1 nvidia2 nvidiactl", "0,1 0,1", "cuda 9020, code 0: nvidia1 nvidia2"]
        )
    assert found[6:] == sorted(
        f"{task}: {text}"
        for task in (0, 1)
        for text in (
            "nvidia1 nvidia2 nvidiactl",
            f"{task} {task}",
            f"cuda 9020, code 0: nvidia{task + 1}",
        )
    )


@pytest.mark.usefixtures("m60s")
def test_steps_of_one_job_see_each_its_own(cluster, program):
    """Two steps at once with one GPU each, and one with both."""
    step = f"srun -n1 -O --overlap --exact --gres=gpu:1 --container mpi {program}"
    steps = f"{step} & {step} & wait; srun --overlap --gres=gpu:2 --container mpi {program}"
    found = lines(cluster, f"salloc -Q -w {NODE} --mem=100 --gres=gpu:2 bash -c '{steps}'")
    assert found[2] == "cuda 9020, code 0: nvidia0 nvidia1"
    assert all(line.count("nvidia") == 1 for line in found[:2])


@pytest.mark.usefixtures("m60s")
def test_a_missing_driver_is_an_error(cluster):
    """A job with a GPU whose driver's libraries the node lacks does not run without them."""
    library = "/usr/lib/x86_64-linux-gnu/libcuda.so.396.44"
    mishaps.do(cluster, f"mv {library} /root; ldconfig", NODE)
    try:
        done = cluster.shell(
            f"{SRUN} --gres=gpu:1 --container mpi true; {SRUN} --container mpi true"
        )
    finally:
        mishaps.do(cluster, f"mv /root/libcuda.so.396.44 {library}; ldconfig", NODE)
    assert done.returncode == 0, done.stderr
    assert (
        f"hpcimg: {NODE}: the job has an NVIDIA GPU, but this node's linker cache has no "
        "libcuda.so.1 of driver 396.44" in done.stderr
    )
    assert "run ldconfig, or name them in gpus.libraries" in done.stderr


@pytest.mark.usefixtures("m60s")
def test_a_site_names_the_libraries(cluster):
    """None at all, or those that its patterns find; a pattern that finds none is an error."""
    libs = f'{SRUN} --gres=gpu:1 --container mpi sh -c \'ls /.singularity.d/libs | tr "\\n" " "\''
    with mishaps.settings(cluster, gpus={"libraries": "none"}):
        assert lines(cluster, f"{libs}; echo") == [""]
    named = {"libraries": ["/usr/lib/x86_64-linux-gnu/libnvidia-*.so.1"]}
    with mishaps.settings(cluster, gpus=named):
        assert lines(cluster, f"{libs}; echo") == ["libnvidia-ml.so.1"]
    with mishaps.settings(cluster, gpus={"libraries": ["/opt/none/lib*.so"]}):
        done = cluster.shell(libs)
    assert "no file of this node fits '/opt/none/lib*.so', which the job's GPU" in done.stderr
