"""The host's MPI or fabric libraries in place of the image's, where the site wants it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpcimg.workflow.surroundings import NOTHING, Surroundings

if TYPE_CHECKING:
    from hpcimg.settings import Settings
    from hpcimg.store.entry import Entry


def host_mpi(entry: Entry, settings: Settings) -> Surroundings:  # noqa: ARG001 - still to be filled
    """Say which files of the host this image gets."""
    return NOTHING
