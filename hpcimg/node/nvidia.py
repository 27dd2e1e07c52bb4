"""What tells of NVIDIA's GPUs besides NVML: nvidia-smi's lists, and the driver's files in /proc.

Pure parsers; who reads them, and in which order, is the probe's matter.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hpcimg.node.gpus import Gpu, GpuFacts
from hpcimg.quoting import quoted
from hpcimg.vocabulary import facts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hpcimg.node.pci import PciGpu

QUERY = "index,uuid,name,driver_version,pci.device_id,compute_cap,mig.mode.current"
OLD_QUERY = "index,uuid,name,driver_version,pci.device_id"
"""Drivers before 510 do not know `compute_cap`, and refuse the whole question."""

_CAPABILITY = re.compile(r"[0-9]{1,3}\.[0-9]")
_VERSION = re.compile(r"^NVRM version:.*?\s([0-9]+\.[0-9]+(?:\.[0-9]+)*)\s", re.MULTILINE)
_LISTED = re.compile(r"^GPU ([0-9]+): .*\(UUID: ", re.MULTILINE)
_SLICE = re.compile(r"\(UUID: (MIG-[^)\s]+)\)")


def parse_smi(text: str, listing: str = "") -> GpuFacts:
    """Parse what nvidia-smi answers to either query; `listing` is that of `-L`, with the slices."""
    devices: list[Gpu] = []
    driver = ""
    slices = _slices(listing)
    for line in text.splitlines():
        row = [word.strip() for word in line.split(",")]
        if len(row) < 5 or not row[0].isdecimal():
            return GpuFacts("unknown", f"nvidia-smi's answer is not readable: {quoted(text)}")
        index, uuid, name, driver, device, *rest = row
        told = rest[0] if rest and _CAPABILITY.fullmatch(rest[0]) else ""
        capability = told or _capability(device.removeprefix("0x")[:4])
        if not capability:
            return _untabled(index, name, device)
        mig = rest[1:2] == ["Enabled"]
        devices.append(Gpu(int(index), uuid, name, capability, mig, slices.get(index, ())))
    if not devices:
        return GpuFacts("none", "nvidia-smi lists no device")
    return GpuFacts("present", driver=driver, devices=tuple(devices))


def parse_proc(version: str, cards: Mapping[str, str], bus: Sequence[PciGpu]) -> GpuFacts:
    """Parse the driver's files: `version`, and the text `information` of each card by its place.

    The capability is that of the PCI id; places are counted as NVML counts them.
    """
    places = sorted({*cards, *(gpu.slot for gpu in bus)})
    if not places:
        return GpuFacts("none", "this node has no NVIDIA GPU (the PCI bus shows none)")
    driver = _VERSION.search(version + "\n")
    if driver is None:
        return GpuFacts(
            "unknown", "an NVIDIA GPU is on the PCI bus, but NVIDIA's driver is not loaded"
        )
    devices: list[Gpu] = []
    ids = {gpu.slot: gpu.device for gpu in bus}
    for index, place in enumerate(places):
        pairs = (line.partition(":") for line in cards.get(place, "").splitlines())
        told = {key.strip(): value.strip() for key, _, value in pairs}
        capability = _capability(ids.get(place, ""))
        if not capability:
            return _untabled(str(index), told.get("Model", ""), ids.get(place, "unknown"))
        uuid = told.get("GPU UUID", "")
        # Not asked for yet, the driver shows question marks.
        devices.append(Gpu(index, "" if "?" in uuid else uuid, told.get("Model", ""), capability))
    return GpuFacts("present", driver=driver[1], devices=tuple(devices))


def _capability(device: str) -> str:
    found: str = facts()["nvidia_devices"].get(device.lower(), "")
    return found


def _untabled(index: str, name: str, device: str) -> GpuFacts:
    reason = f"the capability of GPU {index} ({quoted(name)}, PCI id {quoted(device)}) is not known"
    return GpuFacts("unknown", reason)


def _slices(listing: str) -> dict[str, tuple[str, ...]]:
    """Read the MIG slices of each GPU: they stand below it."""
    parts = _LISTED.split(listing)[1:]
    return {
        index: tuple(_SLICE.findall(text)) for index, text in zip(*[iter(parts)] * 2, strict=True)
    }
