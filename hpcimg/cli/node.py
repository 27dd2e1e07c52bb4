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
    show.add_argument(
        "--root", metavar="DIR", type=Path, help="read a recorded machine's proc, sys and etc"
    )
    show.set_defaults(call=_show)

    publish = node.add_parser("publish", help="tell the store, and keep it for this boot (as root)")
    publish.add_argument("--json", action="store_true", help="print the profile for programs")
    publish.set_defaults(call=_publish)
    forget = node.add_parser("forget", help="remove the profile of a node that is gone (as root)")
    forget.add_argument("name", metavar="NAME")
    forget.set_defaults(call=_forget)
    node_features.add(node)


def _show(arguments: argparse.Namespace) -> int:
    from hpcimg.node.detect import detect, recorded
    from hpcimg.node.words import with_offered
    from hpcimg.settings import read_settings
    from hpcimg.workflow.profile import this_node

    if arguments.root is not None:
        profile = detect(root=recorded(arguments.root), cpuinfo=arguments.cpuinfo)
    elif arguments.cpuinfo is not None:
        profile = detect(cpuinfo=arguments.cpuinfo)
    else:
        offered = read_settings(os.environ).platform_features
        profile = with_offered(this_node(refresh=arguments.refresh), offered)
    _print_profile(profile, as_json=arguments.json)
    return 0


def _publish(arguments: argparse.Namespace) -> int:
    from hpcimg.settings import read_settings
    from hpcimg.workflow.profile import publish

    # As the account that root turned into, or as root itself: the site's own settings only.
    environment = {} if os.geteuid() == 0 else os.environ
    _print_profile(publish(read_settings(environment)), as_json=arguments.json)
    return 0


def _forget(arguments: argparse.Namespace) -> int:
    from hpcimg.settings import read_settings
    from hpcimg.workflow.profile import forget

    environment = {} if os.geteuid() == 0 else os.environ
    forget(read_settings(environment), arguments.name)
    return 0


def _print_profile(profile: NodeProfile, *, as_json: bool) -> None:
    if as_json:
        print(profile.to_json(), end="")
    else:
        from hpcimg.cli.node_page import print_page

        print_page(profile)
