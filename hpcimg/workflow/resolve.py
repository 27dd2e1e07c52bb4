"""From a name and a profile to one image: fetch what the name means, select, say why."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpcimg.oci.digest import shortened
from hpcimg.oci.model import Index, Manifest
from hpcimg.oci.reference import Reference, parse_reference
from hpcimg.policy import Policy, policy_for
from hpcimg.selection import Candidate, Resolution, check_single, require, select
from hpcimg.workflow.entries import EntryReader

if TYPE_CHECKING:
    from hpcimg.node.profile import NodeProfile
    from hpcimg.requirements import Entry
    from hpcimg.settings import Settings
    from hpcimg.workflow.source import ImageSource

log = logging.getLogger(__name__)


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
    """Parse a name as this site means it: default registry, short names, aliases."""
    return parse_reference(
        name, default_registry=settings.default_registry, aliases=settings.aliases
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
    reader = EntryReader(reference, source)
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
    """Select until the pick is one whose image adds no requirement to what its entry says."""
    while True:
        resolution = select(profile, entries, policy)
        if resolution.pick is None:
            return resolution
        entry = resolution.pick.entry
        complete = reader.complete(entry)
        if complete == entry:
            return resolution
        at = entries.index(entry)
        entries = (*entries[:at], complete, *entries[at + 1 :])
