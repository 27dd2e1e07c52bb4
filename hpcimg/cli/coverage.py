"""needs, coverage and wanted: the images as the cluster's builders and buyers see them."""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING

from hpcimg.cli.parser import Adder, add_nodes_options
from hpcimg.quoting import quoted

if TYPE_CHECKING:
    from hpcimg.workflow.coverage import Cell, Coverage
    from hpcimg.workflow.wanted import Want

_COLOURS = {"specific": "green", "partly": "yellow", "generic": "yellow", "none": "red"}
_DAYS = 30.0


def add(verbs: Adder) -> None:
    """Add the three verbs."""
    needs = verbs.add_parser("needs", help="say in words what hardware each build of a name wants")
    needs.add_argument("name", metavar="NAME")
    needs.add_argument("--json", action="store_true", help="print an object for programs")
    needs.set_defaults(call=_needs)

    coverage = verbs.add_parser(
        "coverage", help="show which node types have a build of their own behind each name"
    )
    coverage.add_argument("names", metavar="NAME", nargs="+")
    add_nodes_options(coverage)
    coverage.add_argument("--json", action="store_true", help="print an object for programs")
    coverage.set_defaults(call=_coverage)

    wanted = verbs.add_parser("wanted", help="count the builds that jobs missed, for who builds")
    wanted.add_argument(
        "--since", metavar="DAYS", type=_days, default=_DAYS, help="the last DAYS days (30)"
    )
    wanted.add_argument("--json", action="store_true", help="print a list for programs")
    wanted.set_defaults(call=_wanted)


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not days >= 0:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is no number of days")
    return days


def _needs(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import print_json, print_table
    from hpcimg.settings import read_settings
    from hpcimg.slurm import folded
    from hpcimg.workflow.access import own_access
    from hpcimg.workflow.needs import needs

    settings = read_settings(os.environ)
    found = needs(arguments.name, settings, own_access(settings, os.environ).source)
    if arguments.json:
        print_json(found.to_json())
        return 0
    rows = []
    for one in found.entries:
        words = ", ".join(str(feature) for feature in one.entry.features) or "nothing (generic)"
        nodes = folded(one.nodes) or "none"
        rows.append((words, one.words, *([nodes] if found.knows_nodes else [])))
    print_table(
        ("REQUIRES", "NEEDS", "NODES") if found.knows_nodes else ("REQUIRES", "NEEDS"), rows
    )
    return 0


def _coverage(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import print_error, print_json
    from hpcimg.errors import ExitCode
    from hpcimg.settings import read_settings
    from hpcimg.slurm import named_nodes
    from hpcimg.workflow.access import own_access
    from hpcimg.workflow.coverage import coverage

    settings = read_settings(os.environ)
    nodes = named_nodes(arguments.partition, arguments.nodes)
    source = own_access(settings, os.environ).source
    found = coverage(arguments.names, nodes, settings, source)
    for one in found.unknown:
        print_error(one.error, one.node)
    if arguments.json:
        print_json(found.to_json())
    else:
        _print_coverage(arguments.names, found)
    return 0 if found.is_whole else int(ExitCode.NO_CANDIDATE)


def _print_coverage(names: list[str], found: Coverage) -> None:
    from hpcimg.cli.output import print_table
    from hpcimg.slurm import folded

    rows, colours, holes = [], [], []
    for row in found.rows:
        cells = [_cell(cell) for cell in row.cells]
        rows.append((row.type.label, *cells, folded(row.type.nodes)))
        colours.append(("", *(_COLOURS[cell.closeness] for cell in row.cells), ""))
        gpus = " --gpus none" if row.type.spares_gpu else ""
        holes += [
            f"hpcimg explain {name} --node {row.type.nodes[0]}{gpus}"
            for name, cell in zip(names, row.cells, strict=True)
            if cell.closeness == "none"
        ]
    print_table(("NODE TYPE", *names, "NODES"), rows, colours)
    if holes:
        print(f"\nwhy none: {holes[0]}")


def _cell(cell: Cell) -> str:
    words = ", ".join(cell.pick)
    return f"{cell.closeness}: {words}" if words else cell.closeness


def _wanted(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import print_json, print_table
    from hpcimg.settings import read_settings
    from hpcimg.store.store import site_store
    from hpcimg.workflow.wanted import wanted

    found = wanted(site_store(read_settings(os.environ).store), arguments.since)
    if arguments.json:
        print_json([one.to_json() for one in found])
    else:
        print_table(("JOBS", "IMAGE", "BUILD", "NODES", "GOT", "LAST"), map(_want_row, found))
    return 0


def _want_row(want: Want) -> tuple[str, ...]:
    from hpcimg.slurm import folded

    got = want.got[0][0] if len(want.got) == 1 else ", ".join(f"{n} x {w}" for w, n in want.got)
    day = time.strftime("%Y-%m-%d", time.localtime(want.last))
    variant = ", ".join(want.variant)
    return (str(want.jobs), want.reference, variant, folded(want.nodes), got, day)
