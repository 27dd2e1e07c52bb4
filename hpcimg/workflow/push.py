"""`index push`: make the index that a recipe describes and bring its images beside it."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcimg.errors import UsageError
from hpcimg.features import canonical_words, parse_feature
from hpcimg.oci.digest import digest_of, shortened
from hpcimg.oci.model import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    DOCUMENT_LIMIT,
    OCI_INDEX,
    Descriptor,
    Index,
    Manifest,
    Platform,
    normalise_platform,
    platform_of_config,
)
from hpcimg.oci.reference import Reference, parse_reference
from hpcimg.progress import OnProgress, Progress, silent
from hpcimg.requirements import FEATURES_ANNOTATION, TARGET_ANNOTATION, WEIGHT_ANNOTATION
from hpcimg.workflow.copy import copy_image, size_of
from hpcimg.workflow.recipe import Recipe, RecipeEntry, parse_recipe
from hpcimg.workflow.resolve import read_name

if TYPE_CHECKING:
    from hpcimg.oci.client import RegistryClient
    from hpcimg.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PushedEntry:
    """One image of the index: where it came from, what it is, which features it requires.

    `platform` has the author's own words, `features` their canonical form.
    """

    source: Reference
    manifest: Manifest = field(repr=False)
    platform: Platform
    features: tuple[str, ...]
    annotations: tuple[tuple[str, str], ...] = ()

    @property
    def is_generic(self) -> bool:
        """Whether any node of its architecture can run it."""
        return not self.features and not self.platform.variant


@dataclass(frozen=True)
class PushResult:
    """The index that was made, pushed unless `dry_run`."""

    reference: Reference
    digest: str
    media_type: str
    raw: bytes = field(repr=False)
    entries: tuple[PushedEntry, ...]
    dry_run: bool

    def to_json(self) -> dict[str, Any]:
        """Describe the result for programs."""
        return {
            "reference": str(self.reference),
            "digest": self.digest,
            "mediaType": self.media_type,
            "dryRun": self.dry_run,
            "entries": [
                {
                    "image": str(entry.source),
                    "digest": entry.manifest.digest,
                    "platform": str(entry.platform),
                    "features": list(entry.features),
                }
                for entry in self.entries
            ],
        }


def push_index(
    source: Path | str | Recipe,
    settings: Settings,
    client: RegistryClient,
    *,
    dry_run: bool = False,
    on_progress: OnProgress = silent,
) -> PushResult:
    """Make the index of a recipe (a file's path, or its text) and push it with its images.

    The same recipe and images give the same bytes, so pushing twice changes nothing.
    """
    recipe = source if isinstance(source, Recipe) else _read(source)
    target = read_name(recipe.image, settings)
    if target.digest is not None:
        raise UsageError(f'"{target}" names a digest', "an index is pushed under a tag")
    targets = [target, *(_with_tag(target, tag, settings) for tag in recipe.tags)]
    entries = tuple(_resolve(entry, settings, client) for entry in recipe.entries)
    # Clients that know no features take the first entry of their architecture.
    entries = tuple(sorted(entries, key=lambda entry: not entry.is_generic))
    media_type, raw = index_bytes(entries)
    if not dry_run:
        _copy(entries, target, client, on_progress)
        for reference in targets:
            client.put_manifest(reference, raw, media_type)
            log.info("pushed %s with %d entries", reference, len(entries))
    return PushResult(target, digest_of(raw), media_type, raw, entries, dry_run)


def _copy(
    entries: tuple[PushedEntry, ...],
    target: Reference,
    client: RegistryClient,
    report: OnProgress,
) -> None:
    total, done = sum(size_of(entry.manifest) for entry in entries), 0

    for entry in entries:
        size, part, before = size_of(entry.manifest), shortened(entry.manifest.digest), done

        def on_bytes(count: int, part: str = part, size: int = size, before: int = before) -> None:
            nonlocal done
            done += count
            report(Progress("copy", done - before, size, part=part))
            report(Progress("copy", done, total))

        copy_image(client, entry.source, entry.manifest, target, on_bytes)


def index_bytes(entries: tuple[PushedEntry, ...]) -> tuple[str, bytes]:
    """Write the index: a Docker manifest list for Docker's manifests only, else an OCI index."""
    is_docker = all(entry.manifest.media_type == DOCKER_MANIFEST for entry in entries)
    media_type = DOCKER_INDEX if is_docker else OCI_INDEX
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [_descriptor(entry) for entry in entries],
    }
    return media_type, json.dumps(document, indent=3, ensure_ascii=False).encode()


def _descriptor(entry: PushedEntry) -> dict[str, Any]:
    descriptor: dict[str, Any] = {
        "mediaType": entry.manifest.media_type,
        "size": len(entry.manifest.raw),
        "digest": entry.manifest.digest,
        "platform": _platform(entry.platform),
    }
    annotations = {**_said_again(entry.features), **dict(entry.annotations)}
    if annotations:
        descriptor["annotations"] = dict(sorted(annotations.items()))
    return descriptor


def _said_again(features: tuple[str, ...]) -> dict[str, str]:
    """Say the features in annotations too: tools that rewrite an index keep only those."""
    if not features:
        return {}
    said = {FEATURES_ANNOTATION: ",".join(features)}
    cpus = [
        feature for word in features for feature in parse_feature(word) if feature.kind == "cpu"
    ]
    if len(cpus) == 1 and len(cpus[0].alternatives) == 1 and not cpus[0].comparator:
        said[TARGET_ANNOTATION] = cpus[0].value
    return said


def _platform(platform: Platform) -> dict[str, Any]:
    optional = {
        "os.version": platform.os_version,
        "os.features": list(platform.os_features),
        "variant": platform.variant,
        "features": list(platform.features),
    }
    written = {key: value for key, value in optional.items() if value}
    return {"architecture": platform.architecture, "os": platform.os, **written}


def _read(source: Path | str) -> Recipe:
    if isinstance(source, str):
        return parse_recipe(source)
    try:
        text = source.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f'could not read "{source}": {error.strerror}', "name a YAML file") from (
            error
        )
    except UnicodeError as error:
        raise UsageError(f'"{source}" is not UTF-8 text', "name a YAML file") from error
    return parse_recipe(text, source=str(source))


def _with_tag(target: Reference, tag: str, settings: Settings) -> Reference:
    """Check a further tag by parsing it as part of a whole name."""
    parsed = parse_reference(f"{target.name}:{tag}", default_registry=settings.default_registry)
    return replace(target, tag=parsed.tag)


def _resolve(entry: RecipeEntry, settings: Settings, client: RegistryClient) -> PushedEntry:
    reference = read_name(entry.image, settings)
    document = client.fetch_document(reference)
    if isinstance(document, Index):
        document = _only_image(entry, reference, document, client)
    source = reference.with_digest(document.digest)
    platform = _complete(entry, source, document, client)
    features = canonical_words(platform.features, platform.architecture)
    annotations = dict(entry.annotations)
    if entry.weight is not None:
        annotations[WEIGHT_ANNOTATION] = str(entry.weight)
    return PushedEntry(source, document, platform, features, tuple(annotations.items()))


def _only_image(
    entry: RecipeEntry, reference: Reference, index: Index, client: RegistryClient
) -> Manifest:
    """Take the one image of a nested index; build tools wrap a single image with attestations."""
    fitting = [descriptor for descriptor in index.manifests if _fits(entry, descriptor)]
    if len(fitting) == 1 and not fitting[0].is_index:
        found = client.fetch_document(reference.with_digest(fitting[0].digest))
        if isinstance(found, Manifest):
            return found
    raise UsageError(
        f'"{reference}" is an index with {len(fitting)} fitting images',
        "name one image by its digest, or say its os and architecture under platform",
    )


def _fits(entry: RecipeEntry, descriptor: Descriptor) -> bool:
    platform = descriptor.platform
    if platform is None:
        return True
    os, architecture, _ = normalise_platform(
        entry.os or platform.os, entry.architecture or platform.architecture
    )
    return not platform.is_unknown and (platform.os, platform.architecture) == (os, architecture)


def _complete(
    entry: RecipeEntry, source: Reference, manifest: Manifest, client: RegistryClient
) -> Platform:
    """Fill what the author left out from the image's own config."""
    own = Platform(entry.os or "", entry.architecture or "")
    if entry.os is None or entry.architecture is None:
        if manifest.config.size > DOCUMENT_LIMIT:
            raise UsageError(f'"{source}" has a config of {manifest.config.size} bytes')
        own = platform_of_config(b"".join(client.fetch_blob(source, manifest.config)))
        if own.is_unknown:
            raise UsageError(
                f'"{source}" does not say its platform', "write os and architecture in the recipe"
            )
    os, architecture, _ = normalise_platform(
        entry.os or own.os, entry.architecture or own.architecture
    )
    return Platform(
        os=os,
        architecture=architecture,
        variant=entry.variant or own.variant,
        features=entry.features,
        os_version=entry.os_version,
        os_features=entry.os_features,
    )
