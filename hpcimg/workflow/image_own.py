"""What an image says itself of how it wants to be run: its working directory and entrypoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpcimg.workflow.surroundings import NOTHING, Surroundings

if TYPE_CHECKING:
    from hpcimg.store.entry import Entry


def image_own(entry: Entry) -> Surroundings:  # noqa: ARG001 - still to be filled
    """Read them from the entry's record."""
    return NOTHING
