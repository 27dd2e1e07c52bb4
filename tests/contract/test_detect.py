"""Detection on a real file system and with real child processes; NVML is a fake module."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import archspec
import pytest

from hpcimg.node import detect, gpu
from hpcimg.node.pci import PciGpu
from hpcimg.node.profile import Gpu, GpuFacts, NodeProfile

RECORDED = Path(archspec.__file__).parent / "json" / "tests" / "targets"
NVML = Path(gpu.__file__).with_name("nvml.py")

FAKE = """
class NVMLError(Exception):
    def __init__(self, value): self.value = value
    def __str__(self): return f"error {self.value}"
NVML_ERROR_LIBRARY_NOT_FOUND, NVML_ERROR_DRIVER_NOT_LOADED, NVML_DEVICE_MIG_ENABLE = 12, 9, 1
def nvmlInit(): pass
def nvmlSystemGetDriverVersion(): return "535.10"
def nvmlSystemGetCudaDriverVersion(): return 12020
def nvmlDeviceGetCount(): return 2
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetCudaComputeCapability(handle): return (8, 0) if handle else (5, 2)
def nvmlDeviceGetMinorNumber(handle): return handle
def nvmlDeviceGetName(handle): return "A100" if handle else "M60"
def nvmlDeviceGetUUID(handle): return f"GPU-{handle}"
def nvmlDeviceGetMigMode(handle):
    if not handle: raise NVMLError(3)
    return (1, 1)
def nvmlDeviceGetMaxMigDeviceCount(handle): return 3
def nvmlDeviceGetMigDeviceHandleByIndex(handle, at):
    if at == 1: raise NVMLError(6)
    return 10 + at
def nvmlDeviceGetGpuInstanceId(handle): return handle - 3
def nvmlDeviceGetComputeInstanceId(handle): return 0
"""


@pytest.fixture
def probe(tmp_path, monkeypatch):
    """Start the probe's program with a fake pynvml beside it."""
    python = sys.executable

    def start(module=FAKE, time_limit=20.0, bus=(), path=str(tmp_path / "nothing")):
        (tmp_path / "pynvml.py").write_text(module)
        program = tmp_path / "python"
        program.write_text(f'#!/bin/sh\nshift\nPYTHONPATH={tmp_path} exec {python} -B "$@"\n')
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        return gpu.probe_nvidia(Path("/"), bus, time_limit=time_limit, path=path)

    return start


def test_the_program_tells_devices_and_slices(probe):
    """Through a real child: capability, driver, MIG slices, places without one left out."""
    facts = probe().gpus
    assert (facts.state, facts.driver, facts.cuda) == ("present", "535.10", "12.2")
    assert facts.devices == (
        Gpu(0, "GPU-0", "M60", "5.2"),
        Gpu(
            1,
            "GPU-1",
            "A100",
            "8.0",
            mig=True,
            slices=("GPU-10", "GPU-12"),
            instances=("7/0", "9/0"),
        ),
    )


@pytest.mark.parametrize(
    ("body", "numbers"), [("return 3 - handle", [3, 2]), ("raise NVMLError(3)", [0, 1])]
)
def test_a_gpu_has_the_number_of_its_device_file(probe, body, numbers):
    """As Slurm counts them; NVML renumbers what a job's device cgroup leaves."""
    facts = probe(f"{FAKE}def nvmlDeviceGetMinorNumber(handle): {body}\n").gpus
    assert [gpu.index for gpu in facts.devices] == numbers


@pytest.mark.parametrize(
    ("end", "state", "reason"),
    [
        ("def nvmlInit(): raise NVMLError(12)", "none", "NVML says: error 12"),
        ("def nvmlInit(): raise NVMLError(9)", "none", "NVML says: error 9"),
        ("def nvmlInit(): raise NVMLError(999)", "unknown", "NVML says: error 999"),
        ("def nvmlDeviceGetCount(): return 0", "none", "NVML sees no device"),
        ("import os; os.kill(os.getpid(), 11)", "unknown", "was killed by SIGSEGV"),
        ("raise SystemExit(3)", "unknown", "exited with 3"),
    ],
)
def test_every_way_to_fail_is_a_fact(probe, end, state, reason):
    """A driver may refuse or crash whoever asks; detection goes on."""
    facts = probe(FAKE + end + "\n").gpus
    assert facts.state == state
    assert reason in facts.reason


def test_a_driver_that_hangs_is_unknown(probe):
    """The time limit ends the child; nothing waits for it."""
    facts = probe("import signal\nsignal.pause()\n", time_limit=0.5).gpus
    assert (facts.state, facts.reason) == ("unknown", "NVML did not answer within 0.5 s")


NO_LIBRARY = FAKE + "def nvmlInit(): raise NVMLError(12)\n"
T4 = PciGpu("0000:00:1e.0", "10de", "1eb8")


def test_a_gpu_on_the_bus_without_a_library_is_unknown(probe):
    """The driver may only not be loaded yet."""
    found = probe(NO_LIBRARY, bus=(T4,)).gpus
    assert found.state == "unknown"
    assert found.reason == "an NVIDIA GPU is on the PCI bus, but NVML says: error 12"
    assert probe(NO_LIBRARY, bus=(PciGpu("0000:00:02.0", "8086", "0bd5"),)).gpus.state == "none"


@pytest.fixture
def smi(tmp_path):
    """Put a program nvidia-smi on a path of its own, a shell script's body."""

    def make(body):
        (tmp_path / "bin").mkdir()
        program = tmp_path / "bin" / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
        return f"{program.parent}:/bin:/usr/bin"

    return make


SMI = """case "$*" in
*compute_cap*) echo '0, GPU-a, A100, 535.104.05, 0x20B010DE, 8.0, Enabled' ;;
-L) echo 'GPU 0: A100 (UUID: GPU-a)'; echo '  MIG 1g.5gb Device 0: (UUID: MIG-b)' ;;
esac"""
OLD_SMI = """case "$*" in
*compute_cap*) echo 'Field "compute_cap" is not a valid field to query.'; exit 2 ;;
*) echo '0, GPU-a, Tesla T4, 440.33.01, 0x1EB810DE' ;;
esac"""


def test_nvidia_smi_answers_where_nvml_does_not(probe, smi):
    """Its slices as well; the page says why it was asked."""
    found = probe(NO_LIBRARY, bus=(T4,), path=smi(SMI))
    assert (found.source, found.gpus.state, found.gpus.driver) == (
        "nvidia-smi",
        "present",
        "535.104.05",
    )
    assert found.gpus.devices == (Gpu(0, "GPU-a", "A100", "8.0", mig=True, slices=("MIG-b",)),)
    (note,) = found.notes
    assert note.startswith("nvidia-smi told the NVIDIA GPUs, since an NVIDIA GPU is on the PCI bus")


def test_an_old_nvidia_smi_is_asked_again_without_the_capability(probe, smi):
    """The table of PCI ids knows it."""
    found = probe(NO_LIBRARY, bus=(T4,), path=smi(OLD_SMI))
    assert found.gpus.devices == (Gpu(0, "GPU-a", "Tesla T4", "7.5"),)
    assert found.gpus.driver == "440.33.01"


@pytest.mark.parametrize(("bus", "state"), [((), "none"), ((T4,), "unknown")])
def test_nvidia_smi_that_finds_no_device(probe, smi, bus, state):
    """It exits with 6; that is no GPU unless one is on the bus."""
    broken = FAKE + "def nvmlInit(): raise NVMLError(999)\n"
    path = smi('echo "No devices were found"; exit 6')
    assert probe(broken, bus=bus, path=path).gpus.state == state


def test_one_time_limit_holds_for_all(probe, smi, tmp_path):
    """NVML that hangs leaves no time for nvidia-smi, which would hang as well."""
    asked = tmp_path / "asked"
    hangs = "import signal\nsignal.pause()\n"
    found = probe(hangs, time_limit=0.3, bus=(T4,), path=smi(f": >{asked}"))
    assert found.gpus.reason == "NVML did not answer within 0.3 s"
    assert not asked.exists()


def test_the_probe_stands_alone():
    """It is run by its path, so it must not need the package."""
    assert "import hpcimg" not in NVML.read_text()
    assert "from hpcimg" not in NVML.read_text()


def test_a_recorded_cpu_makes_a_profile(probe):
    """`--cpuinfo FILE`: that machine's CPU, this machine's kernel and boot."""
    probe()
    profile = detect.detect(cpuinfo=RECORDED / "linux-rhel7-broadwell", node="bdw1")
    assert (profile.node, profile.architecture, profile.target) == ("bdw1", "amd64", "broadwell")
    assert profile.kernel == os.uname().release
    assert profile.gpus.state == "present"
    assert profile.sources["cpu"].endswith("linux-rhel7-broadwell")
    assert NodeProfile.from_json(profile.to_json()) == profile


PROFILE = NodeProfile(node="n1", os="linux", architecture="amd64", target="zen3")


@pytest.fixture
def kept(tmp_path):
    """Keep a profile as this user."""
    path = tmp_path / "run" / "node.json"
    assert detect.write_cached(PROFILE, "key", path)
    return path


def read(path, key="key"):
    """Read a kept profile as this user wrote it."""
    return detect.read_cached(path, key, owner=os.getuid())


def test_a_kept_profile_is_read_again(kept):
    """Everybody may read it, only its owner write."""
    assert read(kept) == PROFILE
    assert kept.stat().st_mode & 0o777 == 0o644
    assert detect.write_cached(PROFILE, "key2", kept)
    assert read(kept, "key2") == PROFILE
    assert [path.name for path in kept.parent.iterdir()] == ["node.json"]


def test_another_boot_or_driver_makes_it_stale(kept):
    """Then detection runs again."""
    assert read(kept, "other") is None
    assert read(kept, "") is None


def test_what_others_could_have_written_is_not_read(kept, tmp_path):
    """A link, a shared file, somebody else's file, a fifo, junk."""
    kept.chmod(0o664)
    assert read(kept) is None
    kept.chmod(0o646)
    assert read(kept) is None
    kept.chmod(0o644)
    assert detect.read_cached(kept, "key", owner=os.getuid() + 1) is None
    link = tmp_path / "link"
    link.symlink_to(kept)
    assert read(link) is None
    os.mkfifo(tmp_path / "fifo", 0o644)
    assert read(tmp_path / "fifo") is None
    kept.write_text("{")
    assert read(kept) is None
    kept.write_text('{"key": "key", "profile": "{}"}')
    assert read(kept) is None
    assert read(tmp_path / "none") is None


def test_a_kept_profile_is_readable_whatever_the_umask(tmp_path):
    """Else every launch would detect anew: the store's account and users read it too."""
    path = tmp_path / "run" / "node.json"
    before = os.umask(0o077)
    try:
        assert detect.write_cached(NodeProfile("n1", "linux", "amd64"), "key", path)
    finally:
        os.umask(before)
    assert (path.parent.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o755, 0o644)


def test_unknown_gpus_are_not_kept(tmp_path):
    """A driver that was slow once must not stay unknown until the next boot."""
    unknown = NodeProfile("n1", "linux", "amd64", gpus=GpuFacts("unknown", "slow"))
    assert not detect.write_cached(unknown, "key", tmp_path / "node.json")
    assert not detect.write_cached(PROFILE, "", tmp_path / "node.json")
    assert list(tmp_path.iterdir()) == []


def test_the_key_follows_boot_drivers_slices_and_fabrics(tmp_path):
    """Read from small files, never from NVML; a module loaded later may bring GPUs."""
    boot_id = tmp_path / "proc/sys/kernel/random/boot_id"
    assert detect.cache_key(tmp_path) == ""
    boot_id.parent.mkdir(parents=True)
    boot_id.write_text("b0\n")
    keys = [detect.cache_key(tmp_path)]
    driver = tmp_path / "proc/driver/nvidia"
    driver.mkdir(parents=True)
    (driver / "version").write_text("NVRM version: 535.10\n")
    keys.append(detect.cache_key(tmp_path))
    (driver / "capabilities/gpu0/mig/gi1").mkdir(parents=True)
    keys.append(detect.cache_key(tmp_path))
    boot_id.write_text("b1\n")
    keys.append(detect.cache_key(tmp_path))
    assert len(set(keys)) == 4
    shutil.rmtree(driver / "capabilities")
    boot_id.write_text("b0\n")
    assert detect.cache_key(tmp_path) == keys[1]
    for path in ("sys/module/amdgpu", "sys/module/xe", "sys/class/infiniband/mlx5_0"):
        (tmp_path / path).mkdir(parents=True)
        keys.append(detect.cache_key(tmp_path))
    assert len(set(keys)) == 7
