"""`index lint`: gather an index's entries with all that their images say, and judge them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcimg.errors import UsageError
from hpcimg.lint import Finding, lint
from hpcimg.oci.model import Index, parse_document
from hpcimg.requirements import entries_of
from hpcimg.workflow.entries import EntryReader
from hpcimg.workflow.push import push_index
from hpcimg.workflow.resolve import read_name

if TYPE_CHECKING:
    from hpcimg.oci.client import RegistryClient
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
        sources = {entry.manifest.digest: entry.source for entry in pushed.entries}
        entries = entries_of(index) if isinstance(index, Index) else ()
        found = [
            EntryReader(sources[entry.descriptor.digest], client).complete(entry)
            for entry in entries
        ]
        return LintResult(name, index.digest, lint(found))
    reference = read_name(name, settings)
    index = client.fetch_document(reference)
    if not isinstance(index, Index):
        raise UsageError(
            f'"{name}" is a single image, not an index', "`hpcimg inspect` shows what it is"
        )
    reader = EntryReader(reference, client)
    found = [reader.complete(entry) for entry in reader.entries(index)]
    return LintResult(name, index.digest, lint(found))
