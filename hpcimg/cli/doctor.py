"""doctor: is everything in order here and on the nodes, and can a file system carry the store?"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from hpcimg.cli.parser import Adder, add_nodes_options

if TYPE_CHECKING:
    from pathlib import Path

    from hpcimg.doctor.finding import Finding, Row
    from hpcimg.settings import Settings
    from hpcimg.workflow.doctor import Diagnosis
    from hpcimg.workflow.doctor_store import Health, Trial

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "note": "dim", "unknown": "yellow"}
_ADVICE = "change: "


def add(verbs: Adder) -> None:
    """Add the verb."""
    doctor = verbs.add_parser("doctor", help="find out what is not in order, and what to change")
    doctor.add_argument(
        "--store",
        nargs="?",
        const="",
        metavar="DIR",
        help="try between two nodes whether this directory can be a store; without DIR the site's",
    )
    doctor.add_argument("--all", action="store_true", help="all nodes, through Slurm")
    add_nodes_options(doctor)
    doctor.add_argument("--json", action="store_true", help="print an object for programs")
    # One of the two processes that a doctor starts on nodes, or the one on each node.
    doctor.add_argument("--token", help=argparse.SUPPRESS)
    doctor.add_argument("--role", choices=("0", "1", "rank", "node"), help=argparse.SUPPRESS)
    doctor.set_defaults(call=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import print_json
    from hpcimg.errors import ExitCode, UsageError

    is_some = arguments.nodes is not None or arguments.partition is not None
    if arguments.all and (is_some or arguments.store is not None):
        what = "--all goes with no choice of nodes, and not with --store"
        raise UsageError(what, "leave one away")
    if arguments.store is not None:
        return _store(arguments)
    from hpcimg.store.owner import current_owner
    from hpcimg.workflow.doctor import diagnose, examine_machine
    from hpcimg.workflow.doctor_nodes import Asked, ask_nodes, node_line

    if arguments.role == "node":
        print(node_line(examine_machine(os.environ, _checked(arguments.token))), flush=True)
        return 0
    token = current_owner().token(os.urandom(8).hex())
    # Before root becomes the store's account, since Slurm may know no such user.
    asked = Asked()
    if arguments.all or is_some:
        asked = ask_nodes(arguments.nodes, arguments.partition, token, os.environ)
    diagnosis = diagnose(os.environ, token, asked)
    if arguments.json:
        print_json(_diagnosis_json(diagnosis))
    else:
        _print_diagnosis(diagnosis)
    return 0 if diagnosis.is_fit else int(ExitCode.STORE)


def _print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print what somebody has to read, worst first; with -v all of it."""
    import logging

    is_long = logging.getLogger("hpcimg").isEnabledFor(logging.INFO)
    shown = [row for row in diagnosis.rows if is_long or not row.finding.is_quiet]
    if shown:
        _print_findings([(row.finding, (_where(row, diagnosis),)) for row in shown], "NODES")
    told = {row.finding.check for row in shown}
    checks = [row.finding.check for row in diagnosis.rows if row.finding.check not in told]
    fine = ", ".join(dict.fromkeys(checks))
    if fine and not is_long:
        print(f"in order: {fine} (-v shows them)")
    print(f"looked at {len(diagnosis.hosts)}: {', '.join(diagnosis.hosts)}")


def _where(row: Row, diagnosis: Diagnosis) -> str:
    from hpcimg.slurm import folded

    if not row.hosts:
        return "-"
    is_everywhere = len(row.hosts) == len(diagnosis.hosts) > 1
    return "all" if is_everywhere else folded(row.hosts)


def _print_findings(findings: list[tuple[Finding, tuple[str, ...]]], *columns: str) -> None:
    """Print a table in which what to change stands below what was found.

    Each finding comes with its words in `columns`.
    """
    from hpcimg.cli.output import print_table

    rows, colours = [], []
    blank = ("",) * len(columns)
    for one, words in findings:
        rows.append((one.state, one.check, *words, one.what))
        colours.append((_COLOURS[one.state], "", *blank, ""))
        if one.change and one.state != "ok":
            rows.append(("", "", *blank, _ADVICE + one.change))
            colours.append(("", "", *blank, "bold"))
    print_table(("STATE", "CHECK", *columns, "FOUND"), rows, colours)


def _diagnosis_json(diagnosis: Diagnosis) -> dict[str, object]:
    return {
        "fit": diagnosis.is_fit,
        "machines": list(diagnosis.hosts),
        "checks": [
            {**_finding_json(row.finding), "machines": list(row.hosts)} for row in diagnosis.rows
        ],
    }


def _finding_json(one: Finding) -> dict[str, object]:
    fields: dict[str, object] = {"check": one.check, "state": one.state, "what": one.what}
    return {**fields, "change": one.change} if one.change else fields


def _store(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from hpcimg.cli.output import print_json
    from hpcimg.errors import ExitCode
    from hpcimg.settings import read_settings
    from hpcimg.workflow.access import become_account
    from hpcimg.workflow.doctor_store import check_root, confinement, examine

    settings = read_settings(os.environ)
    root = Path(arguments.store or settings.store.path).absolute()
    if arguments.role:
        return _play(root, arguments, settings)
    check_root(root)
    trials = _trials(root, arguments, settings)
    become_account(settings)
    health = examine(root, settings.store, trials, confinement(settings.merger))
    if arguments.json:
        print_json(_as_json(root, settings.store.lock, health))
    else:
        _print(health)
    return 0 if health.is_fit else int(ExitCode.STORE)


def _trials(root: Path, arguments: argparse.Namespace, settings: Settings) -> list[Trial]:
    """Try between nodes; where Slurm starts nothing, say so and try with two processes here."""
    import shutil

    from hpcimg.slurm import nodes_of_list
    from hpcimg.workflow.doctor_store import Trial, may_try, try_alone, try_out

    why = may_try(root, settings.store)
    if why:
        return [Trial(why=why)]
    is_asked = arguments.nodes is not None or arguments.partition is not None
    if not is_asked and shutil.which("srun") is None:
        return [try_alone(root)]
    nodes = nodes_of_list(arguments.nodes) if arguments.nodes else ()
    trials = try_out(root, nodes, arguments.partition)
    return [*trials] if any(one.seen for one in trials) else [*trials, try_alone(root)]


def _play(root: Path, arguments: argparse.Namespace, settings: Settings) -> int:
    import json

    from hpcimg.slurm import task_rank
    from hpcimg.store.trial import play, scratch
    from hpcimg.workflow.access import become_account

    token = _checked(arguments.token)
    become_account(settings)
    role = task_rank(os.environ) if arguments.role == "rank" else int(arguments.role)
    seen = play(scratch(root, token), role, settings.store.account)
    print(json.dumps(seen.to_fields()), flush=True)
    return 0


def _checked(token: str | None) -> str:
    from hpcimg.errors import UsageError
    from hpcimg.store.owner import owner_of_token

    if not token or owner_of_token(token) is None or "/" in token:
        raise UsageError("a role comes with its doctor's token", "run hpcimg doctor")
    return token


def _print(health: Health) -> None:
    _print_findings([(one, ()) for one in health.findings])
    print(health.where)


def _as_json(root: Path, lock: str, health: Health) -> dict[str, object]:
    return {
        "store": str(root),
        "fit": health.is_fit,
        "lock": {"setting": lock, "safe": list(health.safe)},
        "where": health.where,
        "checks": [_finding_json(one) for one in health.findings],
    }
