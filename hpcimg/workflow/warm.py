"""`cache warm`, its plan: which images the nodes will pick of each name, before any job asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpcimg.errors import AuthenticationError, HpcimgError, NotListedError, UsageError
from hpcimg.node.words import profile_from_words
from hpcimg.quoting import quoted
from hpcimg.slurm import folded
from hpcimg.store.store import site_store
from hpcimg.workflow.access import site_access
from hpcimg.workflow.get import admission
from hpcimg.workflow.node_types import SPARES_GPU, NodeType, UnknownNode, node_types
from hpcimg.workflow.resolve import Resolved, read_name, resolve_document, site_policy

if TYPE_CHECKING:
    from hpcimg.oci.reference import Reference
    from hpcimg.settings import Settings
    from hpcimg.workflow.access import Access

_TYPES_SHOWN = 8


@dataclass(frozen=True)
class Hardware:
    """What to warm for: `nodes`, or all that have published; of these, `types` alone if any.

    A type is called as `coverage` calls it, or is a platform in words, of no node yet.
    """

    nodes: tuple[str, ...] = ()
    types: tuple[str, ...] = ()


@dataclass(frozen=True)
class Variant:
    """One image that some hardware picks of a name; `resolved` is the choice of its first.

    `nodes` are empty where the hardware was told in words.
    """

    name: str
    resolved: Resolved
    nodes: tuple[str, ...]

    @property
    def digest(self) -> str:
        """The image's digest."""
        return self.resolved.require().descriptor.digest

    @property
    def features(self) -> tuple[str, ...]:
        """What the image is for, as canonical words."""
        return self.resolved.require().features

    @property
    def label(self) -> str:
        """The name and the build, for people."""
        return f"{self.name} {','.join(self.features) or 'generic'}"


@dataclass(frozen=True)
class Refusal:
    """Hardware that gets no image, its nodes or words, and why."""

    where: str
    error: HpcimgError


@dataclass(frozen=True)
class Plan:
    """What to warm of one name: the variants, and what no image fits; or why it is no name."""

    name: str
    reference: str = ""
    variants: tuple[Variant, ...] = ()
    refused: tuple[Refusal, ...] = ()
    error: HpcimgError | None = None


def plan(
    names: Sequence[str], hardware: Hardware, settings: Settings
) -> tuple[tuple[Plan, ...], tuple[UnknownNode, ...]]:
    """Resolve each name for the hardware; and name the nodes of which nobody knows any.

    A name that fails says so in its plan, and stops no other. A node with GPUs counts twice: jobs
    on it may have a GPU or none.
    """
    references: dict[str, Reference | HpcimgError] = {}
    for name in names:
        try:
            references[name] = read_name(name, settings)
        except UsageError as error:
            references[name] = error
    good = [each for each in references.values() if not isinstance(each, HpcimgError)]
    types, unknown = _types(hardware, settings, good)
    access = site_access(settings)
    plans = []
    for name, reference in references.items():
        try:
            if isinstance(reference, HpcimgError):
                raise reference
            plans.append(_plan_one(name, reference, types, access, settings))
        except HpcimgError as error:
            plans.append(Plan(name, error=_explained(error)))
    return tuple(plans), unknown


def _types(
    hardware: Hardware, settings: Settings, references: Sequence[Reference]
) -> tuple[tuple[NodeType, ...], tuple[UnknownNode, ...]]:
    words = [each for each in hardware.types if "/" in each]
    called = [each for each in hardware.types if "/" not in each]
    told = tuple(NodeType(profile_from_words(each), (), spares_gpu=False) for each in words)
    if words and not called:
        return told, ()
    types, unknown = node_types(
        site_store(settings.store),
        hardware.nodes,
        settings,
        lambda profile: tuple(site_policy(settings, one, profile) for one in references),
    )
    if not called:
        return types, unknown
    return (*_called(called, types), *told), ()


def _called(names: Sequence[str], types: Sequence[NodeType]) -> Iterator[NodeType]:
    """Find types by name; one without GPU is also called as if it had none to spare."""
    by_name: dict[str, list[NodeType]] = {}
    for each in types:
        for name in {each.label, each.label.removesuffix(SPARES_GPU)}:
            by_name.setdefault(name, []).append(each)
    for name in names:
        if name not in by_name:
            there = list(dict.fromkeys(each.label for each in types))
            more = ", ..." if len(there) > _TYPES_SHOWN else ""
            raise UsageError(
                f"no node is of the type {quoted(name)}",
                f"there are {', '.join(there[:_TYPES_SHOWN])}{more}; "
                "write what no node has yet as linux/amd64:WORDS",
            )
    wanted = {id(each): each for name in names for each in by_name[name]}
    yield from wanted.values()


def _plan_one(
    name: str,
    reference: Reference,
    types: Sequence[NodeType],
    access: Access,
    settings: Settings,
) -> Plan:
    admission(access, settings).check_rules(reference)
    # One fetch for all nodes: a tag that moves meanwhile cannot split the plan.
    document = access.source.fetch_document(reference)
    picks: dict[str, tuple[Resolved, list[str]]] = {}
    refused: dict[str, Refusal] = {}
    for one in types:
        policy = site_policy(settings, reference, one.profile)
        try:
            found = resolve_document(reference, document, one.profile, access.source, policy)
            digest = found.require().descriptor.digest
        except HpcimgError as error:
            refused.setdefault(error.message, Refusal(folded(one.nodes) or one.label, error))
            continue
        picks.setdefault(digest, (found, []))[1].extend(one.nodes)
    variants = (Variant(name, found, tuple(dict.fromkeys(on))) for found, on in picks.values())
    return Plan(name, str(reference), tuple(variants), tuple(refused.values()))


def _explained(error: HpcimgError) -> HpcimgError:
    """Say why a private image cannot be warmed: the site's store holds what all may read."""
    if isinstance(error, AuthenticationError) and not isinstance(error, NotListedError):
        hint = "only the site's images are warmed; a job, or `hpcimg run`, fetches yours for you"
        return AuthenticationError(error.message, hint)
    return error
