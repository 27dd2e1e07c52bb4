"""hub serve: be a registry that gives every machine type the image that fits."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hpcimg.cli.parser import Adder


def add_serve(verbs: Adder) -> None:
    """Add the verb under `hub`."""
    serve = verbs.add_parser("serve", help="serve images to docker, podman, containerd and others")
    serve.add_argument(
        "--settings", metavar="FILE", type=Path, help="read this and not /etc/hpcimg/hub.yaml"
    )
    serve.add_argument("--listen", metavar="HOST:PORT", help="listen here, whatever the settings")
    serve.add_argument("--database", metavar="URL", help="SQLite file or PostgreSQL, as a URL")
    serve.add_argument(
        "--static-machines",
        action="store_true",
        help="have the types qnib/type1 to type4 with known passwords, to try it out",
    )
    serve.set_defaults(call=_serve)


def _serve(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from hpcimg.cli.hub_database import database_url
    from hpcimg.errors import SettingsError
    from hpcimg.hub.database import Database
    from hpcimg.hub.settings import read_hub_settings

    try:
        from hpcimg.serve.server import cache_folder, serve
    except ImportError as error:
        raise SettingsError(
            f"the hub needs more libraries than the rest: {error}", "pip install 'hpcimg[hub]'"
        ) from error
    settings = read_hub_settings(arguments.settings)
    if arguments.listen:
        settings = replace(settings, listen=arguments.listen)
    database = Database(database_url(arguments.database, settings.database))
    if arguments.static_machines:
        from hpcimg.workflow.hub_admin import HubAdmin

        HubAdmin(database).make_static_machines()
    serve(settings, database, cache_folder(settings), _say)
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
