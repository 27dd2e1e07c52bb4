"""Three nodes of a job, as they were detected."""

from __future__ import annotations

from dataclasses import replace

from hpcimg.node.words import profile_from_words
from hpcimg.store.agreement import JobKey

NODES = ("bdw1", "skx1")
KEY = JobKey("folder", "7", "1001", "100")


def profile(node, words):
    """Make a detected profile of a node."""
    return replace(profile_from_words(f"linux/amd64:{words}", node=node), declared=False, words=())


BDW1, SKX1, ZEN1 = (
    profile("bdw1", "broadwell"),
    profile("skx1", "skylake_avx512"),
    profile("zen1", "zen3"),
)
