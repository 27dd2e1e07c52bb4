"""The GPUs on the PCI bus, as sysfs lists them: there before any driver is, or answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpcimg.node.probe import driver_of, entries, read_text

if TYPE_CHECKING:
    from pathlib import Path

NVIDIA, AMD, INTEL = "10de", "1002", "8086"
# Display controllers; AMD's newest compute GPUs are processing accelerators.
_DISPLAY, _ACCELERATOR = "03", "1200"
_SCREEN = "0300"


@dataclass(frozen=True)
class PciGpu:
    """One GPU: its place, the ids of vendor and device in hexadecimal, and its bound driver.

    `has_screen` says that it is the kind that drives a monitor, such as a board controller's.
    """

    slot: str
    vendor: str
    device: str
    driver: str = ""
    has_screen: bool = False


def read_pci(root: Path) -> tuple[PciGpu, ...]:
    """List the GPUs under `root` by their place, which is the order their drivers count in."""
    found = (_read(path) for path in entries(root / "sys/bus/pci/devices"))
    return tuple(gpu for gpu in found if gpu is not None)


def _read(path: Path) -> PciGpu | None:
    kind = read_text(path / "class").removeprefix("0x")
    if not kind.startswith((_DISPLAY, _ACCELERATOR)):
        return None
    vendor = read_text(path / "vendor").removeprefix("0x").lower()
    device = read_text(path / "device").removeprefix("0x").lower()
    return PciGpu(path.name, vendor, device, driver_of(path), kind.startswith(_SCREEN))
