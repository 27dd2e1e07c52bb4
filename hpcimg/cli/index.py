"""index push, create and lint: many builds behind one name."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.cli.parser import Adder

if TYPE_CHECKING:
    from hpcimg.oci.client import RegistryClient
    from hpcimg.settings import Settings
    from hpcimg.workflow.push import PushResult
    from hpcimg.workflow.recipe import Recipe


def add(verbs: Adder) -> None:
    """Add the noun and its verbs."""
    index = verbs.add_parser("index", help="make one name of many builds").add_subparsers(
        metavar="COMMAND", required=True
    )
    push = index.add_parser("push", help="push the index that a YAML file describes")
    push.add_argument("file", metavar="MANIFEST.YML", type=Path, help="- reads standard input")
    push.add_argument("--dry-run", action="store_true", help="make it, but push nothing")
    push.add_argument("--json", action="store_true", help="print an object for programs")
    push.set_defaults(call=_push)
    create = index.add_parser("create", help="make that YAML of the tags that a repository has")
    create.add_argument(
        "--from-tags",
        metavar="REPOSITORY:TEMPLATE",
        required=True,
        help="as 'tool:{cpu}-{gpu}'; places are {cpu}, {gpu}, {driver}, {version}, {any}",
    )
    create.add_argument("--to", metavar="NAME:TAG", help="name of the index; else REPOSITORY's own")
    create.add_argument("--push", action="store_true", help="push it at once, print no YAML")
    create.set_defaults(call=_create)
    lint = index.add_parser("lint", help="find what is wrong with an index, and say what to do")
    lint.add_argument("name", metavar="NAME|FILE", help="an image, or a YAML file to push")
    lint.add_argument("--strict", action="store_true", help="fail for warnings as well")
    lint.add_argument("--json", action="store_true", help="print an object for programs")
    lint.set_defaults(call=_lint)


def _push(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import print_json

    settings, client = _own_client()
    recipe = _standard_input() if str(arguments.file) == "-" else arguments.file
    result = _pushed(recipe, settings, client, dry_run=arguments.dry_run)
    if arguments.json:
        print_json(result.to_json())
    else:
        print(result.digest)
    return 0


def _create(arguments: argparse.Namespace) -> int:
    from hpcimg.quoting import quoted
    from hpcimg.workflow.create import create_recipe
    from hpcimg.workflow.recipe import recipe_text

    settings, client = _own_client()
    created = create_recipe(arguments.from_tags, settings, client, arguments.to)
    for tag, why in created.left_out:
        print(f"hpcimg: left out: tag {quoted(tag)} {why}", file=sys.stderr)
    if arguments.push:
        print(_pushed(created.recipe, settings, client).digest)
    else:
        print(recipe_text(created.recipe), end="")
    return 0


def _lint(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import paint, print_json
    from hpcimg.errors import ExitCode
    from hpcimg.workflow.lint import lint_index

    settings, client = _own_client()
    result = lint_index(arguments.name, settings, client)
    if arguments.json:
        print_json(result.to_json())
    else:
        colours = {"error": "red", "warning": "yellow", "note": "dim"}
        later = [*result.findings, None][1:]
        for finding, after in zip(result.findings, later, strict=True):
            severity = paint(finding.severity, colours[finding.severity])
            print(f"{severity}: {finding.code}: {finding.where}: {finding.message}")
            # Several words of one entry may be wrong in one way.
            same = after and (after.code, after.where) == (finding.code, finding.where)
            if not same or (after and after.hint != finding.hint):
                print(f"    {finding.hint}")
        print(result.summary())
    return int(ExitCode.USAGE) if result.fails(strict=arguments.strict) else 0


def _own_client() -> tuple[Settings, RegistryClient]:
    from hpcimg.settings import read_settings
    from hpcimg.workflow.access import own_access

    settings = read_settings(os.environ)
    return settings, own_access(settings, os.environ).client


def _standard_input() -> Recipe:
    from hpcimg.errors import UsageError
    from hpcimg.workflow.recipe import parse_recipe

    try:
        text = sys.stdin.read()
    except UnicodeError as error:
        raise UsageError("standard input is not UTF-8 text", "send a recipe's YAML") from error
    return parse_recipe(text, source="standard input")


def _pushed(
    recipe: Recipe | Path, settings: Settings, client: RegistryClient, *, dry_run: bool = False
) -> PushResult:
    from hpcimg.cli.progress_lines import ShowProgress
    from hpcimg.workflow.push import push_index

    show = ShowProgress("the images")
    try:
        return push_index(recipe, settings, client, dry_run=dry_run, on_progress=show)
    finally:
        show.close()
