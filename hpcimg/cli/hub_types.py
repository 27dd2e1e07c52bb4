"""hub type: what machines there are, and what is served to them."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from hpcimg.cli.hub_database import (
    add_database_options,
    add_password_option,
    hub_admin,
    new_password,
    read_password,
)
from hpcimg.cli.parser import Adder

if TYPE_CHECKING:
    from collections.abc import Iterable

_HUBS = "hub"
"""The word for the policy that a type does not override."""


def add_types(hub: Adder) -> None:
    """Add `hub type` and its verbs."""
    verbs = hub.add_parser("type", help="manage machine types").add_subparsers(
        metavar="COMMAND", required=True
    )
    add = verbs.add_parser("add", help="add a machine type, and a login for its machines")
    _add_what_it_says(add)
    add_password_option(add)
    add.add_argument("--no-login", action="store_true", help="its machines need no password")
    add.set_defaults(call=_add)
    change = verbs.add_parser("change", help="change what a machine type says, or its password")
    _add_what_it_says(change)
    secret = change.add_mutually_exclusive_group()
    add_password_option(secret)
    secret.add_argument("--new-password", action="store_true", help="make one up and print it")
    secret.add_argument("--no-login", action="store_true", help="remove its login")
    change.set_defaults(call=_change)
    listed = verbs.add_parser("list", help="list machine types")
    listed.add_argument("--account", metavar="NAME", default="", help="those of this account")
    listed.set_defaults(call=_list)
    show = verbs.add_parser("show", help="show a machine type, and what its words come to")
    show.set_defaults(call=_show)
    remove = verbs.add_parser("remove", help="remove a machine type and its login")
    remove.set_defaults(call=_remove)
    for verb in (show, remove):
        verb.add_argument("name", metavar="ACCOUNT/NAME")
    for verb in (add, change, listed, show, remove):
        add_database_options(verb)
    for verb in (add, change, listed, show):
        verb.add_argument("--json", action="store_true", help="print JSON for programs")


def _add_what_it_says(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="ACCOUNT/NAME")
    parser.add_argument("words", metavar="WORD", nargs="*")
    parser.add_argument(
        "--answer", choices=("manifest", "index"), help="answer a tag with the image, or an index"
    )
    parser.add_argument(
        "--policy",
        choices=("compatible", "exact", _HUBS),
        help="choose by this policy, or the hub's",
    )
    parser.add_argument(
        "--description", metavar="TEXT", help="say in words what machines these are"
    )


def _said(arguments: argparse.Namespace) -> dict[str, Any]:
    """Give what the command line says of a type."""
    said: dict[str, Any] = {
        "words": tuple(arguments.words) or None,
        "answer": arguments.answer,
        "policy": "" if arguments.policy == _HUBS else arguments.policy,
        "description": arguments.description,
    }
    return {name: value for name, value in said.items() if value is not None}


def _add(arguments: argparse.Namespace) -> int:
    from hpcimg.errors import UsageError
    from hpcimg.hub.machine_type import MachineType, split_name

    if arguments.no_login and arguments.password_stdin:
        raise UsageError("a type without a login has no password", "leave one of the options out")
    kind = MachineType(*split_name(arguments.name), **_said(arguments))
    with hub_admin(arguments) as admin:
        made = ""
        password = ""
        if arguments.password_stdin:
            password = read_password(kind.login_name)
        elif not arguments.no_login:
            password = made = new_password()
        _note(kind.full_name, admin.add_type(kind, password))
        _print_login(admin.type(kind.full_name).to_json(), made, as_json=arguments.json)
    return 0


def _change(arguments: argparse.Namespace) -> int:
    from hpcimg.errors import UsageError

    changes = _said(arguments)
    if not (changes or arguments.password_stdin or arguments.new_password or arguments.no_login):
        raise UsageError("nothing is to be changed", "see hpcimg hub type change --help")
    with hub_admin(arguments) as admin:
        found = admin.type(arguments.name).machine_type
        made = new_password() if arguments.new_password else ""
        password = read_password(found.login_name) if arguments.password_stdin else made
        _note(arguments.name, admin.change_type(arguments.name, changes, password))
        if arguments.no_login:
            admin.remove_login(arguments.name)
        _print_login(admin.type(arguments.name).to_json(), made, as_json=arguments.json)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import print_json, print_table

    with hub_admin(arguments) as admin:
        found = [one.to_json() for one in admin.types(arguments.account)]
    if arguments.json:
        print_json(found)
        return 0
    head = ("TYPE", "FEATURES", "ANSWER", "POLICY", "LOGIN", "DESCRIPTION")
    rows = [
        (
            one["name"],
            ", ".join(one["features"]),
            one["answer"],
            one["policy"] or _HUBS,
            one["login"] or "-",
            one["description"],
        )
        for one in found
    ]
    print_table(head, rows)
    return 0


def _show(arguments: argparse.Namespace) -> int:
    import json

    from hpcimg.cli.output import print_json

    with hub_admin(arguments) as admin:
        found = admin.type(arguments.name)
    said, profile = found.to_json(), found.machine_type.profile()
    if arguments.json:
        print_json({**said, "profile": json.loads(profile.to_json())})
        return 0
    rows = {
        "type": said["name"],
        "description": said["description"],
        "login": said["login"] or "none",
        "features": ", ".join(said["features"]) or "none",
        "answer": said["answer"],
        "policy": said["policy"] or "the hub's",
        "platform": f"{profile.os}/{profile.architecture}",
        "cpu": profile.target or "unknown",
        "gpus": ", ".join(gpu.word for gpu in profile.gpus.devices) or "none",
        "offers": ", ".join(profile.words) or "nothing more",
    }
    for name, value in rows.items():
        if value:
            print(f"{name + ':':13}{value}")
    _note(said["name"], said["notes"])
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    with hub_admin(arguments) as admin:
        admin.remove_type(arguments.name)
    return 0


def _print_login(said: dict[str, Any], made: str, *, as_json: bool) -> None:
    """Print what a machine logs in with; a password that was made up is shown this once."""
    from hpcimg.cli.output import print_json

    if as_json:
        print_json({**said, "password": made} if made else said)
    elif made:
        print(f"login: {said['login']}\npassword: {made}")


def _note(name: str, notes: Iterable[str]) -> None:
    for note in notes:
        print(f"hpcimg: {name}: {note}", file=sys.stderr)
