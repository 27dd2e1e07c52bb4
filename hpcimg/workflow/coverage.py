"""`coverage`: which node types of the cluster have a build of their own behind each name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpcimg.errors import NoCandidateError
from hpcimg.store.store import site_store
from hpcimg.variant import Closeness, closeness, exact_words
from hpcimg.workflow.node_types import NodeType, UnknownNode, node_types
from hpcimg.workflow.resolve import Resolved, read_name, resolve_document, site_policy

if TYPE_CHECKING:
    from hpcimg.settings import Settings
    from hpcimg.workflow.source import ImageSource


@dataclass(frozen=True)
class Cell:
    """What one node type gets of one image; `pick` are its words, `wanted` those of an exact build.

    `reason` says why there is no pick.
    """

    closeness: Closeness
    pick: tuple[str, ...]
    wanted: tuple[str, ...]
    reason: str = ""


@dataclass(frozen=True)
class Row:
    """One node type, and a cell for each image."""

    type: NodeType
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Coverage:
    """The images, as references, and the rows of the node types; `unknown` nodes are in none."""

    images: tuple[str, ...]
    rows: tuple[Row, ...]
    unknown: tuple[UnknownNode, ...]

    @property
    def is_whole(self) -> bool:
        """Tell whether each node type gets some image of each name."""
        return not self.unknown and all(
            cell.closeness != "none" for row in self.rows for cell in row.cells
        )

    def to_json(self) -> dict[str, Any]:
        """Write it as an object for programs."""
        return {
            "images": list(self.images),
            "types": [_row_json(row, self.images) for row in self.rows],
            "unknown": [{"node": one.node, "reason": one.error.message} for one in self.unknown],
        }


def coverage(
    names: Sequence[str], nodes: tuple[str, ...], settings: Settings, source: ImageSource
) -> Coverage:
    """Resolve each name for each node type; one fetch a name, however many nodes there are."""
    references = [read_name(name, settings) for name in names]
    documents = [source.fetch_document(reference) for reference in references]
    types, unknown = node_types(
        site_store(settings.store),
        nodes,
        settings,
        lambda profile: tuple(site_policy(settings, one, profile) for one in references),
    )
    rows = []
    for one in types:
        resolved = (
            resolve_document(
                reference,
                document,
                one.profile,
                source,
                site_policy(settings, reference, one.profile),
            )
            for reference, document in zip(references, documents, strict=True)
        )
        rows.append(Row(one, tuple(_cell(each) for each in resolved)))
    return Coverage(tuple(map(str, references)), tuple(rows), unknown)


def _cell(resolved: Resolved) -> Cell:
    pick = resolved.resolution.pick
    reason = ""
    try:
        resolved.require()
    except NoCandidateError as error:
        reason = error.message
    return Cell(
        closeness(resolved.profile, pick),
        () if pick is None else pick.features,
        exact_words(resolved.profile),
        reason,
    )


def _row_json(row: Row, images: Sequence[str]) -> dict[str, Any]:
    return {
        "type": row.type.label,
        "facts": row.type.profile.facts_digest(),
        "nodes": list(row.type.nodes),
        "exact": list(row.cells[0].wanted) if row.cells else [],
        "images": [
            {
                "image": image,
                "coverage": cell.closeness,
                "pick": None if cell.closeness == "none" else list(cell.pick),
                "reason": cell.reason,
            }
            for image, cell in zip(images, row.cells, strict=True)
        ],
    }
