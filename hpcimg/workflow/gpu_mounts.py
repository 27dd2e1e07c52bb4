"""What a job's GPUs need in its container: their devices and the driver's libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpcimg.workflow.surroundings import NOTHING, Surroundings

if TYPE_CHECKING:
    from hpcimg.node.profile import NodeProfile
    from hpcimg.settings import Settings


def gpu_mounts(
    profile: NodeProfile,  # noqa: ARG001 - still to be filled
    gpus: tuple[str, ...] | None,  # noqa: ARG001
    settings: Settings,  # noqa: ARG001
) -> Surroundings:
    """Say what comes in for these GPUs, and which other GPUs are hidden."""
    return NOTHING
