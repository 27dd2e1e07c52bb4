"""job for people: what each step of a job ran; record for the epilog, which keeps it."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from hpcimg.cli.parser import Adder

if TYPE_CHECKING:
    from hpcimg.workflow.job import Ran, Run

_INPUT_BYTES = 4 << 20


def add(verbs: Adder) -> None:
    """Add the two verbs."""
    job = verbs.add_parser("job", help="say what the steps of a job ran on each node, and why")
    job.add_argument("id", metavar="ID", help="the job's number, as squeue has it")
    job.add_argument("--all", action="store_true", help="also its earlier starts")
    job.add_argument("--json", action="store_true", help="print JSON")
    job.set_defaults(call=_job)

    record = verbs.add_parser("record", help="keep what a job ran (the epilog calls this)")
    record.add_argument("--job", required=True, metavar="ID")
    record.add_argument("--uid", required=True, metavar="UID")
    record.add_argument("--node", required=True, metavar="NAME")
    record.set_defaults(call=_record)


def _job(arguments: argparse.Namespace) -> int:
    from hpcimg.settings import read_settings
    from hpcimg.workflow.job import runs_of

    runs = runs_of(arguments.id, read_settings(os.environ), every=arguments.all)
    if arguments.json:
        import json
        from dataclasses import asdict

        print(json.dumps([asdict(one) for one in runs], indent=2))
        return 0
    for one in runs:
        print("\n".join(_lines(one)))
    return 0


def _lines(run: Run) -> list[str]:
    lines = [f"job {run.job} of uid {run.user} on cluster {run.cluster}, started {run.started}"]
    for ran in run.ran:
        lines += ["", *_ran_lines(ran)]
    return lines


def _ran_lines(ran: Ran) -> list[str]:
    """Show one step; users had a part in its words, and a terminal obeys some of them."""
    what = f"step {ran.step}" if ran.step else "before its first step"
    facts = {
        "image": ran.reference or "one that only its user may read",
        "index": ran.index,
        "manifest": ran.digest,
        "because": f"{ran.label}: {ran.reason}" if ran.label else "",
        "from": ran.origin,
        "file": ran.image,
        "converter": ran.converter,
    }
    shown = [f"  {key:<10}{_shown(value)}" for key, value in facts.items() if value]
    return [f"{_shown(what)} on {_shown(ran.node)} at {ran.at}", *shown]


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _record(arguments: argparse.Namespace) -> int:
    from hpcimg.settings import read_settings
    from hpcimg.workflow.job import record_node

    text = sys.stdin.buffer.read(_INPUT_BYTES).decode(errors="replace")
    record_node(text, arguments.job, arguments.uid, arguments.node, read_settings({}))
    return 0
