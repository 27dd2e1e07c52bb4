"""cache: the noun of the verbs about the site's image store, seen from a login node."""

from __future__ import annotations

from hpcimg.cli import prune
from hpcimg.cli.holdings import add_holdings
from hpcimg.cli.parser import Adder
from hpcimg.cli.warm import add_warm


def add(verbs: Adder) -> None:
    """Add the noun and its verbs."""
    cache = verbs.add_parser("cache", help="the site's image store").add_subparsers(
        metavar="COMMAND", required=True
    )
    add_warm(cache)
    add_holdings(cache)
    prune.add(cache)
