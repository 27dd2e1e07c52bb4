"""`wanted`: the builds that jobs missed; noted at each launch, counted for who builds next."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpcimg.amounts import utc_text
from hpcimg.errors import HpcimgError
from hpcimg.quoting import quoted
from hpcimg.store.wanted import Missed, append_missed, read_missed
from hpcimg.variant import exact_words, is_missed

if TYPE_CHECKING:
    from hpcimg.store.store import Store
    from hpcimg.workflow.resolve import Resolved

_DAY = 86400.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Want:
    """A build that jobs missed: `variant` are the words it would require.

    `got` counts the jobs by what they took instead, `refused` where nothing fitted.
    """

    reference: str
    variant: tuple[str, ...]
    jobs: int
    nodes: tuple[str, ...]
    last: int
    got: tuple[tuple[str, int], ...]

    def to_json(self) -> dict[str, Any]:
        """Write it as an object for programs."""
        return {
            "reference": self.reference,
            "variant": list(self.variant),
            "jobs": self.jobs,
            "nodes": list(self.nodes),
            "last": utc_text(self.last),
            "got": dict(self.got),
        }


def note_missed(
    resolved: Resolved, store: Store, job: str, node: str, *, is_refused: bool = False
) -> None:
    """Note in the site's store that a job gets no build made for its node; never raises.

    `is_refused` says that it gets none at all, whatever fits this node. A job that named a digest
    wanted just that; without a job nobody missed anything.
    """
    if not job or resolved.reference.digest:
        return
    if not is_missed(resolved.profile, resolved.resolution):
        return
    pick = resolved.resolution.pick
    missed = Missed(
        time=int(time.time()),
        reference=str(resolved.reference),
        variant=exact_words(resolved.profile),
        job=job,
        node=node or resolved.profile.node,
        got=None if pick is None or is_refused else pick.features,
    )
    try:
        append_missed(store, missed)
    except (HpcimgError, OSError) as error:
        log.debug("could not note what job %s missed: %s", job, error)


def wanted(store: Store, days: float) -> tuple[Want, ...]:
    """Count what jobs of the last days missed, the most wanted first."""
    return count(read_missed(store, time.time() - days * _DAY))


def count(found: Iterable[Missed]) -> tuple[Want, ...]:
    """Count jobs for each image and build; steps and nodes of one job are one."""
    groups: dict[tuple[str, tuple[str, ...]], list[Missed]] = {}
    for one in found:
        groups.setdefault((one.reference, one.variant), []).append(one)
    wants = [_want(reference, variant, group) for (reference, variant), group in groups.items()]
    return tuple(sorted(wants, key=lambda one: (-one.jobs, one.reference, one.variant)))


def _want(reference: str, variant: tuple[str, ...], group: list[Missed]) -> Want:
    got = Counter(label for label, _ in {(_label(one), one.job) for one in group})
    return Want(
        reference=_shown(reference),
        variant=tuple(map(_shown, variant)),
        jobs=len({one.job for one in group}),
        nodes=tuple(sorted({one.node for one in group})),
        last=max(one.time for one in group),
        got=tuple(sorted(got.items(), key=lambda item: (-item[1], item[0]))),
    )


def _label(missed: Missed) -> str:
    if missed.got is None:
        return "refused"
    return ",".join(map(_shown, missed.got)) or "generic"


def _shown(word: str) -> str:
    """Escape what a journal that others wrote could have in it."""
    return word if word.isprintable() and word.isascii() else quoted(word)
