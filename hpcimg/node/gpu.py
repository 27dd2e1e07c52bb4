"""The probe for NVIDIA GPUs: NVML in a child process, else nvidia-smi, else the driver's files.

"None" and "unknown" differ: a GPU that is on the bus but does not answer is unknown.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcimg import process
from hpcimg.errors import RuntimeFailure
from hpcimg.node.gpus import Gpu, GpuFacts
from hpcimg.node.nvidia import OLD_QUERY, QUERY, parse_proc, parse_smi
from hpcimg.node.pci import NVIDIA
from hpcimg.node.probe import Finding, entries, read_text
from hpcimg.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpcimg.node.pci import PciGpu

TIME_LIMIT = 10.0
"""Seconds for all of it; NVML without a persistence daemon needs several to start."""

SYSTEM_PATH = "/usr/bin:/bin"
DRIVER = "proc/driver/nvidia"
_CAPABILITY = re.compile(r"[0-9]{1,3}\.[0-9]")
_DEVICE_LIMIT = 256
_NO_DEVICES = 6


def probe_nvidia(
    root: Path,
    bus: Sequence[PciGpu],
    *,
    time_limit: float = TIME_LIMIT,
    path: str = SYSTEM_PATH,
) -> Finding:
    """Find the NVIDIA GPUs; never raises, what fails is unknown with its reason.

    `path` is where nvidia-smi is looked for. A `root` that is not this machine's is only read.
    """
    bus = [gpu for gpu in bus if gpu.vendor == NVIDIA]
    if root != Path("/"):
        return _by_proc(root, bus, "only its files were recorded")
    end = time.monotonic() + time_limit
    facts = _by_nvml(time_limit, on_bus=bool(bus))
    if facts.state != "unknown":
        return Finding("NVML", gpus=facts)
    second = _by_smi(end, path)
    if second.state == "present" or (second.state == "none" and not bus):
        note = f"nvidia-smi told the NVIDIA GPUs, since {facts.reason}"
        return Finding("nvidia-smi", notes=(note,), gpus=second)
    # A driver that hangs may hang whoever reads its files, too.
    third = _by_proc(root, bus, facts.reason, asks_cards=time.monotonic() < end)
    return third if third.gpus.state == "present" else Finding("NVML", gpus=facts)


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


def _by_nvml(time_limit: float, *, on_bus: bool) -> GpuFacts:
    argv = [sys.executable, "-I", str(Path(__file__).with_name("nvml.py"))]
    try:
        answer = process.run(argv, env=_environment(SYSTEM_PATH), timeout=time_limit).stdout
    except process.ProcessTimeoutError:
        return GpuFacts("unknown", f"NVML did not answer within {time_limit:g} s")
    except RuntimeFailure as error:
        return GpuFacts("unknown", f"the NVML probe failed: {_one_line(error.message)}")
    return parse_answer(answer, on_bus=on_bus)


def _by_smi(end: float, path: str) -> GpuFacts:
    """Ask nvidia-smi for the rest of the time, first as newer drivers can be asked."""

    def ask(*words: str) -> process.Completed:
        left = end - time.monotonic()
        if left <= 0:
            raise RuntimeFailure("no time was left for nvidia-smi")
        argv = ["nvidia-smi", *words]
        return process.run(argv, env=_environment(path), timeout=left, check=False)

    try:
        for query in (QUERY, OLD_QUERY):
            done = ask(f"--query-gpu={query}", "--format=csv,noheader")
            if done.returncode == _NO_DEVICES:
                return GpuFacts("none", "this node has no NVIDIA GPU (nvidia-smi finds none)")
            if done.returncode == 0:
                text = done.stdout.decode(errors="replace")
                has_slices = ", Enabled" in text
                listing = ask("-L").stdout.decode(errors="replace") if has_slices else ""
                return parse_smi(text, listing)
    except RuntimeFailure as error:
        return GpuFacts("unknown", _one_line(error.message))
    return GpuFacts("unknown", f"nvidia-smi exited with {done.returncode}")


def _by_proc(root: Path, bus: Sequence[PciGpu], why: str, *, asks_cards: bool = True) -> Finding:
    driver = root / DRIVER
    found = entries(driver / "gpus") if asks_cards else ()
    cards = {card.name: read_text(card / "information") for card in found}
    facts = parse_proc(read_text(driver / "version"), cards, bus)
    # Whatever asks the driver knows more: a job may have got a slice.
    unknown = f"gpus: MIG slices of NVIDIA's are not known: {why}"
    unknowns = (unknown,) if facts.state == "present" else ()
    return Finding(f"/{DRIVER} and PCI ids", unknowns=unknowns, gpus=facts)


def _environment(path: str) -> dict[str, str]:
    # The child is root's where the prolog asks: no variable of a job may reach its loader.
    return {"PATH": path, "LC_ALL": "C"}


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
        instances=tuple(str(one) for one in document.get("instances", ()) if one),
    )
    if not _CAPABILITY.fullmatch(gpu.capability):
        raise ValueError(f"capability {gpu.capability}")
    return gpu


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:200]
