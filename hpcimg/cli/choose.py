"""resolve, explain and inspect: what a name means, for a node and as it is."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from hpcimg.cli.parser import Adder, add_profile_options
from hpcimg.quoting import quoted

if TYPE_CHECKING:
    from hpcimg.workflow.resolve import Resolved

_MARKS = {"chosen": ("*", "green"), "fits": ("+", "yellow"), "rejected": ("-", "dim")}


def add(verbs: Adder) -> None:
    """Add the three verbs."""
    resolve = verbs.add_parser("resolve", help="print the image that a name means on a node")
    resolve.add_argument("name", metavar="NAME")
    add_profile_options(resolve)
    resolve.set_defaults(call=_resolve)

    explain = verbs.add_parser("explain", help="show every image behind a name: taken or not, why")
    explain.add_argument("name", metavar="NAME")
    explain.add_argument("--json", action="store_true", help="print an object for programs")
    add_profile_options(explain)
    explain.set_defaults(call=_explain)

    inspect = verbs.add_parser("inspect", help="show what a registry has behind a name")
    inspect.add_argument("name", metavar="NAME")
    inspect.add_argument("--json", action="store_true", help="print an object for programs")
    inspect.set_defaults(call=_inspect)


def _resolved(arguments: argparse.Namespace) -> Resolved:
    from hpcimg.settings import read_settings
    from hpcimg.workflow.access import own_access
    from hpcimg.workflow.match import resolve_for_nodes
    from hpcimg.workflow.profile import chosen_profile
    from hpcimg.workflow.resolve import read_name, resolve, site_policy

    settings = read_settings(os.environ)
    profile = chosen_profile(
        settings,
        os.environ,
        node=arguments.node,
        nodes=arguments.nodes,
        file=arguments.profile,
        platform=arguments.platform,
    )
    _tell_unknown(arguments.platform)
    client = own_access(settings, os.environ).client
    reference = read_name(arguments.name, settings)
    if arguments.nodes:
        return resolve_for_nodes(reference, arguments.nodes, client, settings, arguments.policy)
    policy = site_policy(settings, reference, profile, arguments.policy)
    return resolve(reference, profile, client, policy)


def _tell_unknown(platform: str | None) -> None:
    """Say which words of --platform mean nothing; they may be meant, so it is no error."""
    from hpcimg.features import unknown_words

    for word in unknown_words(platform) if platform else ():
        what = f"{quoted(word)} is no known word: it fits only an image that asks for the very same"
        print(f"hpcimg: {what}", file=sys.stderr)


def _resolve(arguments: argparse.Namespace) -> int:
    print(_resolved(arguments).image())
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import print_json
    from hpcimg.errors import ExitCode

    resolved = _resolved(arguments)
    if arguments.json:
        print_json(resolved.to_json())
    else:
        _print_explanation(resolved)
    return 0 if resolved.resolution.pick else int(ExitCode.NO_CANDIDATE)


def _print_explanation(resolved: Resolved) -> None:
    from hpcimg.cli.output import paint

    profile = resolved.profile
    gpus = ", ".join(f"{gpu.name} {gpu.capability}".strip() for gpu in profile.gpus.devices)
    kind = "index" if resolved.is_index else "image"
    print(f"{paint(str(resolved.reference), 'bold')} ({kind} {resolved.digest})")
    print(f"node {profile.node or '(words)'}: {profile.os}/{profile.architecture}", end="")
    print(f", cpu {profile.target or 'unknown'}, gpu {gpus or profile.gpus.state}", end="")
    print(f", driver {profile.gpus.driver}" if profile.gpus.driver else "")
    for candidate in resolved.resolution.candidates:
        mark, colour = _MARKS.get(candidate.verdict, (" ", "dim"))
        print(paint(f" {mark} {candidate.label}: {candidate.verdict}", colour))
        print(f"     {candidate.descriptor.digest}")
        print(f"     {candidate.reason}")
    if resolved.resolution.pick is None:
        print(paint("nothing fits: a job with this name is refused on this node", "red"))


def _inspect(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import print_json
    from hpcimg.settings import read_settings
    from hpcimg.workflow.access import own_access
    from hpcimg.workflow.inspect import inspect_image, inspect_json, inspect_text

    settings = read_settings(os.environ)
    client = own_access(settings, os.environ).client
    inspection = inspect_image(arguments.name, settings, client)
    if arguments.json:
        print_json(inspect_json(inspection))
    else:
        print(inspect_text(inspection))
    return 0
