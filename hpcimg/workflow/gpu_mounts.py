"""What a job's GPUs need in its container: the driver's libraries, and no other GPU to be seen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hpcimg.bind import Bind
from hpcimg.errors import RuntimeFailure
from hpcimg.node.probe import has_gpu_files
from hpcimg.quoting import quoted
from hpcimg.workflow.surroundings import NOTHING, Surroundings

if TYPE_CHECKING:
    from pathlib import Path

    from hpcimg.node.gpus import GpuFacts
    from hpcimg.node.profile import NodeProfile
    from hpcimg.settings import Settings

_CUDA = "libcuda.so.1"
_IN_PLACE = ("bin", "sbin")


def gpu_mounts(
    profile: NodeProfile, gpus: tuple[str, ...] | None, settings: Settings
) -> Surroundings:
    """Say what comes in for a job with these GPUs of this node, and which others are hidden.

    None for `gpus` means that nobody manages them: all are the job's.
    """
    if not profile.gpus.devices and not has_gpu_files():
        return NOTHING
    from hpcimg.gpu_files import hidden_files, renumbered
    from hpcimg.node.gpu_files import read_device_files

    if settings.gpu_scope == "node":
        gpus = None
    files = read_device_files()
    if not files and not profile.gpus.devices:
        return Surroundings()
    facts = _of_this_node(profile, gpus)
    around = Surroundings()
    if gpus is not None:
        hidden = hidden_files(files, facts, gpus)
        around = Surroundings(hidden=hidden, renumbered=renumbered(hidden, files, gpus))
    if gpus == () or not files:
        return around
    return replace(around, binds=_libraries(profile.architecture, facts, settings))


def _of_this_node(profile: NodeProfile, gpus: tuple[str, ...] | None) -> GpuFacts:
    """Give the GPUs that are here: the words of a profile may offer others to choose an image."""
    from hpcimg.workflow.profile import this_node

    if profile.declared or profile.words:
        return this_node().allocated(gpus).gpus
    return profile.gpus


def _libraries(architecture: str, gpus: GpuFacts, settings: Settings) -> tuple[Bind, ...]:
    from hpcimg.node.gpu_files import find_driver, find_files

    wanted = settings.gpus.libraries
    if isinstance(wanted, tuple):
        found = find_files(wanted)
        lost = next((pattern for pattern, paths in found.items() if not paths), None)
        if lost is not None:
            raise RuntimeFailure(
                f"no file of this node fits {quoted(lost)}, which the job's GPU needs",
                "correct gpus.libraries in the settings, or install it on the node",
            )
        return tuple(_bind(path) for paths in found.values() for path in paths)
    if wanted == "none" or not gpus.of("nvidia"):
        return ()
    paths = find_driver(architecture, gpus.driver or "", settings.gpus.driver_parts)
    if not any(path.name == _CUDA for path in paths):
        raise RuntimeFailure(
            f"the job has an NVIDIA GPU, but this node's linker cache has no {_CUDA}"
            f"{f' of driver {gpus.driver}' if gpus.driver else ''}",
            "install the driver's libraries and run ldconfig, or name them in gpus.libraries",
        )
    return tuple(map(_bind, paths))


def _bind(path: Path) -> Bind:
    """Show a library where each image looks for it, anything else at its own place."""
    from hpcimg.gpu_files import LIBRARIES

    if ".so" in path.suffixes:
        return Bind(str(path), f"{LIBRARIES}/{path.name}", ("ro",))
    target = f"/usr/bin/{path.name}" if path.parent.name in _IN_PLACE else str(path)
    return Bind(str(path), target, ("ro",))
