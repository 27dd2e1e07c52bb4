"""Which converter a node uses: the fast one where its programs are, else `apptainer build`."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING

from hpcimg.runtime.packer import SEARCH_PATH
from hpcimg.runtime.stream import StreamConverter
from hpcimg.settings import Limits, Settings

if TYPE_CHECKING:
    from hpcimg.runtime.convert import Converter

log = logging.getLogger(__name__)


def choose_converter(settings: Settings) -> Converter:
    """Choose by what is installed; the entry's key tells which one made it."""
    return _choose(settings.merger, settings.apptainer, settings.limits)


@lru_cache(maxsize=1)
def _choose(merger: str, apptainer: str, limits: Limits) -> Converter:
    fast = StreamConverter(merger, SEARCH_PATH, limits)
    if not fast.lack:
        return fast
    # Every launch asks which one it is, and hardly any needs the other.
    from hpcimg.runtime.convert import ApptainerConverter

    log.warning("%s: images are converted by `apptainer build`, which takes longer", fast.lack)
    return ApptainerConverter(apptainer, seconds=limits.seconds)
