"""index push: many builds behind one name."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from hpcimg.cli.parser import Adder


def add(verbs: Adder) -> None:
    """Add the noun and its verb."""
    index = verbs.add_parser("index", help="make one name of many builds").add_subparsers(
        metavar="COMMAND", required=True
    )
    push = index.add_parser("push", help="push the index that a YAML file describes")
    push.add_argument("file", metavar="MANIFEST.YML", type=Path)
    push.add_argument("--dry-run", action="store_true", help="make it, but push nothing")
    push.add_argument("--json", action="store_true", help="print an object for programs")
    push.set_defaults(call=_push)


def _push(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import print_json
    from hpcimg.settings import read_settings
    from hpcimg.workflow.access import own_access
    from hpcimg.workflow.push import push_index

    settings = read_settings(os.environ)
    client = own_access(settings, os.environ).client
    result = push_index(arguments.file, settings, client, dry_run=arguments.dry_run)
    if arguments.json:
        print_json(result.to_json())
    else:
        print(result.digest)
    return 0
