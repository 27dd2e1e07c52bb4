"""What a check found, what to change, and how the findings of many machines become one table.

It must not know what was looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OK, NOTE, WARN, FAIL, UNKNOWN = "ok", "note", "warn", "fail", "unknown"
STATES = (FAIL, UNKNOWN, WARN, NOTE, OK)
"""Worst first: what could not be found out may be a failure."""

_LONGEST = 1000


@dataclass(frozen=True)
class Finding:
    """What one check found: its state, a sentence, and what to change where something is wrong."""

    check: str
    state: str
    what: str
    change: str = ""

    @property
    def is_quiet(self) -> bool:
        """Whether nobody has to read it."""
        return self.state in {OK, NOTE}


@dataclass(frozen=True)
class Report:
    """What one machine found, and facts that are to be the same on all of them."""

    host: str
    findings: tuple[Finding, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)

    def to_fields(self) -> dict[str, Any]:
        """Give all of it as a JSON object."""
        findings = [vars(one) for one in self.findings]
        return {"host": self.host, "findings": findings, "facts": dict(self.facts)}


@dataclass(frozen=True)
class Row:
    """A finding and the machines that have it."""

    finding: Finding
    hosts: tuple[str, ...]


def report_of(fields: object) -> Report | None:
    """Read a node's JSON object; None for what is none. Words that it lacks or adds are no error.

    A node may have another version of hpcimg than the one that asks.
    """
    if not isinstance(fields, dict) or not isinstance(fields.get("host"), str):
        return None
    findings, facts = fields.get("findings"), fields.get("facts")
    return Report(
        _shown(fields["host"]),
        tuple(_finding(one) for one in findings or () if isinstance(one, dict)),
        {_shown(key): _shown(value) for key, value in (facts or {}).items()},
    )


def rows_of(reports: Sequence[Report], common: Iterable[Finding] = ()) -> tuple[Row, ...]:
    """Put the same findings of several machines into one row each, worst first.

    `common` are those of no machine.
    """
    found: dict[Finding, list[str]] = {one: [] for one in common}
    for report in reports:
        for finding in report.findings:
            hosts = found.setdefault(finding, [])
            if report.host not in hosts:
                hosts.append(report.host)
    rows = [Row(finding, tuple(hosts)) for finding, hosts in found.items()]
    return tuple(sorted(rows, key=lambda row: STATES.index(row.finding.state)))


def is_fit(rows: Iterable[Row]) -> bool:
    """Tell whether nothing failed."""
    return all(row.finding.state != FAIL for row in rows)


def _finding(fields: Mapping[str, Any]) -> Finding:
    words = {name: _shown(fields.get(name, "")) for name in ("check", "state", "what", "change")}
    if words["state"] not in STATES:
        words["state"] = UNKNOWN
    return Finding(**words)


def _shown(text: object) -> str:
    """Keep a node's words on one line and within bounds."""
    return "".join(c if c.isprintable() else " " for c in str(text))[:_LONGEST]
