"""cache ls, and the noun of its other verbs: the site's image store, seen from a login node."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from hpcimg.cli.parser import Adder
from hpcimg.cli.warm import add_warm

if TYPE_CHECKING:
    from hpcimg.store.entry import Record


def add(verbs: Adder) -> None:
    """Add the noun and its verbs."""
    cache = verbs.add_parser("cache", help="the site's image store").add_subparsers(
        metavar="COMMAND", required=True
    )
    add_warm(cache)
    listing = cache.add_parser("ls", help="list the images in the store")
    listing.add_argument("--json", action="store_true", help="print a list for programs")
    listing.set_defaults(call=_list)


def _list(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import print_json, print_table
    from hpcimg.oci.digest import shortened
    from hpcimg.settings import read_settings
    from hpcimg.store.store import site_store

    entries = site_store(read_settings(os.environ).store).entries()
    if arguments.json:
        print_json([{"path": str(e.path), **e.record.to_fields()} for e in entries])
        return 0
    rows = (
        (
            shortened(e.record.digest),
            f"{e.record.size / 1e6:.1f} MB",
            _features(e.record),
            e.record.created[:19],
            " ".join(e.record.references),
        )
        for e in entries
    )
    print_table(("DIGEST", "SIZE", "FEATURES", "CREATED", "REFERENCE"), rows)
    return 0


def _features(record: Record) -> str:
    """Say what an image is for; one that was only asked for by digest never said it."""
    by_name = any("@" not in reference for reference in record.references)
    return ",".join(record.features) or ("generic" if by_name else "-")
