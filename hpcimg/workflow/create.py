"""`index create`: make a recipe of the tags that a repository has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hpcimg.errors import UsageError
from hpcimg.oci.reference import DEFAULT_TAG
from hpcimg.quoting import quoted
from hpcimg.template import Reading, TagTemplate, parse_template
from hpcimg.workflow.recipe import Recipe, RecipeEntry
from hpcimg.workflow.resolve import read_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hpcimg.oci.client import RegistryClient
    from hpcimg.oci.reference import Reference
    from hpcimg.settings import Settings

_VERSIONS_SHOWN = 5


@dataclass(frozen=True)
class Created:
    """The recipe, and the tags that it leaves out, each with the reason."""

    recipe: Recipe
    left_out: tuple[tuple[str, str], ...]


def create_recipe(
    template: str, settings: Settings, client: RegistryClient, target: str | None = None
) -> Created:
    """Read a repository's tags by `REPOSITORY:TEMPLATE` and make a recipe of those that fit.

    The generic image stands first, the others as their tags are sorted.
    """
    repository, form = _split(template, settings)
    return recipe_of_tags(repository, form, client.tags(repository), target)


def recipe_of_tags(
    repository: Reference, form: TagTemplate, tags: Iterable[str], target: str | None = None
) -> Created:
    """Make the recipe of these tags; the index is named `target`, or after the repository."""
    read: dict[str, Reading] = {}
    left_out: list[tuple[str, str]] = []
    first: dict[tuple[str, ...], str] = {}
    for tag in tags:
        found = form.read(tag)
        if found is None:
            left_out.append((tag, "does not fit the template"))
        elif found.words in first and read[first[found.words]].version == found.version:
            left_out.append((tag, f"says the same as {first[found.words]}"))
        else:
            read[tag] = found
            first.setdefault(found.words, tag)
    versions = sorted({found.version for found in read.values()})
    _refuse(repository, versions, read)
    ordered = sorted(read, key=lambda tag: (bool(read[tag].words), tag))
    entries = tuple(
        RecipeEntry(str(replace(repository, tag=tag)), features=read[tag].words) for tag in ordered
    )
    name = target or str(replace(repository, tag=versions[0] or DEFAULT_TAG))
    return Created(Recipe(name, (), entries), tuple(left_out))


def _split(template: str, settings: Settings) -> tuple[Reference, TagTemplate]:
    name, colon, form = template.rpartition(":")
    if not colon or "/" in form:
        raise UsageError(
            f"{quoted(template)} has no template", "write REPOSITORY:TEMPLATE, as tool:{cpu}-{gpu}"
        )
    return read_name(name, settings), parse_template(form)


def _refuse(repository: Reference, versions: list[str], read: dict[str, Reading]) -> None:
    if not read:
        raise UsageError(
            f'no tag of "{repository.name}" fits the template',
            "see what the template's places take in docs/how-to/images.md",
        )
    if len(versions) > 1:
        shown = ", ".join(versions[:_VERSIONS_SHOWN])
        raise UsageError(
            f'tags of "{repository.name}" have {len(versions)} versions: {shown}',
            "write the wanted one into the template in the place of {version}",
        )
