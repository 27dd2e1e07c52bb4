"""The big example of the first post: eleven entries, each kind of node, what it picks and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import mishaps
import pytest

pytestmark = pytest.mark.integration

NAME = "qnib/cv-tf:1.12.0-rev9"
GENERIC = "cv-tf-dev:1.12.0-rev11"
SKYLAKE = "cv-tf-dev:skylake_1.12.0-rev6"
BDW_390 = "cv-nccl90-tf-dev:broadwell_1.12.0-rev2"
BDW_NVCAP52 = "cv-nccl92-tf-dev:broadwell_nvcap52_1.12.0-rev2"
NVCAP37 = "cv-nccl92-tf-dev:nvcap37_1.12.0-rev4"
SKX_396 = "cv-nccl92-tf-dev:skylake512_1.12.0-rev8"
NCCL92 = "cv-nccl92-tf-dev:1.12.0-rev11"

RECORDED = "$(echo /opt/hpcimg/lib/python3*/site-packages/archspec/json/tests/targets)/linux-"
_SKX = f"{RECORDED}rhel7-skylake_avx512"
CPUS = {
    "plain": f"sed 's/^flags.*/flags : fpu lm mmx sse sse2/' {_SKX}",
    "skylake": f"sed -E 's/ (avx512[a-z_]*|clwb)//g' {_SKX}",
    "skylake512": f"cat {_SKX}",
    "broadwell": f"cat {RECORDED}rhel7-broadwell",
    "zen3": f"cat {RECORDED}ubuntu20.04-zen3",
    "arm64": f"cat {RECORDED}rhel9-neoverse_n2",
}
"""Commands that print the /proc/cpuinfo of a recorded machine, or of one with fewer flags."""
M60 = {"name": "Tesla M60", "capability": "5.2", "driver": "396.44"}
K80 = {"name": "Tesla K80", "capability": "3.7", "driver": "396.44"}
V100 = {"name": "Tesla V100", "capability": "7.0", "driver": "396.44"}
OLD_M60 = {**M60, "driver": "390.30"}
CLOSER = "fits, and is built for a closer CPU target"
NEWER = "fits, and is built for a newer toolkit or driver"
SUITS = "fits, and suits the job's GPU better"
LEFT = "the generic image; nothing more specific fits"


@dataclass(frozen=True)
class Row:
    """A node, a job's GPU and a policy; the image that it picks, None for none, and why."""

    cpu: str
    gpu: dict[str, str] | None
    allocated: bool
    policy: str
    image: str | None
    why: str

    def __str__(self) -> str:
        gpu = f"{self.gpu['name']}-{self.gpu['driver']}" if self.gpu else "no-gpu"
        return f"{self.cpu}-{gpu}{'' if self.allocated else '-not-allocated'}-{self.policy}"


TABLE = [
    #   CPU, GPU and driver, allocated, policy, image, why
    Row("plain", None, False, "compatible", GENERIC, LEFT),
    Row("skylake", None, False, "compatible", SKYLAKE, CLOSER),
    Row("skylake512", None, False, "compatible", SKYLAKE, CLOSER),
    Row("zen3", None, False, "compatible", GENERIC, LEFT),
    Row("broadwell", None, False, "compatible", GENERIC, LEFT),
    Row("broadwell", M60, True, "compatible", BDW_NVCAP52, CLOSER),
    Row("broadwell", M60, False, "compatible", GENERIC, LEFT),
    Row("broadwell", OLD_M60, True, "compatible", BDW_390, CLOSER),
    Row("broadwell", K80, True, "compatible", NVCAP37, SUITS),
    Row("skylake512", V100, True, "compatible", SKX_396, CLOSER),
    Row("zen3", V100, True, "compatible", NCCL92, NEWER),
    Row("broadwell", M60, True, "exact", BDW_NVCAP52, "fits, and uses the job's GPU"),
    Row("broadwell", OLD_M60, True, "exact", GENERIC, LEFT),
    Row("skylake512", None, False, "exact", GENERIC, LEFT),
    Row("arm64", None, False, "compatible", None, "is for linux/amd64"),
]


@contextmanager
def a_gpu(cluster, gpu: dict[str, str] | None) -> Iterator[None]:
    """Let gpu1's NVML answer for another GPU, or for none."""
    lines = ["count 0"] if gpu is None else ["count 1", *(f"{k} {v}" for k, v in gpu.items())]
    text = "\\n".join([*lines, "cuda 9020", "mig unsupported"])
    mishaps.do(cluster, "cp /etc/nvml-stub /etc/nvml-stub.own", "gpu1")
    mishaps.do(cluster, f"printf '{text}\\n' >/etc/nvml-stub", "gpu1")
    try:
        yield
    finally:
        mishaps.do(cluster, "mv /etc/nvml-stub.own /etc/nvml-stub", "gpu1")


@pytest.fixture(scope="module")
def digests(cluster) -> dict[str, str]:
    """The digest of each of the eleven images, as the registry has it under its own tag."""
    names = [GENERIC, SKYLAKE, BDW_390, BDW_NVCAP52, NVCAP37, SKX_396, NCCL92]
    script = "; ".join(f"hpcimg inspect qnib/{name} --json" for name in names)
    answer = mishaps.do(cluster, script)
    decoder, found, at = json.JSONDecoder(), {}, 0
    for name in names:
        document, end = decoder.raw_decode(answer[at:])
        found[name], at = document["digest"], at + end + 1
    return found


def explain(cluster, row: Row) -> dict:
    """Detect a machine with the row's CPU and GPU on gpu1, and explain the name for it."""
    with a_gpu(cluster, row.gpu):
        show = "hpcimg node show --json --cpuinfo /tmp/cpuinfo >/tmp/cv-tf.json"
        mishaps.do(cluster, f"{CPUS[row.cpu]} >/tmp/cpuinfo; {show}", "gpu1")
    scope = "0" if row.allocated else "none"
    asked = f"--profile /tmp/cv-tf.json --gpus {scope} --policy {row.policy} --json"
    done = cluster.shell(f"hpcimg explain {NAME} {asked}", node="gpu1")
    assert done.returncode == (0 if row.image else 69), done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_what_each_node_picks_and_why(cluster, digests, row):
    """CPU, GPU, driver, allocation and policy decide together."""
    answer = explain(cluster, row)
    if row.image is None:
        assert answer["pick"] is None
        assert all(one["reason"].startswith(row.why) for one in answer["candidates"])
        return
    assert (answer["pick"]["digest"], answer["pick"]["reason"]) == (digests[row.image], row.why)


WORDS = ("broadwell", "nv-compute-5-2", "nvidia-396-44")


def test_words_give_the_same_pick_as_detection(cluster, digests):
    """On the command line as the post has them, and as the daemon's list of features."""
    platform = f"--platform=linux/amd64:{':'.join(WORDS)}"
    told = cluster.run("hpcimg", "resolve", platform, NAME)
    with mishaps.settings(cluster, **{"platform-features": list(WORDS)}):
        listed = cluster.run("hpcimg", "resolve", NAME, node="zen1")
        ran = cluster.run("srun", "-w", "zen1", "--container", NAME, "cv-tf")
    detected = cluster.run("srun", "-w", "gpu1", "--gres=gpu:1", "hpcimg", "resolve", NAME)
    for done in (told, listed, detected):
        assert done.stdout.strip().endswith(f"@{digests[BDW_NVCAP52]}"), done.stderr
    assert ran.stdout.strip() == BDW_NVCAP52, ran.stderr


@pytest.mark.parametrize(
    ("node", "options", "image"),
    [
        ("bdw1", (), GENERIC),
        ("skx1", (), SKYLAKE),
        ("zen1", (), GENERIC),
        ("gpu1", (), GENERIC),
        ("gpu1", ("--gres=gpu:1",), BDW_NVCAP52),
    ],
)
def test_a_job_runs_the_pick(cluster, node, options, image):
    """One generic name, on every node its own build."""
    done = cluster.run("srun", "-w", node, *options, "--container", NAME, "cv-tf")
    assert done.stdout.strip() == image, done.stderr
