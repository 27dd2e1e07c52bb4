"""config: the noun of the verbs about the site's settings."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcimg.cli.parser import Adder

if TYPE_CHECKING:
    from hpcimg.workflow.settings_shown import Shown


def add(verbs: Adder) -> None:
    """Add the noun and its verbs."""
    config = verbs.add_parser("config", help="the site's settings").add_subparsers(
        metavar="COMMAND", required=True
    )
    show = config.add_parser("show", help="print each value and where it comes from")
    show.add_argument("keys", metavar="KEY", nargs="*", help="only these, and all below them")
    show.add_argument("--json", action="store_true", help="print an object for programs")
    show.set_defaults(call=_show)

    check = config.add_parser("check", help="find every mistake in the settings")
    check.add_argument("file", metavar="FILE", nargs="?", type=Path, help="look at this file alone")
    check.set_defaults(call=_check)

    schema = config.add_parser("schema", help="print the settings' JSON schema, for editors")
    schema.set_defaults(call=_schema)


def _show(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import print_json, print_table
    from hpcimg.workflow.settings_shown import allowed, shown_settings

    found = shown_settings(os.environ, arguments.keys)
    if arguments.json:
        print_json({"settings": [vars(one) for one in found], "allowed": allowed(found)})
        return 0
    rows = [(one.key, _value(one), one.source) for one in found]
    colours = ["dim" if one.source == "default" else "" for one in found]
    print_table(("KEY", "VALUE", "FROM"), rows, colours)
    if not arguments.keys:
        print(f"\n{_allowed(allowed(found))}")
    return 0


def _value(one: Shown) -> str:
    if one.key.startswith("registries.") and one.key.endswith(".repositories"):
        return "all" if one.value is None else ", ".join(one.value) or "none"
    return _text(one.value)


def _text(value: Any) -> str:
    """Write a value on one line; what is empty is said to be."""
    from hpcimg.cli.output import one_line

    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_text(one)}" for key, one in value.items())
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return one_line(str(value)) or '""'


def _allowed(hosts: dict[str, Any]) -> str:
    """Say in a sentence what jobs may use."""
    if not hosts:
        return 'jobs may use no registry: none is under "registries"'
    lines = ["jobs may use these registries and no other one:"]
    for host, patterns in hosts.items():
        what = "all repositories" if patterns is None else ", ".join(patterns) or "no repository"
        lines.append(f"  {host}: {what}")
    return "\n".join(lines)


def _check(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import one_line, paint
    from hpcimg.errors import ExitCode
    from hpcimg.workflow.settings_check import check_settings

    found = check_settings(os.environ, arguments.file)
    colours = {"error": "red", "warning": "yellow"}
    for one in found.mistakes:
        severity = paint(one.severity, colours[one.severity])
        print(f"{one.place}: {severity}: {one_line(one.what)}")
        if one.hint and one.hint != "correct the settings file":
            print(f"    {one_line(one.hint)}")
    print(_summary(found.files, [one.severity for one in found.mistakes]))
    return 0 if found.is_right else int(ExitCode.SETTINGS)


def _summary(files: Iterable[Path], severities: list[str]) -> str:
    read = ", ".join(map(str, files)) or "no settings file: all values are the defaults"
    if not severities:
        return f"no mistake in {read}" if read.startswith("/") else read
    counts = [
        f"{number} {word}{'s' * (number != 1)}"
        for word in ("error", "warning")
        if (number := severities.count(word))
    ]
    return f"{' and '.join(counts)} in {read}"


def _schema(_arguments: argparse.Namespace) -> int:
    schema = Path(__file__).parents[1] / "data" / "settings.schema.json"
    sys.stdout.write(schema.read_text(encoding="utf-8"))
    return 0
