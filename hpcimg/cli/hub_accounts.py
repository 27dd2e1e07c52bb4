"""hub account: who may log in to the hub, and what each may do."""

from __future__ import annotations

import argparse
import sys

from hpcimg.cli.hub_database import (
    add_database_options,
    add_password_option,
    hub_admin,
    read_password,
)
from hpcimg.cli.parser import Adder

_ROLES = ("admin", "owner", "puller")


def add_accounts(hub: Adder) -> None:
    """Add `hub account` and its verbs."""
    verbs = hub.add_parser("account", help="manage accounts").add_subparsers(
        metavar="COMMAND", required=True
    )
    add = verbs.add_parser("add", help="add an account; without a password nobody logs in as it")
    add.add_argument(
        "--role",
        choices=_ROLES,
        default="owner",
        help="admin: may all; owner: manages its own types; puller: pulls",
    )
    add_password_option(add)
    add.set_defaults(call=_add)
    change = verbs.add_parser("change", help="change the role of an account, or disable it")
    change.add_argument("--role", choices=_ROLES, help="what it may from now on")
    state = change.add_mutually_exclusive_group()
    state.add_argument(
        "--disable", action="store_true", help="let nobody log in as it or its types"
    )
    state.add_argument("--enable", action="store_true", help="let them again")
    change.set_defaults(call=_change)
    password = verbs.add_parser("password", help="set the password of an account")
    add_password_option(password)
    password.set_defaults(call=_password)
    remove = verbs.add_parser(
        "remove", help="remove an account, its machine types and their logins"
    )
    remove.set_defaults(call=_remove)
    for verb in (add, change, password, remove):
        verb.add_argument("name", metavar="NAME")
        add_database_options(verb)
    listed = verbs.add_parser("list", help="list accounts")
    add_database_options(listed)
    listed.add_argument("--json", action="store_true", help="print a list for programs")
    listed.set_defaults(call=_list)


def _add(arguments: argparse.Namespace) -> int:
    from hpcimg.hub.account import Account, Role

    account = Account(arguments.name, Role(arguments.role))
    with hub_admin(arguments) as admin:
        password = read_password(account.name) if arguments.password_stdin else ""
        admin.add_account(account, password)
    return 0


def _change(arguments: argparse.Namespace) -> int:
    from hpcimg.errors import UsageError
    from hpcimg.hub.account import Role

    changes: dict[str, object] = {}
    if arguments.role:
        changes["role"] = Role(arguments.role)
    if arguments.disable or arguments.enable:
        changes["disabled"] = arguments.disable
    if not changes:
        raise UsageError("nothing is to be changed", "see hpcimg hub account change --help")
    with hub_admin(arguments) as admin:
        admin.change_account(arguments.name, changes)
    return 0


def _password(arguments: argparse.Namespace) -> int:
    from hpcimg.errors import UsageError

    if not arguments.password_stdin and not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask for the password", "use --password-stdin")
    with hub_admin(arguments) as admin:
        admin.set_password(arguments.name, read_password(arguments.name))
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    with hub_admin(arguments) as admin:
        admin.remove_account(arguments.name)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import print_json, print_table

    with hub_admin(arguments) as admin:
        types = [one.machine_type.account for one in admin.types()]
        found = [
            {
                "name": one.name,
                "role": one.role.value,
                "disabled": one.disabled,
                "password": bool(one.password_hash),
                "types": types.count(one.name),
            }
            for one in admin.accounts()
        ]
    if arguments.json:
        print_json(found)
        return 0
    rows = [
        (
            str(one["name"]),
            str(one["role"]),
            "disabled" if one["disabled"] else "active",
            "yes" if one["password"] else "no",
            str(one["types"]),
        )
        for one in found
    ]
    print_table(("ACCOUNT", "ROLE", "STATE", "PASSWORD", "TYPES"), rows)
    return 0
