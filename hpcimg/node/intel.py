"""The probe for Intel GPUs: PCI ids and drivers from sysfs, by the vocabulary's table of devices.

Graphics inside a processor are no compute GPU: noted, not counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpcimg.node.gpus import Gpu, GpuFacts
from hpcimg.node.pci import INTEL
from hpcimg.node.probe import Finding
from hpcimg.vocabulary import facts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hpcimg.node.pci import PciGpu

_DRIVERS = frozenset({"i915", "xe"})


def compute_slots(bus: Iterable[PciGpu]) -> tuple[str, ...]:
    """List the places of the compute GPUs, by the index that each has in a profile."""
    known = facts()["intel_devices"]
    return tuple(gpu.slot for gpu in bus if gpu.vendor == INTEL and gpu.device in known)


def probe_intel(bus: Iterable[PciGpu]) -> Finding:
    """Tell the compute GPUs among those on the bus, in the bus's order."""
    known = facts()["intel_devices"]
    found = [gpu for gpu in bus if gpu.vendor == INTEL]
    notes = tuple(
        f"Intel graphics {gpu.device} is no known compute GPU: not counted"
        for gpu in found
        if gpu.device not in known
    )
    counted = [gpu for gpu in found if gpu.device in known]
    lost = [gpu for gpu in counted if gpu.driver not in _DRIVERS]
    if lost:
        name = known[lost[0].device]
        reason = f"an Intel GPU ({name}) is on the PCI bus, but neither i915 nor xe drives it"
        return Finding("", notes=notes, gpus=GpuFacts("unknown", reason))
    devices = tuple(
        Gpu(at, "", f"Intel {gpu.device}", vendor="intel", target=known[gpu.device])
        for at, gpu in enumerate(counted)
    )
    state = "present" if devices else "none"
    return Finding(
        "/sys/bus/pci/devices" if devices else "",
        notes=notes,
        gpus=GpuFacts(state, devices=devices),
    )
