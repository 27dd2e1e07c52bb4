"""The probe for NVIDIA GPUs: NVML in a child process with a time limit, parsed into GpuFacts.

"None" and "unknown" differ: a GPU that is on the bus but does not answer is unknown.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from hpcimg import process
from hpcimg.errors import RuntimeFailure
from hpcimg.node.profile import Gpu, GpuFacts
from hpcimg.quoting import quoted

TIME_LIMIT = 10.0
"""Seconds; NVML without a persistence daemon needs several to start."""

_PCI = Path("/sys/bus/pci/devices")
_NVIDIA, _DISPLAY = "0x10de", "0x03"
_CAPABILITY = re.compile(r"[0-9]{1,3}\.[0-9]")
_DEVICE_LIMIT = 256
# The child is root's where the prolog asks: no variable of a job may reach its loader.
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


def probe_gpus(time_limit: float = TIME_LIMIT, pci: Path = _PCI) -> GpuFacts:
    """Ask NVML for this node's GPUs; never raises, what fails is unknown with its reason."""
    argv = [sys.executable, "-I", str(Path(__file__).with_name("nvml.py"))]
    try:
        answer = process.run(argv, env=_ENVIRONMENT, timeout=time_limit).stdout
    except process.ProcessTimeoutError:
        return GpuFacts("unknown", f"NVML did not answer within {time_limit:g} s")
    except RuntimeFailure as error:
        return GpuFacts("unknown", f"the NVML probe failed: {_one_line(error.message)}")
    return parse_answer(answer, on_bus=_is_on_bus(pci))


def parse_answer(answer: bytes, *, on_bus: bool = False) -> GpuFacts:
    """Parse what the child printed; `on_bus` says that a PCI device is an NVIDIA GPU."""
    try:
        document = json.loads(answer)
        if "error" in document:
            return GpuFacts("unknown", _one_line(document["error"]))
        if "none" in document or not document["devices"]:
            return _none(_one_line(document.get("none", "NVML sees no device")), on_bus=on_bus)
        return GpuFacts(
            "present",
            driver=str(document["driver"]),
            cuda=document["cuda"],
            devices=tuple(_device(one) for one in document["devices"][:_DEVICE_LIMIT]),
        )
    except (ValueError, KeyError, TypeError) as error:
        return GpuFacts("unknown", f"the NVML probe's answer is not readable: {quoted(error)}")


def _none(reason: str, *, on_bus: bool) -> GpuFacts:
    if on_bus:
        return GpuFacts("unknown", f"an NVIDIA GPU is on the PCI bus, but {reason}")
    return GpuFacts("none", f"this node has no NVIDIA GPU ({reason})")


def _device(document: dict[str, Any]) -> Gpu:
    gpu = Gpu(
        index=int(document["index"]),
        uuid=str(document["uuid"]),
        name=str(document["name"]),
        capability=str(document["capability"]),
        mig=bool(document["mig"]),
        slices=tuple(str(uuid) for uuid in document["slices"]),
    )
    if not _CAPABILITY.fullmatch(gpu.capability):
        raise ValueError(f"capability {gpu.capability}")
    return gpu


def _is_on_bus(pci: Path) -> bool:
    try:
        return any(
            _read(device / "vendor") == _NVIDIA and _read(device / "class").startswith(_DISPLAY)
            for device in pci.iterdir()
        )
    except OSError:
        return False


def _read(path: Path) -> str:
    return path.read_text(encoding="ascii", errors="replace").strip()


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:200]
