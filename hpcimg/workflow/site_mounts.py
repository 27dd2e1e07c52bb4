"""What the site puts into all containers: directories and variables of its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpcimg.workflow.surroundings import NOTHING, Surroundings

if TYPE_CHECKING:
    from hpcimg.settings import Settings


def site_mounts(settings: Settings) -> Surroundings:  # noqa: ARG001 - still to be filled
    """Say it as the settings do."""
    return NOTHING
