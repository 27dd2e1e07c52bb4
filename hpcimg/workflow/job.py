"""What a job ran: kept by the epilog from what the plugin noted, and read for people."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpcimg.amounts import utc_text
from hpcimg.errors import NotFoundError, UsageError
from hpcimg.oci.digest import shortened
from hpcimg.quoting import quoted
from hpcimg.slurm import nodes_of_list
from hpcimg.store.agreement import JobKey
from hpcimg.store.steps import StepFile, job_keys, keep_node, parse_start, parse_starts, read_nodes
from hpcimg.store.store import site_store
from hpcimg.workflow.access import own_access

if TYPE_CHECKING:
    from hpcimg.settings import Settings
    from hpcimg.store.store import Store
    from hpcimg.workflow.get import Ready

_PUBLIC = ("step", "at", "scope", "by", "wait", "digest", "index", "source", "millis")
"""What the site keeps of an image that its account may not read: others might read the name."""
_BATCH = "4294967291"
_FIELDS = {"admin-comment": "AdminComment", "comment": "Comment"}


@dataclass(frozen=True)
class Ran:
    """One step on one node: what it was given, why, and how it was had.

    `step` is empty for what the prolog fetched ahead. Times are UTC, ISO 8601, and milliseconds.
    """

    node: str
    step: str
    at: str
    reference: str
    index: str
    digest: str
    label: str
    reason: str
    scope: str
    source: str
    builder: str
    by_ticket: bool
    millis: int
    wait: int
    image: str
    converter: str

    @property
    def origin(self) -> str:
        """Say in words how the image was had."""
        store = "its user's own store" if self.scope == "own" else "the site's store"
        had = {
            "built": f"{store}, built for it in {self.millis / 1000:.1f} s",
            "waited": f"{store}, after {self.millis / 1000:.1f} s for {self.builder}, who built it",
        }.get(self.source, f"{store}, found there in {self.millis} ms")
        return f"{had}; by the job's ticket in {self.wait} ms" if self.by_ticket else had


@dataclass(frozen=True)
class Run:
    """One start of a job: a requeued one has several."""

    cluster: str
    job: str
    user: str
    started: str
    ran: tuple[Ran, ...]


def runs_of(job: str, settings: Settings, *, every: bool = False) -> tuple[Run, ...]:
    """Read what a job ran, from the site's store and the asker's own; raises NotFoundError.

    Of each cluster it is the last start of that number, or every one.
    """
    if not re.fullmatch(r"[0-9]{1,10}", job):
        raise UsageError(
            f"{quoted(job)} is no job's number",
            "give the number alone, as in 42; "
            "`scontrol show job 40_1` has the JobId of an array's task",
        )
    own = own_access(settings, os.environ).store
    found: dict[JobKey, dict[tuple[str, str, str], Ran]] = {}
    # The later one counts: a user's own store knows more of what only that user may read.
    for store in (site_store(settings.store), own):
        for key in job_keys(store, job):
            steps = found.setdefault(key, {})
            for node, start in _starts(store, key):
                ran = _ran(node, start)
                steps[ran.node, ran.step, ran.digest] = ran
    runs = [_run(key, steps.values()) for key, steps in found.items() if steps]
    if not runs:
        raise NotFoundError(
            f"nothing is known of a job {job}",
            "it ran no image here, is older than 30 days, or shares the number of another: "
            "ask for a heterogeneous job by its first one",
        )
    runs.sort(key=lambda run: (run.cluster, run.started))
    return tuple(runs) if every else tuple({run.cluster: run for run in runs}.values())


def _run(key: JobKey, steps: Iterable[Ran]) -> Run:
    # What was fetched ahead says nothing more once a step on that node has run it.
    listed = list(steps)
    ran = {(one.node, one.digest) for one in listed if one.step}
    shown = (one for one in listed if one.step or (one.node, one.digest) not in ran)
    ordered = sorted(shown, key=lambda one: (_number(one.step), one.node, one.at))
    return Run(key.cluster, key.job, key.user, _time(key.since), tuple(ordered))


def _starts(store: Store, key: JobKey) -> Iterable[tuple[str, Mapping[str, str]]]:
    for record in read_nodes(store, key):
        for start in record["starts"]:
            yield str(record.get("node")), start


def _ran(node: str, start: Mapping[str, Any]) -> Ran:
    step = start.get("step", "")
    return Ran(
        node=node,
        step="batch" if step == _BATCH else step,
        at=_time(start.get("at", "")),
        reference=start.get("reference", ""),
        index=start.get("index", ""),
        digest=start.get("digest", ""),
        label=start.get("label", ""),
        reason=start.get("reason", ""),
        scope=start.get("scope", "site"),
        source=start.get("source", "store"),
        builder=start.get("builder", ""),
        by_ticket=start.get("by") == "ticket",
        millis=_number(start.get("millis", "")),
        wait=_number(start.get("wait", "")),
        image=start.get("image", ""),
        converter=start.get("converter", ""),
    )


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,10}", text) else 0


def _time(seconds: str) -> str:
    return utc_text(_number(seconds))


def record_node(text: str, job: str, user: str, node: str, settings: Settings) -> None:
    """Keep what a job's steps ran on a node, by the prolog's file, an empty line, and their list.

    Raises UsageError and StoreError where it cannot be kept under the job's name.
    """
    told, _, listed = text.partition("\n\n")
    facts = parse_start(told)
    key = JobKey(facts.get("cluster", ""), facts.get("leader", ""), user, facts.get("started", ""))
    starts = parse_starts(listed)
    kept = tuple(one if one.get("scope") == "site" else _public(one) for one in starts)
    keep_node(site_store(settings.store), key, StepFile(job, node), kept)


def _public(start: Mapping[str, str]) -> dict[str, str]:
    return {key: start[key] for key in _PUBLIC if key in start}


def accounting_line(ready: Ready, settings: Settings, node: str, listed: str) -> str:
    """Say in a line what a job runs, as FIELD=TEXT: on the first of its nodes, where it is wanted.

    The index is named, which is the same on all nodes.
    """
    field = _FIELDS.get(settings.accounting)
    nodes = nodes_of_list(listed) if field and listed else ()
    if not nodes or nodes[0] != node:
        return ""
    count = f"{len(nodes)} node{'s' if len(nodes) > 1 else ''}"
    resolved = ready.resolved
    name = str(resolved.reference).partition("@")[0]
    return f"{field}=hpcimg: {name}@{shortened(resolved.digest)} on {count}"
