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
from hpcimg.doctor.finding import FAIL, UNKNOWN, Finding, Report, report_of
from hpcimg.doctor.machine import judge_clock
from hpcimg.errors import RuntimeFailure
from hpcimg.process import Ended, run_several
from hpcimg.slurm import folded, named_nodes

MARKED = "hpcimg-doctor:"
"""How a node's line begins among all that a job may print."""

_THERE = "run `hpcimg doctor` on the node itself"
_WAIT_SECONDS = 30
_AT_ONCE = 8
_ALONE = 32
"""So many silent nodes are asked why; the others will have the same to say."""
_UNUSABLE = ("down", "drain", "drng", "fail", "maint", "unk", "power", "boot", "resv")
"""Not "plnd": a node that a waiting job shall have takes a short step until then."""
_OWN_PLUGIN = "Plug-in initialization failed"
"""What srun says of the machine that it is started on; of a node Slurm writes it in one word."""
_PLUGIN = "Plugin initialization failed"
_NO_PROGRAM = ("execve()", "No module named hpcimg")
_BUSY = ("Unable to allocate resources", "Requested nodes are busy")
_START = re.compile(r"^(?:srun|slurmstepd): error: (?:task \d+ launch failed: )?")


@dataclass(frozen=True)
class Asked:
    """What nodes said of themselves, what there is to say of those that said nothing, and of all.

    `silent` are reports in their place.
    """

    reports: tuple[Report, ...] = ()
    silent: tuple[Report, ...] = ()
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
        change = "is slurmctld running? try `scontrol ping`"
        return Asked(findings=(Finding("nodes", FAIL, what, change),))
    usable = {one: states[one].partition for one in named or states if _is_up(states.get(one))}
    if partition:
        usable = dict.fromkeys(usable, partition)
    silent = [_off(one, states.get(one)) for one in named or states if one not in usable]
    asking = _Asking(usable, token, environment)
    # One step is of one partition.
    asking.ask([[n for n in usable if usable[n] == one] for one in {*usable.values()}])
    if asking.cannot_start:
        what = "srun starts nothing on this machine: a plugin that plugstack.conf requires fails"
        change = "mend what is said of this machine, then ask again"
        return Asked(silent=tuple(silent), findings=(Finding("nodes", FAIL, what, change),))
    asking.ask([[one] for one in usable if one not in asking.reports][:_ALONE])
    silent += [asking.why(one) for one in usable if one not in asking.reports]
    return Asked(tuple(asking.reports.values()), tuple(silent))


def _is_up(node: slurm_site.NodeState | None) -> bool:
    return not (node is None or node.state.endswith("*") or node.state.startswith(_UNUSABLE))


def _off(node: str, found: slurm_site.NodeState | None) -> Report:
    if found is None:
        what, change = "Slurm knows no such node", "`sinfo` shows what there is"
        return Report(node, (Finding("nodes", FAIL, what, change),))
    what = f"not asked: Slurm has it as {found.state}"
    return Report(node, (Finding("nodes", UNKNOWN, what, _THERE),))


class _Asking:
    """The answers so far; `partitions` are those of the nodes."""

    def __init__(
        self, partitions: Mapping[str, str], token: str, environment: Mapping[str, str]
    ) -> None:
        self._partitions = partitions
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
                nodes,
                self._words,
                listed=folded(nodes),
                partition=self._partitions[nodes[0]],
                wait=_WAIT_SECONDS,
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

    @property
    def cannot_start(self) -> bool:
        """Whether it is this machine that srun does not work on."""
        return not self.reports and any(
            _OWN_PLUGIN in line for lines in self._said.values() for line in lines
        )

    def why(self, node: str) -> Report:
        """Say why a node said nothing."""
        said = [_START.sub("", line) for line in self._said.get(node, ())]
        return Report(node, (_why(said),))

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


def _why(said: Sequence[str]) -> Finding:
    def speaks_of(*words: str) -> bool:
        return any(word in line for word in words for line in said)

    if speaks_of(_PLUGIN):
        what = "starts no step: a plugin that plugstack.conf requires does not load"
        change = "`hpcimg doctor` there says which; for hpcimg.so: make -C spank install"
        return Finding("plugin", FAIL, what, change)
    if speaks_of(*_NO_PROGRAM):
        what = f"hpcimg cannot be started by {sys.executable}"
        return Finding("hpcimg", FAIL, what, "install hpcimg there, at the same place as here")
    if speaks_of(*_BUSY):
        what = f"did not become free within {_WAIT_SECONDS} s"
        return Finding("nodes", UNKNOWN, what, _THERE)
    words = "; ".join(dict.fromkeys(said)) or "srun said nothing"
    return Finding("nodes", FAIL, f"did not answer: {words}", _THERE)


def node_line(report: Report) -> str:
    """Write what a node says, with its time at the very last moment."""
    fields = report.to_fields()
    return MARKED + json.dumps({**fields, "now": time.time()})
