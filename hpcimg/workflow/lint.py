"""`index lint`: gather an index's entries with all that their images say, and judge them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcimg.errors import UsageError
from hpcimg.lint import Finding, lint
from hpcimg.metadata import config_requirements
from hpcimg.oci.model import DOCUMENT_LIMIT, MANIFEST_TYPES, Index, Manifest, parse_document
from hpcimg.requirements import Entry, entries_of
from hpcimg.workflow.push import push_index
from hpcimg.workflow.resolve import read_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpcimg.oci.client import RegistryClient
    from hpcimg.oci.reference import Reference
    from hpcimg.settings import Settings


@dataclass(frozen=True)
class LintResult:
    """The findings of one index, named as its author did."""

    name: str
    digest: str
    findings: tuple[Finding, ...]

    def count(self, severity: str) -> int:
        """Count the findings of one severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def fails(self, *, strict: bool) -> bool:
        """Tell whether the author has to do something."""
        return bool(self.count("error") or (strict and self.count("warning")))

    def summary(self) -> str:
        """Count the findings in words."""
        return ", ".join(
            f"{self.count(severity)} {severity}{'' if self.count(severity) == 1 else 's'}"
            for severity in ("error", "warning", "note")
        )

    def to_json(self) -> dict[str, Any]:
        """Describe the result for programs."""
        findings = [asdict(finding) for finding in self.findings]
        return {"name": self.name, "digest": self.digest, "findings": findings}


def lint_index(name: str, settings: Settings, client: RegistryClient) -> LintResult:
    """Judge an index in a registry, or the one that a recipe's file would make."""
    if name.startswith((".", "/")) or name.endswith((".yml", ".yaml")):
        pushed = push_index(Path(name), settings, client, dry_run=True)
        index = parse_document(pushed.raw, pushed.media_type)
        images = {e.manifest.digest: (e.source, e.manifest) for e in pushed.entries}
    else:
        reference = read_name(name, settings)
        index = client.fetch_document(reference)
        images = dict(_images(reference, index, client))
    if not isinstance(index, Index):
        raise UsageError(
            f'"{name}" is a single image, not an index', "`hpcimg inspect` shows what it is"
        )
    entries = [_with_config(entry, images, client) for entry in entries_of(index)]
    return LintResult(name, index.digest, lint(entries))


def _images(
    reference: Reference, index: Manifest | Index, client: RegistryClient
) -> Iterator[tuple[str, tuple[Reference, Manifest]]]:
    for descriptor in index.manifests if isinstance(index, Index) else ():
        is_attestation = descriptor.platform is not None and descriptor.platform.is_unknown
        if descriptor.media_type not in MANIFEST_TYPES or is_attestation:
            continue
        pinned = reference.with_digest(descriptor.digest)
        document = client.fetch_document(pinned)
        if isinstance(document, Manifest):
            yield descriptor.digest, (pinned, document)


def _with_config(
    entry: Entry, images: dict[str, tuple[Reference, Manifest]], client: RegistryClient
) -> Entry:
    """Add what the image's own config requires."""
    reference, manifest = images.get(entry.descriptor.digest, (None, None))
    if reference is None or manifest is None or manifest.config.size > DOCUMENT_LIMIT:
        return entry
    config = b"".join(client.fetch_blob(reference, manifest.config))
    return entry.requiring(config_requirements(config))
