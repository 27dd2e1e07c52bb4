"""Indexes, manifests and their descriptors, parsed from raw bytes into frozen types.

Owns media types, shapes and limits; never selects, never talks to a registry.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpcimg.errors import ContentError, RegistryError
from hpcimg.oci.digest import digest_of, is_digest, verify_digest
from hpcimg.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ACCEPT",
    "Descriptor",
    "Index",
    "Manifest",
    "Platform",
    "digest_of",
    "normalise_platform",
    "parse_document",
    "parse_platform",
    "platform_of_config",
    "verify_digest",
]

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
_SCHEMA1_TYPES = frozenset({DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED})
# Without the indexes a registry may convert, and answer with the first manifest it likes.
ACCEPT = (OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST)

DOCUMENT_LIMIT = 4 * 1024 * 1024
ENTRY_LIMIT = 1000
_TEXT_LIMIT = 256

_ARCHITECTURES: dict[str, tuple[str, str | None]] = {
    "x86_64": ("amd64", None),
    "x86-64": ("amd64", None),
    "aarch64": ("arm64", None),
    "i386": ("386", None),
    "i686": ("386", None),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
# A variant that only says what the architecture already means.
_IMPLIED_VARIANTS = {
    ("amd64", "1"),
    ("amd64", "v1"),
    ("arm64", "8"),
    ("arm64", "8.0"),
    ("arm64", "v8"),
    ("arm64", "v8.0"),
    ("riscv64", "rva20u64"),
}


@dataclass(frozen=True)
class Platform:
    """What an image requires; `architecture` is normalised to the specification's word."""

    os: str
    architecture: str
    variant: str | None = None
    features: tuple[str, ...] = ()
    os_version: str | None = None
    os_features: tuple[str, ...] = ()

    @property
    def is_unknown(self) -> bool:
        """Tell whether nothing can run this: build tools mark their attestations so."""
        return self.os == "unknown" or self.architecture == "unknown"

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True)
class Descriptor:
    """One pointer to content: its type, digest and size in bytes.

    `artifact_type` says what is attached to an image, where it points to that.
    """

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    artifact_type: str | None = None

    @property
    def is_index(self) -> bool:
        """Tell whether the content is a nested index."""
        return self.media_type in INDEX_TYPES


@dataclass(frozen=True)
class Manifest:
    """One image; `raw` are the registry's bytes and `digest` their name."""

    raw: bytes = field(repr=False)
    digest: str
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Index:
    """Several images behind one name, in the author's order."""

    raw: bytes = field(repr=False)
    digest: str
    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)


def parse_document(raw: bytes, media_type_hint: str | None = None) -> Manifest | Index:
    """Parse a manifest or an index; `media_type_hint` is the answer's Content-Type.

    Raises RegistryError that says what is wrong. Digests are over `raw`, with sha256.
    """
    document = _load(raw)
    media_type = _media_type(document, media_type_hint)
    annotations = _annotations(document, "the document")
    if media_type in INDEX_TYPES:
        entries = _descriptors(document, "manifests")
        return Index(raw, digest_of(raw), media_type, entries, annotations)
    config = _descriptor(document.get("config"), "config")
    layers = _descriptors(document, "layers")
    return Manifest(raw, digest_of(raw), media_type, config, layers, annotations)


def platform_of_config(raw: bytes) -> Platform:
    """Read the platform of an image from its config blob."""
    return parse_platform(_load(raw), "the image's config")


def normalise_platform(
    os: str, architecture: str, variant: str | None = None
) -> tuple[str, str, str | None]:
    """Bring synonyms of an architecture, and a variant that says nothing, to one form."""
    known, implied = _ARCHITECTURES.get(architecture.lower(), (architecture.lower(), None))
    level = (variant or implied or "").lower() or None
    if level is not None and (known, level) in _IMPLIED_VARIANTS:
        level = None
    return os.lower(), known, level


def parse_platform(document: Any, where: str = "platform") -> Platform:
    """Parse a descriptor's platform object, or the fields of the same names in a config."""
    if not isinstance(document, dict):
        raise _wrong(f"{where} is not an object")
    os, architecture, variant = normalise_platform(
        _word(document, "os", where) or "",
        _word(document, "architecture", where) or "",
        _word(document, "variant", where),
    )
    return Platform(
        os=os,
        architecture=architecture,
        variant=variant,
        features=_words(document, "features", where),
        os_version=_word(document, "os.version", where),
        os_features=_words(document, "os.features", where),
    )


def _wrong(what: str) -> RegistryError:
    return ContentError(
        f"the registry sent a bad manifest: {what}", "the image has to be pushed again"
    )


def _load(raw: bytes) -> dict[str, Any]:
    if len(raw) > DOCUMENT_LIMIT:
        raise _wrong(f"{len(raw)} bytes, more than {DOCUMENT_LIMIT}")
    try:
        document = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise _wrong(f"not JSON: {quoted(error)}") from error
    if not isinstance(document, dict):
        raise _wrong("not a JSON object")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that stands twice: readers disagree on which of the two counts."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return result


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _media_type(document: dict[str, Any], hint: str | None) -> str:
    """Decide what the document is; it may never pass for both a manifest and an index."""
    stated = _word(document, "mediaType", "the document")
    sent = (hint or "").partition(";")[0].strip().lower()
    if stated in _SCHEMA1_TYPES or sent in _SCHEMA1_TYPES or document.get("schemaVersion") == 1:
        raise ContentError(
            "the image has a Docker schema 1 manifest, which is not supported",
            "push the image again with a current tool",
        )
    if document.get("schemaVersion") != 2:
        raise _wrong(f"schemaVersion is {quoted(document.get('schemaVersion'))}, not 2")
    has_entries = "manifests" in document
    if has_entries == ("layers" in document or "config" in document):
        raise _wrong("neither an image manifest nor an index, or both at once")
    kinds = INDEX_TYPES if has_entries else MANIFEST_TYPES
    if stated is None:
        unsaid = OCI_INDEX if has_entries else OCI_MANIFEST
        stated = sent if sent in INDEX_TYPES | MANIFEST_TYPES else unsaid
    if stated not in kinds or (sent in INDEX_TYPES | MANIFEST_TYPES and sent != stated):
        raise _wrong(f"media type {quoted(stated)}, sent as {quoted(sent)}, is not its content's")
    return stated


def _descriptors(document: dict[str, Any], key: str) -> tuple[Descriptor, ...]:
    entries = document.get(key)
    if not isinstance(entries, list):
        raise _wrong(f"{key} is not a list")
    if len(entries) > ENTRY_LIMIT:
        raise _wrong(f"{key} has {len(entries)} entries, more than {ENTRY_LIMIT}")
    return tuple(_descriptor(entry, f"{key}[{at}]") for at, entry in enumerate(entries))


def _descriptor(document: Any, where: str) -> Descriptor:
    if not isinstance(document, dict):
        raise _wrong(f"{where} is not an object")
    digest, size = document.get("digest"), document.get("size")
    if not is_digest(digest):
        raise _wrong(f"{where}: {quoted(digest)} is not a sha256 or sha512 digest")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 2**63:
        raise _wrong(f"{where}: {quoted(size)} is not a size")
    media_type = _word(document, "mediaType", where)
    if not media_type:
        raise _wrong(f"{where} has no media type")
    platform = document.get("platform")
    return Descriptor(
        media_type=media_type,
        digest=str(digest),
        size=size,
        platform=None if platform is None else parse_platform(platform, f"{where}.platform"),
        annotations=_annotations(document, where),
        artifact_type=_word(document, "artifactType", where),
    )


def _annotations(document: dict[str, Any], where: str) -> dict[str, str]:
    found = document.get("annotations")
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise _wrong(f"the annotations of {where} are not texts")
    return found


def _word(document: dict[str, Any], key: str, where: str) -> str | None:
    found = document.get(key)
    return None if found is None else _checked(found, f"{where}.{key}")


def _words(document: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    found = document.get(key)
    if found is None:
        return ()
    if not isinstance(found, list):
        raise _wrong(f"{where}.{key} is not a list")
    return tuple(_checked(word, f"{where}.{key}") for word in found)


def _checked(value: Any, where: str) -> str:
    """Let only short printable text through: these words reach logs and terminals."""
    if not isinstance(value, str) or len(value) > _TEXT_LIMIT or not value.isprintable():
        raise _wrong(f"{where} is {quoted(value)}, not a short text")
    return value
