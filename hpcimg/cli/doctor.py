"""doctor: is the site's store on a file system that can carry it?"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from hpcimg.cli.parser import Adder, add_nodes_options

if TYPE_CHECKING:
    from pathlib import Path

    from hpcimg.settings import Settings
    from hpcimg.workflow.doctor_store import Health, Trial

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "note": "dim", "unknown": "yellow"}


def add(verbs: Adder) -> None:
    """Add the verb."""
    doctor = verbs.add_parser("doctor", help="find out whether a file system can carry the store")
    doctor.add_argument(
        "--store",
        nargs="?",
        const="",
        required=True,
        metavar="DIR",
        help="try this directory; without one, the site's store",
    )
    add_nodes_options(doctor)
    doctor.add_argument("--json", action="store_true", help="print an object for programs")
    # One of the two processes that a doctor starts on nodes.
    doctor.add_argument("--token", help=argparse.SUPPRESS)
    doctor.add_argument("--role", choices=("0", "1", "rank"), help=argparse.SUPPRESS)
    doctor.set_defaults(call=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
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

    from hpcimg.errors import UsageError
    from hpcimg.slurm import task_rank
    from hpcimg.store.owner import owner_of_token
    from hpcimg.store.trial import play, scratch
    from hpcimg.workflow.access import become_account

    if owner_of_token(arguments.token or "") is None or "/" in arguments.token:
        raise UsageError("a role comes with its doctor's token", "run hpcimg doctor --store")
    become_account(settings)
    role = task_rank(os.environ) if arguments.role == "rank" else int(arguments.role)
    seen = play(scratch(root, arguments.token), role, settings.store.account)
    print(json.dumps(seen.to_fields()), flush=True)
    return 0


def _print(health: Health) -> None:
    from hpcimg.cli.output import print_table

    rows = [(one.state, one.check, one.what) for one in health.findings]
    colours = [(_COLOURS[one.state], "", "") for one in health.findings]
    print_table(("STATE", "CHECK", "FOUND"), rows, colours)
    print(health.where)


def _as_json(root: Path, lock: str, health: Health) -> dict[str, object]:
    return {
        "store": str(root),
        "fit": health.is_fit,
        "lock": {"setting": lock, "safe": list(health.safe)},
        "where": health.where,
        "checks": [
            {"check": one.check, "state": one.state, "what": one.what} for one in health.findings
        ],
    }
