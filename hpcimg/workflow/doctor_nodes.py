"""Has nodes look at themselves, through Slurm, and reads what they say; the plugin is not needed.

One srun for all of them; those that did not answer are asked alone, to hear why.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpcimg import slurm_site
from hpcimg.doctor.finding import FAIL, NOTE, UNKNOWN, Finding, Report, report_of
from hpcimg.doctor.machine import judge_clock
from hpcimg.errors import RuntimeFailure
from hpcimg.process import Ended, run_several
from hpcimg.slurm import folded, named_nodes

MARKED = "hpcimg-doctor:"
"""How a node's line begins among all that a job may print."""

_WAIT_SECONDS = 30
_AT_ONCE = 8
_ALONE = 32
"""So many silent nodes are asked why; the others will have the same to say."""
_UNUSABLE = ("down", "drain", "drng", "fail", "maint", "unk", "plnd", "power", "boot", "resv")
_PLUGIN = "Plugin initialization failed"
_START = re.compile(r"^(?:srun|slurmstepd): error: (?:task \d+ launch failed: )?")


@dataclass(frozen=True)
class Asked:
    """What nodes said of themselves, and what there is to say of those that said nothing."""

    reports: tuple[Report, ...] = ()
    findings: tuple[Finding, ...] = ()


def ask_nodes(
    nodes: str | None, partition: str | None, token: str, environment: Mapping[str, str]
) -> Asked:
    """Ask these nodes, or those of the partition, or without either all, that take jobs.

    Raises NotFoundError and UsageError for names that mean no node.
    """
    named = named_nodes(partition, nodes)
    try:
        states = slurm_site.node_states()
    except RuntimeFailure as error:
        what = f"Slurm does not say which nodes there are: {error.message}"
        return Asked((), (Finding("nodes", FAIL, what, "is slurmctld running? `scontrol ping`"),))
    usable = [one for one in named or states if not _is_off(states.get(one, ""))]
    off = [one for one in named or states if one not in usable]
    found = _Asking(token, environment)
    found.ask([usable] if usable else [])
    silent = [one for one in usable if one not in found.reports]
    found.ask([[one] for one in silent[:_ALONE]])
    findings = [_off(one, states) for one in off]
    findings += [found.why(one) for one in silent if one not in found.reports]
    return Asked(tuple(found.reports.values()), tuple(findings))


def _is_off(state: str) -> bool:
    return not state or state.endswith("*") or state.startswith(_UNUSABLE)


def _off(node: str, states: Mapping[str, str]) -> Finding:
    state = states.get(node)
    if state is None:
        change = "`sinfo` shows what there is"
        return Finding("nodes", FAIL, f"Slurm knows no node {node}", change)
    change = f"run `hpcimg doctor` on {node} itself"
    return Finding("nodes", NOTE, f"{node} was not asked: Slurm has it as {state}", change)


class _Asking:
    """The answers so far."""

    def __init__(self, token: str, environment: Mapping[str, str]) -> None:
        self.reports: dict[str, Report] = {}
        self._here = os.uname().nodename
        self._said: dict[str, list[str]] = {}
        self._environment = slurm_site.step_environment(environment)
        program = [sys.executable, "-I", "-m", "hpcimg", "doctor"]
        self._words = [*program, "--role", "node", "--token", token]

    def ask(self, groups: Sequence[Sequence[str]]) -> None:
        """Start a step for each group of nodes, some at a time."""
        commands = {
            folded(nodes): slurm_site.each_node_argv(
                nodes, self._words, listed=folded(nodes), wait=_WAIT_SECONDS
            )
            for nodes in groups
        }
        run_several(
            commands,
            _AT_ONCE,
            env=self._environment,
            on_start=lambda _: None,
            on_line=self._take,
            on_end=self._end,
        )

    def why(self, node: str) -> Finding:
        """Say why a node said nothing."""
        said = [_START.sub("", line) for line in self._said.get(node, ())]
        if any(_PLUGIN in line for line in said):
            what = f"{node} starts no step: a plugin that plugstack.conf requires does not load"
            change = (
                f"`hpcimg doctor` on {node} itself says which; build hpcimg.so for its Slurm: "
                "make -C spank install"
            )
            return Finding("plugin", FAIL, what, change)
        if any("Unable to allocate" in line or "Immediate" in line for line in said):
            what = f"{node} did not become free within {_WAIT_SECONDS} s"
            return Finding("nodes", UNKNOWN, what, f"run `hpcimg doctor` on {node} itself")
        if any("No such file" in line for line in said):
            what = f"hpcimg is not on {node}: there is no {sys.executable}"
            return Finding("hpcimg", FAIL, what, "install hpcimg there")
        what = f"{node} did not answer: {'; '.join(dict.fromkeys(said)) or 'srun said nothing'}"
        return Finding("nodes", FAIL, what, f"run `hpcimg doctor` on {node} itself")

    def _take(self, _: str, line: str) -> bool:
        _, is_ours, text = line.partition(MARKED)
        if not is_ours:
            return False
        try:
            fields = json.loads(text)
            report = report_of(fields)
            apart = float(fields["now"]) - time.time()
        except (ValueError, TypeError, KeyError):
            return False
        if report is not None:
            clock = judge_clock(apart, self._here)
            findings = (*report.findings, clock)
            self.reports[report.host] = Report(report.host, findings, report.facts)
        return report is not None

    def _end(self, name: str, ended: Ended) -> None:
        self._said[name] = [line.strip() for line in ended.said if line.strip()]


def node_line(report: Report) -> str:
    """Write what a node says, with its time at the very last moment."""
    fields = report.to_fields()
    return MARKED + json.dumps({**fields, "now": time.time()})
