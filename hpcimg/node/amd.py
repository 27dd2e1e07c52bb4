"""The probe for AMD GPUs: the topology files of the kernel's KFD, parsed into devices.

Reads no library. The mode sramecc is the device's; xnack is chosen when a process starts, so it
stays open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpcimg.node.gpus import Gpu, GpuFacts
from hpcimg.node.pci import AMD
from hpcimg.node.probe import Finding, entries, read_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from hpcimg.node.pci import PciGpu

_NODES = "sys/class/kfd/kfd/topology/nodes"
# Graphics inside a processor, after LLVM's table of targets; no Slurm site counts them.
_INTEGRATED = frozenset(
    {"gfx902", "gfx909", "gfx90c", "gfx1013", "gfx1033", "gfx1035", "gfx1036", "gfx1037", "gfx1103"}
)
# Those whose code may depend on sramecc, after the same table.
_WITH_SRAMECC = frozenset({"gfx906", "gfx908", "gfx90a", "gfx940", "gfx941", "gfx942", "gfx950"})
# HSA_CAP_SRAM_EDCSUPPORTED, which ROCm's runtime goes by; bit 19 was its place in old kernels.
_SRAMECC = 1 << 26


def probe_amd(root: Path, bus: Iterable[PciGpu]) -> Finding:
    """Find the AMD GPUs under `root`; `bus` tells of those whose driver is missing."""
    nodes = _node_folders(root)
    if not nodes:
        return _without_driver([gpu for gpu in bus if gpu.vendor == AMD])
    texts = [read_text(node / "properties") for node in nodes]
    names = [_name(root, *pair) for pair in zip(nodes, texts, strict=True)]
    devices, notes, unknown = parse_topology(texts, names)
    state = "present" if devices else "unknown" if unknown else "none"
    version = read_text(root / "sys/module/amdgpu/version") or None
    facts = GpuFacts(state, unknown, devices=devices, amd_driver=version if devices else None)
    return Finding(f"/{_NODES}", notes=notes, gpus=facts)


def parse_topology(
    texts: Sequence[str], names: Sequence[str]
) -> tuple[tuple[Gpu, ...], tuple[str, ...], str]:
    """Parse the nodes' properties: the devices, notes, and what could not be read.

    A GPU that a job's device cgroup hides has no properties; it keeps its place in the count.
    """
    devices: list[Gpu] = []
    notes = [
        f"AMD graphics {target} is part of the processor: not counted as a GPU"
        for text in texts
        if (target := target_of(_numbers(text).get("gfx_target_version", 0))) in _INTEGRATED
    ]
    unknown = ""
    for index, at, facts in _counted(texts):
        target = target_of(facts.get("gfx_target_version", 0))
        if not texts[at]:
            notes.append(f"AMD GPU {index} (KFD node {at}) is hidden from this process")
        elif not target:
            unknown = f"the kernel does not tell the target of AMD GPU {index}"
        else:
            serial = facts.get("unique_id", 0)
            uuid = f"GPU-{serial:016x}" if serial else ""
            devices.append(
                Gpu(index, uuid, names[at], vendor="amd", target=target + _modes(target, facts))
            )
    return tuple(devices), tuple(notes), unknown


def render_minors(root: Path) -> dict[int, int]:
    """Tell the number of the render device of each GPU, by the index that it has in a profile."""
    texts = [read_text(node / "properties") for node in _node_folders(root)]
    return {
        index: facts["drm_render_minor"]
        for index, _, facts in _counted(texts)
        if facts.get("drm_render_minor")
    }


def _node_folders(root: Path) -> list[Path]:
    return sorted(entries(root / _NODES), key=lambda path: (len(path.name), path.name))


def _counted(texts: Sequence[str]) -> Iterator[tuple[int, int, dict[str, int]]]:
    """Count the GPUs as Slurm does: each with its index, its KFD node, and what is told of it."""
    index = 0
    for at, text in enumerate(texts):
        facts = _numbers(text)
        is_cpu = text and not facts.get("simd_count")
        if is_cpu or target_of(facts.get("gfx_target_version", 0)) in _INTEGRATED:
            continue
        yield index, at, facts
        index += 1


def target_of(version: int) -> str:
    """Spell `gfx_target_version`: 90010 is gfx90a; minor and stepping are hexadecimal digits."""
    major, minor, stepping = version // 10000, version // 100 % 100, version % 100
    return f"gfx{major}{minor:x}{stepping:x}" if major else ""


def _modes(target: str, facts: dict[str, int]) -> str:
    if target not in _WITH_SRAMECC or "capability" not in facts:
        return ""
    return ":sramecc+" if facts["capability"] & _SRAMECC else ":sramecc-"


def _name(root: Path, node: Path, text: str) -> str:
    """Prefer the board's own name; the kernel's is a code name."""
    minor = _numbers(text).get("drm_render_minor", 0)
    board = root / f"sys/class/drm/renderD{minor}/device/product_name"  # codespell:ignore
    return read_text(board) or read_text(node / "name")


def _without_driver(found: Sequence[PciGpu]) -> Finding:
    notes = tuple(
        f"AMD graphics {gpu.device} has no compute driver: not counted as a GPU"
        for gpu in found
        if gpu.has_screen
    )
    facts = GpuFacts()
    if len(notes) < len(found):
        reason = "an AMD GPU is on the PCI bus, but the kernel has no KFD: is amdgpu loaded?"
        facts = GpuFacts("unknown", reason)
    return Finding("", notes=notes, gpus=facts)


def _numbers(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}
