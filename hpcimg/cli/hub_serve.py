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
    serve.add_argument(
        "--check", action="store_true", help="read the settings, say what is wrong, and end"
    )
    serve.set_defaults(call=_serve)


def _serve(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from hpcimg.cli.hub_database import database_url
    from hpcimg.errors import SettingsError, UsageError
    from hpcimg.hub.settings import is_address, read_hub_settings

    try:
        from hpcimg.hub.database import Database
        from hpcimg.serve.server import cache_folder, serve
        from hpcimg.workflow.hub_start import check_credentials, prepared
    except ImportError as error:
        raise SettingsError(
            f"the hub needs more libraries than the rest: {error}", "pip install 'hpcimg[hub]'"
        ) from error
    settings = read_hub_settings(arguments.settings)
    if arguments.listen:
        if not is_address(arguments.listen):
            raise UsageError(f"--listen {arguments.listen!r} is not HOST:PORT")
        settings = replace(settings, listen=arguments.listen)
    check_credentials(settings)
    if arguments.check:
        return 0
    url = database_url(arguments.database, settings.database)
    database = Database(url)
    for line in prepared(database, settings, static=arguments.static_machines):
        _say(f"hpcimg hub: {line}")
    serve(settings, database, cache_folder(settings), _say)
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
