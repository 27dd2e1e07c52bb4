"""Compares what several machines said: what differs between them, and whether they share a store.

It must not know how they were asked.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from hpcimg.doctor.finding import FAIL, NOTE, OK, WARN, Finding, Report

MARK = "store mark"
"""The fact that holds a machine's own mark in the store, and all marks that it saw there."""

_ALIKE = {
    "hpcimg": ("hpcimg", FAIL, "have one version of hpcimg on all machines"),
    "account uid": ("account", FAIL, "give the store's account one uid and gid everywhere"),
    "settings": ("settings", FAIL, "copy one settings file, and what is beside it, everywhere"),
    "plugstack": ("plugin", WARN, "have one line for hpcimg.so in plugstack.conf everywhere"),
    "plugin": ("plugin", WARN, "install one build of the plugin everywhere: make -C spank install"),
    "programs": ("programs", WARN, "install the plugin's programs anew: make -C spank install"),
    "slurm": ("slurm", NOTE, "while Slurm is upgraded, build the plugin for each of its versions"),
    "apptainer": ("apptainer", WARN, "have one version of Apptainer on all machines"),
    "squashfs-tools": (
        "tools",
        WARN,
        "have one version of squashfs-tools: each makes images of its own",
    ),
    "merger": ("merger", WARN, "install the merger on all machines or on none: make -C merge"),
}
"""The facts that are compared: the check that tells of them, how bad it is, what to change."""


def compare(reports: Sequence[Report]) -> Iterator[Report]:
    """Give a report of what differs for each machine that is not as most are."""
    if len(reports) < 2:
        return
    for fact, (check, state, change) in _ALIKE.items():
        said = {one.host: one.facts[fact] for one in reports if one.facts.get(fact)}
        usual = _usual(said)
        for host, value in said.items():
            if value != usual:
                others = next(one for one, value in said.items() if value == usual)
                what = f"{fact} differs: {value} here, {usual} on {others}"
                yield Report(host, (Finding(check, state, what, change),))
    yield from compare_stores(reports)


def compare_stores(reports: Sequence[Report]) -> Iterator[Report]:
    """Find the machines that have another store than most.

    Each writes its mark before it looks for those of the others: of two that share a store, the
    later one sees both.
    """
    marks = dict(filter(None, map(_mark, reports)))
    groups = sorted(_groups(marks), key=len, reverse=True)
    if len(marks) < 2:
        return
    if len(groups) == 1:
        what = "all machines that may write to it see one store"
        yield from (Report(host, (Finding("shared store", OK, what),)) for host in marks)
        return
    for group in groups[1:]:
        for host in group:
            what = f"this machine has another store than {groups[0][0]}: it is not shared"
            change = "mount the site's file system there, at store: {path: ...} of the settings"
            yield Report(host, (Finding("shared store", FAIL, what, change),))


def _usual(said: Mapping[str, str]) -> str:
    return Counter(said.values()).most_common(1)[0][0] if said else ""


def _mark(report: Report) -> tuple[str, tuple[str, tuple[str, ...]]] | None:
    try:
        own, *seen = json.loads(report.facts.get(MARK, ""))
    except (ValueError, TypeError):
        return None
    return report.host, (str(own), tuple(map(str, seen)))


def _groups(marks: Mapping[str, tuple[str, tuple[str, ...]]]) -> list[list[str]]:
    """Join the machines of which one saw the other's mark."""
    hosts = {own: host for host, (own, _) in marks.items()}
    group = {host: host for host in marks}

    def root(host: str) -> str:
        while group[host] != host:
            host = group[host]
        return host

    for host, (_, seen) in marks.items():
        for mark in seen:
            if mark in hosts:
                group[root(hosts[mark])] = root(host)
    found: dict[str, list[str]] = {}
    for host in marks:
        found.setdefault(root(host), []).append(host)
    return list(found.values())
