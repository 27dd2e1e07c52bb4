"""The entries behind a name with all that they require: nested indexes, configs, artifacts.

Fetches by digest only, and never judges what fits a node.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from hpcimg.errors import ContentError, NotFoundError, RegistryError
from hpcimg.oci.model import (
    DOCKER_CONFIG,
    ENTRY_LIMIT,
    MANIFEST_TYPES,
    OCI_CONFIG,
    Descriptor,
    Index,
    Manifest,
    Platform,
    platform_of_config,
)
from hpcimg.oci.reference import Reference
from hpcimg.requirements import Entry, Requirement, entry_of, requirements_of, too_many
from hpcimg.workflow.source import ImageSource, read_text

DEPTH_LIMIT = 4
"""How many nested indexes may lead to an entry."""

log = logging.getLogger(__name__)

_CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})


def read_entries(
    reference: Reference, document: Manifest | Index, source: ImageSource
) -> tuple[Entry, ...]:
    """Give every entry behind a document in order; see EntryReader."""
    return EntryReader(reference, source).entries(document)


@dataclass(frozen=True)
class _Image:
    """What an image's manifest and config, or its artifact, say of it; `skip` as in an Entry."""

    platform: Platform | None = None
    requirements: tuple[Requirement, ...] = ()
    skip: str = ""


class EntryReader:
    """Reads entries of one name, each image once.

    Raises RegistryError and its kin when a registry fails: on half of the facts a choice would be
    a guess. A manifest that a registry does not have says nothing; an image of which something
    cannot be read is skipped. With a `limit`, RegistryError says that more images would be read.
    """

    def __init__(self, reference: Reference, source: ImageSource, limit: int | None = None) -> None:
        self._reference = reference
        self._source = source
        self._limit = limit
        self._images: dict[str, _Image] = {}
        self._artifacts: dict[str, _Image] = {}
        self._visited = 0

    def entries(
        self, document: Manifest | Index, only: tuple[str, str] | None = None
    ) -> tuple[Entry, ...]:
        """Give every entry behind a document in order, those of a nested index in its place.

        An entry that says nothing itself is completed from its image: a missing platform, missing
        words. With `only`, an os and an architecture, words of other platforms are not read.
        """
        if isinstance(document, Manifest):
            alone = Descriptor(
                document.media_type,
                document.digest,
                len(document.raw),
                annotations=document.annotations,
            )
            entry = self.complete(self._entry(alone, None))
            if entry.skip:
                raise ContentError(f'"{self._reference}" {entry.skip}', "push the image again")
            return (entry,)
        self._visited = 0
        found = list(self._below(document.manifests, None, (document.digest,)))
        return tuple(
            self.complete(entry) if _is_wordless(entry, only) else entry for entry in found
        )

    def complete(self, entry: Entry) -> Entry:
        """Add what the image says itself; its config knows best for which platform it is."""
        descriptor = entry.descriptor
        if entry.skip:
            return entry
        image = self._image(descriptor)
        if image.platform is not None and _disagree(image.platform, descriptor.platform):
            entry = replace(entry, descriptor=replace(descriptor, platform=image.platform))
        artifact = self._artifact(entry.descriptor)
        if image.skip or artifact.skip:
            log.warning("%s %s", descriptor.digest, image.skip or artifact.skip)
            return replace(entry, skip=image.skip or artifact.skip)
        return entry.requiring((*image.requirements, *artifact.requirements))

    @property
    def images_read(self) -> int:
        """Count the images that were read."""
        return len(self._images)

    def has_read(self, entry: Entry) -> bool:
        """Tell whether the entry has all that its image says."""
        return entry.descriptor.digest in self._artifacts

    def _below(
        self, descriptors: Sequence[Descriptor], outer: Entry | None, way: tuple[str, ...]
    ) -> Iterator[Entry]:
        """Walk depth-first; `way` are the digests from the named index to these descriptors."""
        for descriptor in descriptors:
            self._visited += 1
            if self._visited > ENTRY_LIMIT:
                raise RegistryError(
                    f'"{self._reference}" has more than {ENTRY_LIMIT} entries, '
                    "those of its nested indexes included"
                )
            entry = replace(self._entry(descriptor, outer), path=way[1:])
            if descriptor.is_index and not entry.skip and not _is_attestation(descriptor):
                yield from self._nested(entry, way)
            else:
                yield entry

    def _nested(self, entry: Entry, way: tuple[str, ...]) -> Iterator[Entry]:
        digest = entry.descriptor.digest
        if digest in way:
            yield replace(entry, skip="is an index that holds itself")
        elif len(way) > DEPTH_LIMIT:
            yield replace(entry, skip=f"is an index more than {DEPTH_LIMIT} indexes deep")
        else:
            try:
                index = self._document(digest)
            except ContentError as error:
                yield replace(entry, skip=f"is an index that cannot be read: {error.message}")
                return
            if isinstance(index, Index):
                yield from self._below(index.manifests, entry, (*way, digest))
            else:
                yield replace(entry, skip="is an index that the registry does not have")

    def _entry(self, descriptor: Descriptor, outer: Entry | None) -> Entry:
        """Make an entry that also requires all that the index around it does."""
        around = None if outer is None else outer.descriptor.platform
        if not _is_placed(descriptor.platform):
            descriptor = self._placed(descriptor, around)
        entry = entry_of(descriptor)
        if outer is not None:
            entry = entry.requiring(outer.requirements)
        platform = descriptor.platform
        if platform is not None and not platform.is_unknown and _disagree(platform, around):
            return replace(entry, skip=f"is for {platform} inside an index for {around}")
        return entry

    def _placed(self, descriptor: Descriptor, around: Platform | None) -> Descriptor:
        """Fill in a missing platform: that of the index around, or the image's own."""
        found: Platform | None
        if around is not None and _is_placed(around):
            # What else the index around says is added to the requirements.
            found = Platform(around.os, around.architecture)
        else:
            found = self._image(descriptor).platform
        if found is None:
            return descriptor
        own = descriptor.platform or found
        platform = replace(
            own,
            os=found.os,
            architecture=found.architecture,
            variant=own.variant or found.variant,
        )
        return replace(descriptor, platform=platform)

    def _document(self, digest: str) -> Manifest | Index | None:
        try:
            return self._source.fetch_document(self._reference.with_digest(digest))
        except NotFoundError:
            return None

    def _image(self, descriptor: Descriptor) -> _Image:
        if descriptor.media_type not in MANIFEST_TYPES:
            return _Image()
        if descriptor.digest not in self._images:
            if self._limit is not None and len(self._images) >= self._limit:
                raise RegistryError(
                    f'"{self._reference}": choosing takes more than the {self._limit} images that '
                    "are read for it",
                    "write what the images require into the index, with `hpcimg index push`",
                )
            self._images[descriptor.digest] = self._read_image(descriptor)
        return self._images[descriptor.digest]

    def _read_image(self, descriptor: Descriptor) -> _Image:
        from hpcimg.metadata import config_requirements

        try:
            manifest = self._document(descriptor.digest)
        except ContentError as error:
            return _Image(skip=f"has a manifest that cannot be read: {error.message}")
        if not isinstance(manifest, Manifest) or manifest.config.media_type not in _CONFIG_TYPES:
            return _Image()
        try:
            raw = read_text(self._source, self._reference, manifest.config)
            platform = platform_of_config(raw)
        except (NotFoundError, ContentError) as error:
            return _Image(skip=f"has a config that cannot be read: {error.message}")
        own = Descriptor(
            manifest.media_type,
            manifest.digest,
            len(manifest.raw),
            platform=platform,
            annotations=manifest.annotations,
        )
        said = (*requirements_of(own), *config_requirements(raw))
        return _Image(platform if _is_placed(platform) else None, said, too_many(said))

    def _artifact(self, descriptor: Descriptor) -> _Image:
        if descriptor.media_type not in MANIFEST_TYPES:
            return _Image()
        if descriptor.digest not in self._artifacts:
            self._artifacts[descriptor.digest] = self._read_artifact(descriptor)
        return self._artifacts[descriptor.digest]

    def _read_artifact(self, descriptor: Descriptor) -> _Image:
        """Read the newest compatibility artifact that is attached to the image."""
        from hpcimg.metadata import COMPATIBILITY_TYPE, artifact_requirements

        subject = self._reference.with_digest(descriptor.digest)
        found = self._source.referrers(subject, COMPATIBILITY_TYPE)
        try:
            artifact = self._document(found[0]) if found else None
            if not isinstance(artifact, Manifest) or not artifact.layers:
                return _Image()
            raw = read_text(self._source, self._reference, artifact.layers[0])
        except (NotFoundError, ContentError) as error:
            return _Image(skip=f"has an artifact that cannot be read: {error.message}")
        platform = descriptor.platform
        architecture = None if platform is None else platform.architecture
        return _Image(requirements=artifact_requirements(raw, architecture))


def _is_placed(platform: Platform | None) -> bool:
    return platform is not None and bool(platform.os and platform.architecture)


def _is_attestation(descriptor: Descriptor) -> bool:
    return descriptor.platform is not None and descriptor.platform.is_unknown


def _is_wordless(entry: Entry, only: tuple[str, str] | None) -> bool:
    platform = entry.descriptor.platform
    if entry.skip or entry.requirements or platform is None or platform.is_unknown:
        return False
    return only is None or (platform.os, platform.architecture) == only


def _disagree(platform: Platform, other: Platform | None) -> bool:
    """Tell whether two platforms are of another os or architecture; an empty one agrees."""
    if other is None or not (_is_placed(platform) and _is_placed(other)):
        return False
    return (platform.os, platform.architecture) != (other.os, other.architecture)
