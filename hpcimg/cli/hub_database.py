"""Which database the hub's verbs mean, and passwords that no command line shows."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.errors import SettingsError, UsageError

if TYPE_CHECKING:
    from hpcimg.workflow.hub_admin import HubAdmin

DEFAULT_DATABASE = "sqlite:////var/lib/hpcimg/hub.sqlite"
VARIABLE = "HPCIMG_HUB_DATABASE"


def add_database_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which hub is meant."""
    parser.add_argument(
        "--database", metavar="URL", help=f"the hub's database; else ${VARIABLE}, or the settings'"
    )
    parser.add_argument(
        "--settings", metavar="FILE", type=Path, help="read this and not /etc/hpcimg/hub.yaml"
    )


def add_password_option(parser: argparse.ArgumentParser) -> None:
    """Add the option by which a password comes."""
    parser.add_argument(
        "--password-stdin",
        action="store_true",
        help="read the password from standard input; a terminal is asked for it",
    )


def database_url(given: str | None, settings: str = "") -> str:
    """Choose the database: of the command line, the environment, the settings, or the usual one."""
    return given or os.environ.get(VARIABLE) or settings or DEFAULT_DATABASE


@contextmanager
def hub_admin(arguments: argparse.Namespace) -> Iterator[HubAdmin]:
    """Open the database that the options name, and close it at the end."""
    from hpcimg.hub.settings import read_hub_settings

    try:
        from hpcimg.hub.database import Database
        from hpcimg.workflow.hub_admin import HubAdmin
    except ImportError as error:
        raise SettingsError(
            f"the hub needs more libraries than the rest: {error}", "pip install 'hpcimg[hub]'"
        ) from error
    is_told = arguments.database or os.environ.get(VARIABLE)
    settings = "" if is_told else read_hub_settings(arguments.settings).database
    database = Database(database_url(arguments.database, settings))
    try:
        yield HubAdmin(database)
    finally:
        database.close()


def read_password(what: str) -> str:
    """Read a password from standard input, or ask twice for it on a terminal."""
    if sys.stdin.isatty():
        from getpass import getpass

        password = getpass(f"Password of {what}: ")
        if getpass("The same again: ") != password:
            raise UsageError("the two passwords are not the same", "try again")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise UsageError("the password is empty", "write it in the first line")
    return password


def new_password() -> str:
    """Make up a password."""
    import secrets

    return secrets.token_urlsafe(24)
