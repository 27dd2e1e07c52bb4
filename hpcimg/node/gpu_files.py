"""Reads which device files the GPUs of this node have, and what the driver has installed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.gpu_files import DeviceFile, nvidia_files, nvidia_library, nvidia_programs
from hpcimg.linker_cache import parse_linker_cache
from hpcimg.node.amd import render_minors
from hpcimg.node.intel import compute_slots
from hpcimg.node.pci import read_pci
from hpcimg.node.probe import entries, read_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hpcimg.node.pci import PciGpu

HERE = Path("/")
_CACHE = "etc/ld.so.cache"
_PLACES = ("usr/bin", "bin", "usr/local/bin", "usr/sbin", "opt/bin")
_DRIVER = "proc/driver/nvidia"
_CARD = re.compile(r"nvidia([0-9]+)")
_MINOR = re.compile(r"^(?:DeviceFileMinor|Device Minor): *([0-9]+)$", re.MULTILINE)
_DRM = re.compile(r"(?:card|renderD)[0-9]+")  # codespell:ignore
_FOR_ALL = (
    "nvidiactl",
    "nvidia-uvm",
    "nvidia-uvm-tools",
    "nvidia-modeset",
    "nvidia-nvswitchctl",
)


def read_device_files(root: Path = HERE) -> tuple[DeviceFile, ...]:
    """List the device files of all GPUs that Slurm may count, and those of their drivers."""
    bus = read_pci(root)
    return (*_nvidia(root), *_amd(root), *_drm(root, bus))


def _nvidia(root: Path) -> Iterator[DeviceFile]:
    for path in entries(root / "dev"):
        card = _CARD.fullmatch(path.name)
        if card is not None:
            yield DeviceFile(f"/dev/{path.name}", "nvidia", int(card[1]))
        elif path.name in _FOR_ALL or path.name.startswith("nvidia-nvswitch"):
            yield DeviceFile(f"/dev/{path.name}", "nvidia")
    parts = dict(_parts(root))
    for folder in ("nvidia-caps", "nvidia-caps-imex-channels"):
        for path in entries(root / "dev" / folder):
            index, part = parts.get(f"{folder}/{path.name}", (None, ""))
            yield DeviceFile(f"/dev/{folder}/{path.name}", "nvidia", index, part)


def _parts(root: Path) -> Iterator[tuple[str, tuple[int, str]]]:
    """Tell of which GPU and which MIG instance each capability's device file is."""
    place = root / _DRIVER / "capabilities"
    for access in place.glob("gpu[0-9]*/mig/gi*/**/access"):
        minor = _MINOR.search(read_text(access))
        gpu, _, *instances = access.relative_to(place).parts[:-1]
        part = "/".join(name.lstrip("gci") for name in instances)
        number = gpu.removeprefix("gpu")
        if minor is not None and number.isdecimal():
            yield f"nvidia-caps/nvidia-cap{minor[1]}", (int(number), part)


def _amd(root: Path) -> Iterator[DeviceFile]:
    if (root / "dev/kfd").exists():
        yield DeviceFile("/dev/kfd", "amd")


def _drm(root: Path, bus: Iterable[PciGpu]) -> Iterator[DeviceFile]:
    """Tell whose the files in /dev/dri are; a board's own graphics are no GPU of a job's."""
    minors = render_minors(root)
    renders = {f"renderD{minor}": at for at, minor in minors.items()}  # codespell:ignore
    owners = {_slot(root, name): ("amd", index) for name, index in renders.items()}
    for at, slot in enumerate(compute_slots(bus)):
        owners[slot] = ("intel", at)
    for card in entries(root / _DRIVER / "gpus"):
        number = _MINOR.search(re.sub(r"[ \t]+", " ", read_text(card / "information")))
        if number is not None:
            owners[card.name] = ("nvidia", int(number[1]))
    for path in entries(root / "dev/dri"):
        owner = owners.get(_slot(root, path.name))
        # Partitions of one of AMD's GPUs share its place, and each has a render device.
        if path.name in renders:
            owner = ("amd", renders[path.name])
        if owner is not None and _DRM.fullmatch(path.name):
            yield DeviceFile(f"/dev/dri/{path.name}", *owner)


def _slot(root: Path, name: str) -> str:
    """Give the place on the bus of a DRM device; its own name where it has none."""
    device = root / "sys/class/drm" / name / "device"
    try:
        return device.readlink().name
    except OSError:
        return name


def find_driver(architecture: str, driver: str, parts: Iterable[str]) -> tuple[Path, ...]:
    """Find what these parts of NVIDIA's driver have installed on this node."""
    parts = tuple(parts)
    try:
        raw = (HERE / _CACHE).read_bytes()
    except OSError:
        raw = b""
    libraries: dict[str, Path] = {}
    for text in parse_linker_cache(raw):
        path = Path(text)
        if nvidia_library(text, os.path.realpath(text), driver, parts) and _is_for(
            path, architecture
        ):
            libraries.setdefault(path.name, path)
    programs = (
        next((found for place in _PLACES if (found := HERE / place / name).is_file()), None)
        for name in nvidia_programs(parts)
    )
    others = (path for text in nvidia_files(parts) if (path := Path(text)).exists())
    return (*libraries.values(), *(path for path in programs if path is not None), *others)


def find_files(patterns: Iterable[str]) -> dict[str, tuple[Path, ...]]:
    """Find the files that each pattern of paths means."""
    return {
        pattern: tuple(sorted(path for path in HERE.glob(pattern.lstrip("/")) if path.is_file()))
        for pattern in patterns
    }


def _is_for(path: Path, architecture: str) -> bool:
    from hpcimg.elf import HEADER_BYTES, is_built_for

    try:
        with path.open("rb") as file:
            return is_built_for(file.read(HEADER_BYTES), architecture)
    except OSError:
        return False
