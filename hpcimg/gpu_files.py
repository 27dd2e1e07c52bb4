"""Which files of a node a container needs for its job's GPUs, and which it must not see.

Rules over listings that others read: device files, and the driver's libraries and programs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpcimg.node.gpus import GpuFacts

LIBRARIES = "/.singularity.d/libs"
"""Where Apptainer's own --nv puts them; it stands in each image's LD_LIBRARY_PATH."""

_LIBRARIES = {
    "compute": (
        "libcuda.so*",
        "libcudadebugger.so*",
        "libnvidia-opencl.so*",
        "libnvidia-nvvm*.so*",
        "libnvidia-ptxjitcompiler.so*",
        "libnvidia-fatbinaryloader.so*",
        "libnvidia-compiler.so*",
        "libnvidia-gpucomp.so*",
        "libnvidia-allocator.so*",
        "libnvidia-pkcs11*.so*",
    ),
    "utility": ("libnvidia-ml.so*", "libnvidia-cfg.so*", "libnvidia-nscq.so*"),
    "video": (
        "libnvcuvid.so*",
        "libvdpau_nvidia.so*",
        "libnvidia-encode.so*",
        "libnvidia-opticalflow.so*",
    ),
    "graphics": ("libnvoptix.so*", "libnvidia-*.so*", "lib*_nvidia.so*"),
}
"""By the first pattern that matches; what is not known of the driver's own is for graphics."""
_OTHERS = ("libnvidia-container*",)
"""What NVIDIA's toolkit for other engines installs beside the driver."""
_PROGRAMS = {
    "compute": ("nvidia-cuda-mps-control", "nvidia-cuda-mps-server"),
    "utility": ("nvidia-smi", "nvidia-debugdump"),
}
_FILES = {
    "utility": ("/run/nvidia-persistenced/socket",),
    "graphics": (
        "/usr/share/glvnd/egl_vendor.d/10_nvidia.json",
        "/usr/share/vulkan/icd.d/nvidia_icd.json",
        "/etc/vulkan/icd.d/nvidia_icd.json",
    ),
}
_VERSION = re.compile(r"\.so\.([0-9]{3,}\.[0-9.]+)$")
_SO = re.compile(r"\.so(\.[0-9]+)*$")


@dataclass(frozen=True)
class DeviceFile:
    """A device file of a GPU's driver, by its vendor.

    `index` is the GPU's as the node's profile counts; None is for all GPUs of the vendor.
    `part` is what a MIG slice of that GPU needs besides: its instance, `1` or `1/0`.
    """

    path: str
    vendor: str
    index: int | None = None
    part: str = ""


def hidden_files(
    files: Sequence[DeviceFile], gpus: GpuFacts, words: Sequence[str]
) -> tuple[str, ...]:
    """List what a job must not see that has `gpus` of the node, called `words` by Slurm.

    Nothing is hidden where it is not clear which GPUs the job has: it would lose its own.
    """
    if words and gpus.state != "present":
        return ()
    return tuple(file.path for file in files if not _is_shown(file, gpus, words))


def _is_shown(file: DeviceFile, gpus: GpuFacts, words: Sequence[str]) -> bool:
    own = gpus.of(file.vendor) if words else ()
    if file.index is None or not own:
        return bool(own)
    # Slurm's number of a slice tells neither the slice nor its GPU.
    if any(gpu.mig and not gpu.slices for gpu in own):
        return True
    gpu = next((one for one in own if one.index == file.index), None)
    if gpu is None or not file.part or not gpu.instances:
        return gpu is not None
    instances = dict(zip(gpu.slices, gpu.instances, strict=False))
    named = [instances[word] for word in words if word in instances]
    return any(one == file.part or one.startswith(f"{file.part}/") for one in named)


def renumbered(hidden: Sequence[str], files: Sequence[DeviceFile], words: Sequence[str]) -> str:
    """Give Slurm's numbers in their order where programs count anew: they see these GPUs alone."""
    numbered = {file.path for file in files if file.index is not None and not file.part}
    if not words or not all(word.isdecimal() for word in words):
        return ""
    if not numbered.intersection(hidden):
        return ""
    numbers = sorted(map(int, words))
    return "" if numbers == list(range(len(numbers))) else ",".join(map(str, numbers))


def nvidia_library(path: str, real: str, driver: str, capabilities: Iterable[str]) -> bool:
    """Tell whether a library of the linker's is one of NVIDIA's driver that containers get.

    `real` is the file that its name leads to: one of another version is a forgotten one.
    """
    name = path.rpartition("/")[2]
    if not _SO.search(name) or any(fnmatchcase(name, pattern) for pattern in _OTHERS):
        return False
    version = _VERSION.search(real)
    if driver and version is not None and version[1] != driver:
        return False
    part = next(
        (
            part
            for part, patterns in _LIBRARIES.items()
            if any(fnmatchcase(name, pattern) for pattern in patterns)
        ),
        "",
    )
    return part in set(capabilities)


def nvidia_programs(capabilities: Iterable[str]) -> tuple[str, ...]:
    """Name the programs of these parts of the driver."""
    return tuple(name for part in capabilities for name in _PROGRAMS.get(part, ()))


def nvidia_files(capabilities: Iterable[str]) -> tuple[str, ...]:
    """Name what these parts of the driver have elsewhere; a node may lack any of them."""
    return tuple(path for part in capabilities for path in _FILES.get(part, ()))


def renumber(environment: Mapping[str, str], order: str) -> dict[str, str]:
    """Give the variables that count GPUs as they are where only the GPUs of `order` are seen."""
    places = {number: str(at) for at, number in enumerate(order.split(","))}
    found = {}
    for name in NUMBERED_VARIABLES:
        words = environment.get(name, "").split(",")
        if all(word in places for word in words):
            found[name] = ",".join(places[word] for word in words)
    return found


NUMBERED_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
    "ZE_AFFINITY_MASK",
)
"""What Slurm sets to the numbers of a task's GPUs; the joiner has the same list."""
