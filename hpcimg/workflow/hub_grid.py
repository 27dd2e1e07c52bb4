"""Images by machine types: what each type gets, how close that is to its own build, and why."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpcimg.errors import HpcimgError, NoCandidateError
from hpcimg.hub.memory import Memory
from hpcimg.variant import Closeness, closeness, exact_words
from hpcimg.workflow.hub_choose import CHOICE_SECONDS

if TYPE_CHECKING:
    from hpcimg.hub.machine_type import MachineType
    from hpcimg.node.profile import NodeProfile
    from hpcimg.oci.reference import Reference
    from hpcimg.selection import Candidate
    from hpcimg.workflow.hub_choose import Chooser
    from hpcimg.workflow.resolve import Resolved

_CELLS_KEPT = 50_000


@dataclass(frozen=True)
class Cell:
    """What one type gets of one image; `closeness` is `unknown` where it could not be read.

    `words` are the pick's, `wanted` those of a build that would be exact.
    """

    closeness: Closeness | str
    words: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()
    reason: str = ""
    digest: str = ""


@dataclass(frozen=True)
class Row:
    """One image, and a cell for each type."""

    reference: Reference
    cells: tuple[Cell, ...]

    def to_json(self, types: Sequence[MachineType]) -> dict[str, Any]:
        """Write it as an object, with the builds that are lacking, the most wanted first."""
        lacking: Counter[str] = Counter()
        found = []
        for kind, cell in zip(types, self.cells, strict=True):
            said = {"build": cell.closeness, "features": list(cell.words), "reason": cell.reason}
            found.append({"type": kind.full_name, **said})
            if cell.closeness != "specific" and cell.wanted:
                lacking[" ".join(cell.wanted)] += 1
        wanted = [
            {"features": words.split(), "types": number} for words, number in lacking.most_common()
        ]
        return {"image": str(self.reference), "types": found, "wanted": wanted}


@dataclass(frozen=True)
class Explained:
    """One choice with all candidates, as a page or a program shows it."""

    reference: Reference
    cell: Cell
    candidates: tuple[Candidate, ...]

    def to_json(self) -> dict[str, Any]:
        """Write it as an object for programs."""
        return {
            "image": str(self.reference),
            "build": self.cell.closeness,
            "features": list(self.cell.words),
            "digest": self.cell.digest,
            "wanted": list(self.cell.wanted),
            "reason": self.cell.reason,
            "entries": [
                {
                    "digest": one.descriptor.digest,
                    "features": list(one.features),
                    "verdict": one.verdict,
                    "reason": one.reason,
                }
                for one in self.candidates
            ],
        }


class Grid:
    """Fills cells and remembers them for a while; threads may share it."""

    def __init__(self, chooser: Chooser, now: Callable[[], float] = time.time) -> None:
        self._chooser = chooser
        self._now = now
        self._cells: Memory[tuple[str, str, MachineType], tuple[float, Cell]] = Memory(_CELLS_KEPT)

    def row(self, reference: Reference, types: Sequence[MachineType]) -> Row:
        """Fill the cells of an image; what fails is told in them, and a registry asked once."""
        try:
            digest = self._chooser.digest(reference)
            cells = tuple(self._cell(reference, digest, one) for one in types)
        except HpcimgError as error:
            cells = (Cell("unknown", reason=error.message),) * len(types)
        return Row(reference, cells)

    def explain(self, reference: Reference, machine_type: MachineType) -> Explained:
        """Tell one choice with its reasons; raises the errors of the registry client."""
        return _explained(reference, self._chooser.resolve(reference, machine_type))

    def explain_for(self, reference: Reference, profile: NodeProfile) -> Explained:
        """Tell one choice for words that no type has."""
        return _explained(reference, self._chooser.resolve_for(reference, profile))

    def _cell(self, reference: Reference, digest: str, machine_type: MachineType) -> Cell:
        key = (reference.name, digest, machine_type)
        known = self._cells.get(key)
        if known is None or self._now() - known[0] > CHOICE_SECONDS:
            known = (self._now(), self.explain(reference, machine_type).cell)
            self._cells.put(key, known)
        return known[1]


def _explained(reference: Reference, resolved: Resolved) -> Explained:
    pick = resolved.resolution.pick
    reason = "" if pick is None else pick.reason
    try:
        resolved.require()
    except NoCandidateError as error:
        reason = error.message
    cell = Cell(
        closeness(resolved.profile, pick),
        () if pick is None else pick.features,
        exact_words(resolved.profile),
        reason,
        "" if pick is None else pick.descriptor.digest,
    )
    return Explained(reference, cell, resolved.resolution.candidates)
