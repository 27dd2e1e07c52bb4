"""hub: the noun, and where its verbs are: `hub_serve`, and what administrators do in the others."""

from __future__ import annotations

from hpcimg.cli import hub_accounts, hub_file, hub_serve, hub_types
from hpcimg.cli.parser import Adder


def add(verbs: Adder) -> None:
    """Add the noun and its verbs."""
    hub = verbs.add_parser(
        "hub", help="be a registry that gives every machine type the image that fits"
    ).add_subparsers(metavar="COMMAND", required=True)
    hub_serve.add_serve(hub)
    hub_types.add_types(hub)
    hub_accounts.add_accounts(hub)
    hub_file.add_files(hub)
