"""node show and node publish: what this node offers."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.cli import node_features
from hpcimg.cli.parser import Adder

if TYPE_CHECKING:
    from hpcimg.node.profile import NodeProfile


def add(verbs: Adder) -> None:
    """Add the noun and its verbs."""
    node = verbs.add_parser("node", help="what this node offers").add_subparsers(
        metavar="COMMAND", required=True
    )
    show = node.add_parser("show", help="show this node's CPU target, features and GPUs")
    show.add_argument("--json", action="store_true", help="print the profile for programs")
    show.add_argument("--refresh", action="store_true", help="look again, not at what was kept")
    show.add_argument(
        "--cpuinfo", metavar="FILE", type=Path, help="read a recorded /proc/cpuinfo or lscpu text"
    )
    show.set_defaults(call=_show)

    publish = node.add_parser("publish", help="tell the store, and keep it for this boot (as root)")
    publish.add_argument("--json", action="store_true", help="print the profile for programs")
    publish.set_defaults(call=_publish)
    node_features.add(node)


def _show(arguments: argparse.Namespace) -> int:
    from hpcimg.node.detect import detect
    from hpcimg.workflow.profile import this_node

    if arguments.cpuinfo is not None:
        _print_profile(detect(cpuinfo=arguments.cpuinfo), as_json=arguments.json)
    else:
        _print_profile(this_node(refresh=arguments.refresh), as_json=arguments.json)
    return 0


def _publish(arguments: argparse.Namespace) -> int:
    from hpcimg.settings import read_settings
    from hpcimg.workflow.profile import publish

    # As the account that root turned into, or as root itself: the site's own settings only.
    environment = {} if os.geteuid() == 0 else os.environ
    _print_profile(publish(read_settings(environment)), as_json=arguments.json)
    return 0


def _print_profile(profile: NodeProfile, *, as_json: bool) -> None:
    if as_json:
        print(profile.to_json(), end="")
        return
    print(f"node      {profile.node}")
    print(f"platform  {profile.os}/{profile.architecture}, kernel {profile.kernel}")
    print(f"cpu       {profile.target or 'unknown'} ({profile.model or profile.vendor})")
    if features := _features(profile):
        print(f"features  {' '.join(features)}")
    print(f"runs      {' '.join(profile.compatible)}")
    if profile.gpus.state == "present":
        for gpu in profile.gpus.devices:
            print(f"gpu       {gpu.index}: {gpu.name}, capability {gpu.capability}, {gpu.uuid}")
        print(f"driver    {profile.gpus.driver}")
    else:
        reason = f" ({profile.gpus.reason})" if profile.gpus.reason else ""
        print(f"gpu       {profile.gpus.state}{reason}")
    for note in (*profile.notes, *profile.unknowns):
        print(f"note      {note}")


def _features(profile: NodeProfile) -> tuple[str, ...]:
    """List archspec's features of the target; all other flags are in the JSON."""
    from hpcimg import targets

    if profile.target is None:
        return ()
    return tuple(sorted(targets.facts_of(profile.target, profile.architecture).flags))
