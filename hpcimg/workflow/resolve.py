"""From a name and a profile to one image: fetch what the name means, select, say why."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from hpcimg.errors import RegistryError
from hpcimg.oci.digest import shortened
from hpcimg.oci.model import DOCUMENT_LIMIT, Descriptor, Index, Manifest, platform_of_config
from hpcimg.oci.reference import Reference, parse_reference
from hpcimg.policy import Policy, policy_for
from hpcimg.requirements import Entry, entries_of, entry_of
from hpcimg.selection import Candidate, Resolution, check_single, require, select

if TYPE_CHECKING:
    from hpcimg.node.profile import NodeProfile
    from hpcimg.settings import Settings
    from hpcimg.workflow.ensure import BlobSource

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
        return require(self.resolution, self.reference)

    def image(self) -> Reference:
        """Name the pick by its digest."""
        return self.reference.with_digest(self.require().descriptor.digest)


def read_name(name: str, settings: Settings) -> Reference:
    """Parse a name as this site means it: default registry, short names, aliases."""
    return parse_reference(
        name, default_registry=settings.default_registry, aliases=settings.aliases
    )


def resolve(
    reference: Reference, profile: NodeProfile, client: BlobSource, policy: Policy
) -> Resolved:
    """Fetch what the reference names and select for the profile; raises RegistryError and kin."""
    return resolve_document(reference, client.fetch_document(reference), profile, client, policy)


def resolve_document(
    reference: Reference,
    document: Manifest | Index,
    profile: NodeProfile,
    client: BlobSource,
    policy: Policy,
) -> Resolved:
    """Select for the profile from a document that is at hand; one fetch serves many profiles."""
    if isinstance(document, Index):
        resolution = select(profile, entries_of(document), policy)
    else:
        resolution = check_single(profile, _single(reference, document, client), policy)
    _tell(reference, profile, resolution)
    if resolution.warning:
        log.warning("%s %s", reference, resolution.warning)
    return Resolved(reference, document.digest, isinstance(document, Index), profile, resolution)


def _tell(reference: Reference, profile: NodeProfile, resolution: Resolution) -> None:
    """Log what is decided, and before it why."""
    for each in resolution.candidates:
        log.debug("%s: %s: %s", shortened(each.descriptor.digest), each.verdict, each.reason)
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


def _single(reference: Reference, manifest: Manifest, client: BlobSource) -> Entry:
    """Describe an image without an index: its platform is what its config says."""
    if manifest.config.size > DOCUMENT_LIMIT:
        raise RegistryError(f'the config of "{reference}" has {manifest.config.size} bytes')
    config = BytesIO()
    client.fetch_blob_to(reference, manifest.config, config)
    return entry_of(
        Descriptor(
            media_type=manifest.media_type,
            digest=manifest.digest,
            size=len(manifest.raw),
            platform=platform_of_config(config.getvalue()),
            annotations=manifest.annotations,
        )
    )
