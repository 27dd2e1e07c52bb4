"""From a name and a profile to one image: fetch what the name means, select, say why."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hpcimg.oci import registries_conf
from hpcimg.oci.digest import shortened
from hpcimg.oci.model import Index, Manifest
from hpcimg.oci.reference import DOCKER_HUB, Reference, is_short, parse_reference
from hpcimg.oci.registries_conf import ShortNames, files_of, read_short_names
from hpcimg.policy import Policy, policy_for
from hpcimg.ranking import Rank, rank
from hpcimg.selection import Candidate, Resolution, check_single, judge, require, select
from hpcimg.workflow.entries import EntryReader

if TYPE_CHECKING:
    from hpcimg.node.profile import NodeProfile
    from hpcimg.requirements import Entry
    from hpcimg.settings import Settings
    from hpcimg.workflow.source import ImageSource

log = logging.getLogger(__name__)

READ_ANYHOW = 16
"""Images that are read for a choice: the best by what the index says of them."""
READ_LIMIT = 64
"""Images that may be read for one choice; it is refused where more would be needed."""


@dataclass(frozen=True)
class Resolved:
    """What a name meant for a profile; `digest` is the document's that the name stands for."""

    reference: Reference
    digest: str
    is_index: bool
    profile: NodeProfile
    resolution: Resolution

    def require(self) -> Candidate:
        """Give the pick, or raise NoCandidateError with each candidate's reason."""
        return require(self.resolution, self.reference, self.profile.node)

    def image(self) -> Reference:
        """Name the pick by its digest."""
        return self.reference.with_digest(self.require().descriptor.digest)


def read_name(name: str, settings: Settings) -> Reference:
    """Parse a name as this site means it: default registry, short names, aliases.

    Where the settings name no registry of their own, a short name is what the administrator's
    registries.conf calls it; that of a user would mean something else on the nodes.
    """
    registry, short = settings.default_registry, ShortNames()
    if registry == DOCKER_HUB and is_short(name):
        short = read_short_names(files_of(registries_conf.SYSTEM))
        # Several would have to be searched, and the first that has the name might be anybody's.
        registry = short.search[0] if len(short.search) == 1 else registry
    return parse_reference(
        name, default_registry=registry, aliases=settings.aliases, short_names=short.aliases
    )


def resolve(
    reference: Reference, profile: NodeProfile, source: ImageSource, policy: Policy
) -> Resolved:
    """Fetch what the reference names and select for the profile; raises RegistryError and kin."""
    return resolve_document(reference, source.fetch_document(reference), profile, source, policy)


def resolve_document(
    reference: Reference,
    document: Manifest | Index,
    profile: NodeProfile,
    source: ImageSource,
    policy: Policy,
) -> Resolved:
    """Select for the profile from a document that is at hand; one fetch serves many profiles."""
    reader = EntryReader(reference, source, READ_LIMIT)
    entries = reader.entries(document, (profile.os, profile.architecture))
    if isinstance(document, Index):
        resolution = _choose(reader, entries, profile, policy)
    else:
        resolution = check_single(profile, entries[0], policy)
    _tell(reference, profile, resolution)
    if resolution.warning:
        log.warning("%s %s", reference, resolution.warning)
    return Resolved(reference, document.digest, isinstance(document, Index), profile, resolution)


def _tell(reference: Reference, profile: NodeProfile, resolution: Resolution) -> None:
    """Log what is decided, and before it why."""
    for each in resolution.candidates:
        why = each.reason.removeprefix("fits, ")
        log.debug("%s: %s: %s", shortened(each.descriptor.digest), each.verdict, why)
    node = profile.node or "the node that the words describe"
    pick = resolution.pick
    if pick is None:
        log.info("%s: nothing for %s", reference, node)
    else:
        log.info(
            "%s: %s (%s) for %s", reference, shortened(pick.descriptor.digest), pick.label, node
        )


def site_policy(
    settings: Settings, reference: Reference, profile: NodeProfile, kind: str | None = None
) -> Policy:
    """Give what the site's rules, and this call's own word, say of one image on one node."""
    return policy_for(settings.policy_rules(), reference, profile, kind=kind)


def _choose(
    reader: EntryReader, entries: tuple[Entry, ...], profile: NodeProfile, policy: Policy
) -> Resolution:
    def rank_of(at: int, entry: Entry) -> Rank | None:
        fits = judge(profile, entry, policy).verdict == "fits"
        return rank(profile, entry, policy, at) if fits else None

    return with_unread(reader, select(profile, completed(reader, entries, rank_of), policy))


def completed(
    reader: EntryReader,
    entries: tuple[Entry, ...],
    rank_of: Callable[[int, Entry], Rank | None],
) -> tuple[Entry, ...]:
    """Add to the entries what their images say, until the best of all is known.

    What an image says can make its entry worse or better, so a few are read in any case. `rank_of`
    gives an entry's rank, by its place in the index, or None where it does not fit.
    """
    found = list(entries)
    ranks = {at: known for at, one in enumerate(found) if (known := rank_of(at, one)) is not None}
    best: Rank | None = None
    for at in sorted(ranks, key=lambda one: ranks[one], reverse=True):
        is_known = best is not None and best > ranks[at]
        if is_known and reader.images_read >= READ_ANYHOW and not reader.has_read(found[at]):
            break
        found[at] = reader.complete(found[at])
        known = rank_of(at, found[at])
        if known is not None and (best is None or known > best):
            best = known
    return tuple(found)


def with_unread(reader: EntryReader, resolution: Resolution) -> Resolution:
    """Say of which candidates only the index is known."""
    if all(one.verdict != "fits" or reader.has_read(one.entry) for one in resolution.candidates):
        return resolution
    return replace(
        resolution,
        candidates=tuple(
            replace(one, reason=f"{one.reason} (by the index alone: its image is not read)")
            if one.verdict == "fits" and not reader.has_read(one.entry)
            else one
            for one in resolution.candidates
        ),
    )
