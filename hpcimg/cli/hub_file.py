"""hub import and hub export: all accounts and machine types in one YAML file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hpcimg.cli.hub_database import add_database_options, hub_admin
from hpcimg.cli.parser import Adder


def add_files(hub: Adder) -> None:
    """Add both verbs."""
    taken = hub.add_parser(
        "import", help="add and change what a YAML file lists: hub export's, or MetaHub's"
    )
    taken.add_argument("file", metavar="FILE", help="- reads standard input")
    taken.add_argument("--dry-run", action="store_true", help="say what would change")
    taken.add_argument(
        "--remove-others", action="store_true", help="also remove what the file does not list"
    )
    taken.add_argument("--json", action="store_true", help="print a list for programs")
    taken.set_defaults(call=_import)
    given = hub.add_parser("export", help="print all accounts and machine types as that file")
    given.set_defaults(call=_export)
    for verb in (taken, given):
        add_database_options(verb)


def _import(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import one_line, print_json

    raw, source = _read(arguments.file)
    with hub_admin(arguments) as admin:
        lines = admin.import_file(
            raw, source, dry_run=arguments.dry_run, remove_others=arguments.remove_others
        )
    if arguments.json:
        print_json(lines)
        return 0
    for line in lines:
        print(one_line(line))
    if not lines:
        print("hpcimg: nothing changes", file=sys.stderr)
    return 0


def _export(arguments: argparse.Namespace) -> int:
    with hub_admin(arguments) as admin:
        print(admin.export(), end="")
    return 0


def _read(file: str) -> tuple[bytes, str]:
    from hpcimg.errors import UsageError

    if file == "-":
        return sys.stdin.buffer.read(), "standard input"
    try:
        return Path(file).read_bytes(), file
    except OSError as error:
        raise UsageError(
            f'could not read "{file}": {error.strerror}', "name a YAML file"
        ) from error
