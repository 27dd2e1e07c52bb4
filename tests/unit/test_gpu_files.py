"""Which device files and libraries a job's container gets: rules over recorded listings."""

from __future__ import annotations

import pytest

from hpcimg.gpu_files import (
    DeviceFile,
    hidden_files,
    nvidia_library,
    renumber,
    renumbered,
)
from hpcimg.node.gpus import Gpu, GpuFacts
from hpcimg.workflow.surroundings import NOTHING, Surroundings, join

A100 = tuple(
    Gpu(
        at,
        f"GPU-{at}",
        "A100",
        "8.0",
        mig=at == 1,
        slices=("MIG-a", "MIG-b") if at == 1 else (),
        instances=("1/0", "2/0") if at == 1 else (),
    )
    for at in range(2)
)
M60 = tuple(Gpu(at, f"GPU-{at}", "Tesla M60", "5.2") for at in range(4))
MI250 = tuple(Gpu(at, "", "", vendor="amd", target="gfx90a") for at in range(2))

CONTROL = [DeviceFile(f"/dev/{n}", "nvidia") for n in ("nvidiactl", "nvidia-uvm")]
NVIDIA = [*CONTROL, *(DeviceFile(f"/dev/nvidia{at}", "nvidia", at) for at in range(4))]
AMD = [
    DeviceFile("/dev/kfd", "amd"),
    DeviceFile("/dev/dri/renderD128", "amd", 0),
    DeviceFile("/dev/dri/renderD129", "amd", 1),
]
CAPS = "/dev/nvidia-caps/nvidia-cap"
SLICES = [
    *CONTROL,
    DeviceFile("/dev/nvidia0", "nvidia", 0),
    DeviceFile("/dev/nvidia1", "nvidia", 1),
    DeviceFile(f"{CAPS}2", "nvidia"),
    DeviceFile(f"{CAPS}12", "nvidia", 1, "1"),
    DeviceFile(f"{CAPS}13", "nvidia", 1, "1/0"),
    DeviceFile(f"{CAPS}21", "nvidia", 1, "2"),
    DeviceFile(f"{CAPS}22", "nvidia", 1, "2/0"),
]


def given(devices, *words):
    """Give what a job with these GPUs of a node is told."""
    return GpuFacts("present", devices=devices).allocated(words)


def test_a_job_sees_its_own_gpus_and_the_drivers_files():
    """Two of four: the other two are hidden, the control devices stay."""
    assert hidden_files(NVIDIA, given(M60, "1", "2"), ("1", "2")) == (
        "/dev/nvidia0",
        "/dev/nvidia3",
    )


def test_a_job_without_gpus_sees_none():
    """All device files of all vendors go, and those that are for all GPUs."""
    files = [*NVIDIA, *AMD]
    assert hidden_files(files, given(M60), ()) == tuple(one.path for one in files)


def test_the_gpus_of_another_vendor_are_hidden():
    """AMD's job sees nothing of NVIDIA's, and one of the render devices."""
    hidden = hidden_files([*NVIDIA, *AMD], given(MI250, "0"), ("0",))
    assert set(hidden) == {one.path for one in NVIDIA} | {"/dev/dri/renderD129"}


def test_a_slice_brings_its_capabilities_alone():
    """A MIG slice by its UUID: its GPU, its two instances, and what is for all."""
    assert hidden_files(SLICES, given(A100, "MIG-b"), ("MIG-b",)) == (
        "/dev/nvidia0",
        f"{CAPS}12",
        f"{CAPS}13",
    )


@pytest.mark.parametrize("words", [("1",), ("GPU-9",), ("MIG-z",)])
def test_nothing_is_hidden_where_it_is_not_clear_what_the_job_has(words):
    """A number could be of any slice, another name of none: the job must not lose its own."""
    assert hidden_files(SLICES, given(A100, *words), words) == ()


@pytest.mark.parametrize(
    ("words", "order"),
    [
        (("0",), ""),
        (("0", "1"), ""),
        (("2",), "2"),
        (("1", "3"), "1,3"),
        (("GPU-2",), ""),
    ],
)
def test_gpus_that_are_seen_alone_count_from_0(words, order):
    """Where the numbers stay the same, and for UUIDs, nothing is to be changed."""
    hidden = hidden_files(NVIDIA, given(M60, *words), words)
    assert renumbered(hidden, NVIDIA, words) == order


def test_nothing_is_renumbered_where_nothing_is_hidden():
    """A job with all GPUs, or one whose others another vendor made."""
    assert renumbered((), NVIDIA, ("2",)) == ""
    assert renumbered(("/dev/kfd",), [*NVIDIA, *AMD], ("2",)) == ""


def test_a_tasks_numbers_become_places():
    """Each variable that Slurm set, and none that holds something else."""
    environment = {
        "CUDA_VISIBLE_DEVICES": "3",
        "ROCR_VISIBLE_DEVICES": "1,3",
        "GPU_DEVICE_ORDINAL": "7",
        "HIP_VISIBLE_DEVICES": "GPU-1",
    }
    assert renumber(environment, "1,3") == {
        "CUDA_VISIBLE_DEVICES": "1",
        "ROCR_VISIBLE_DEVICES": "0,1",
    }


@pytest.mark.parametrize(
    ("name", "real", "parts", "comes"),
    [
        ("libcuda.so.1", "libcuda.so.535.104.05", ("compute",), True),
        ("libcuda.so.1", "libcuda.so.525.60.13", ("compute",), False),
        ("libcuda.so.1", "libcuda.so.1", ("compute",), True),
        ("libcuda.so.1", "libcuda.so.535.104.05", ("utility",), False),
        ("libnvidia-ml.so.1", "libnvidia-ml.so.535.104.05", ("utility",), True),
        ("libnvidia-eglcore.so.535.104.05", "libnvidia-eglcore.so.535.104.05", ("graphics",), True),
        ("libGLX_nvidia.so.0", "libGLX_nvidia.so.535.104.05", ("graphics",), True),
        ("libnvidia-egl-wayland.so.1", "libnvidia-egl-wayland.so.1.1.11", ("graphics",), True),
        ("libnvidia-eglcore.so.535.104.05", "same", ("compute", "utility"), False),
        ("libnvidia-container.so.1", "libnvidia-container.so.1.14.3", ("graphics",), False),
        ("libcudart.so.12", "libcudart.so.12.2.140", ("compute", "graphics"), False),
        ("libc.so.6", "libc.so.6", ("compute", "graphics"), False),
    ],
)
def test_the_drivers_libraries_come_and_no_others(name, real, parts, comes):
    """By their names and the running driver's version; the toolkit's are the image's."""
    lib = "/usr/lib/x86_64-linux-gnu"
    assert nvidia_library(f"{lib}/{name}", f"{lib}/{real}", "535.104.05", parts) is comes


def test_the_numbers_that_are_seen_anew_are_a_line_of_their_own():
    """The joiner is told them; what of several parts says some counts."""
    around = join((Surroundings(hidden=("/dev/nvidia0",), renumbered="1,3"), NOTHING))
    assert around.lines() == "hide=/dev/nvidia0\nrenumber=1,3\n"
