"""cache warm, and the noun of its other verbs: the site's image store, seen from a login node."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from hpcimg.cli import prune
from hpcimg.cli.holdings import add_holdings
from hpcimg.cli.parser import Adder, add_nodes_options

if TYPE_CHECKING:
    from hpcimg.workflow.warm import Plan, Variant


def add(verbs: Adder) -> None:
    """Add the noun and its verbs."""
    cache = verbs.add_parser("cache", help="the site's image store").add_subparsers(
        metavar="COMMAND", required=True
    )
    warm = cache.add_parser("warm", help="fetch and convert what nodes will pick, before any job")
    warm.add_argument("name", metavar="NAME")
    add_nodes_options(warm)
    warm.add_argument("--json", action="store_true", help="print an object for programs")
    warm.set_defaults(call=_warm)

    add_holdings(cache)
    prune.add(cache)


def _warm(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import ShowProgress, print_error, print_foreign, print_json
    from hpcimg.errors import ExitCode
    from hpcimg.settings import read_settings
    from hpcimg.slurm import named_nodes
    from hpcimg.workflow.access import become_account
    from hpcimg.workflow.warm import plan, warm

    settings = read_settings(os.environ)
    nodes = named_nodes(arguments.partition, arguments.nodes)
    become_account(settings)
    planned = plan(arguments.name, nodes, settings)
    # Before the long work, which may fail and take the word from us.
    for refusal in planned.refused:
        print_error(refusal.error, refusal.node)
    show = ShowProgress(planned.reference)
    say = _say_nothing if arguments.json else _print_variant
    try:
        warm(planned, settings, on_variant=say, on_srun_line=print_foreign, on_progress=show)
    finally:
        show.close()
    if arguments.json:
        print_json(_plan_json(planned))
    return int(ExitCode.NO_CANDIDATE) if planned.refused else 0


def _print_variant(variant: Variant) -> None:
    features = ",".join(variant.features) or "generic"
    print(f"{variant.digest}  {features}  for {','.join(variant.nodes)}", flush=True)


def _say_nothing(variant: Variant) -> None:
    del variant


def _plan_json(planned: Plan) -> dict[str, object]:
    return {
        "reference": planned.reference,
        "variants": [
            {"digest": each.digest, "features": list(each.features), "nodes": list(each.nodes)}
            for each in planned.variants
        ],
        "refused": [{"node": each.node, "reason": each.error.message} for each in planned.refused],
    }
