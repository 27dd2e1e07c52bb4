"""What all probes share: reading small files of a machine's tree, and the form of a finding.

A probe never raises for what a machine lacks: that is a finding as well.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from hpcimg.node.gpus import GpuFacts

_LIMIT = 1024 * 1024


@dataclass(frozen=True)
class Finding:
    """What one probe found, and where; `unknowns` begin with a kind, as in `smt: why`."""

    source: str
    traits: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unknowns: tuple[str, ...] = ()
    gpus: GpuFacts = field(default_factory=GpuFacts)


def read_text(path: Path) -> str:
    """Read a small file without the space around it; empty when it cannot be read."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(_LIMIT).decode("utf-8", errors="replace").strip()
    return ""


def entries(directory: Path) -> tuple[Path, ...]:
    """List a directory, sorted; nothing when it cannot be read."""
    with contextlib.suppress(OSError):
        return tuple(sorted(directory.iterdir()))
    return ()


def has_gpu_files(root: Path = Path("/")) -> bool:
    """Tell whether a GPU's driver may have any device file here; each launch asks this."""
    with contextlib.suppress(OSError):
        return any(name.startswith(("nvidia", "kfd", "dri")) for name in os.listdir(root / "dev"))  # noqa: PTH208
    return False


def driver_of(device: Path) -> str:
    """Name the driver that is bound to a device's directory, empty when none is."""
    with contextlib.suppress(OSError):
        return (device / "driver").readlink().name
    lines = read_text(device / "uevent").splitlines()
    return next((line[len("DRIVER=") :] for line in lines if line.startswith("DRIVER=")), "")
