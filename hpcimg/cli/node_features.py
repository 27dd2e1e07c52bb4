"""node features: what Slurm should know of nodes, as words that jobs can ask for."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from hpcimg.cli.parser import Adder

if TYPE_CHECKING:
    from hpcimg.slurm import NodeFeatures
    from hpcimg.workflow.node_features import Featured


def add(verbs: Adder) -> None:
    """Add the verb to those of the noun `node`."""
    features = verbs.add_parser(
        "features", help="print a node's words, for Slurm merged with the node's other features"
    )
    which = features.add_mutually_exclusive_group()
    which.add_argument("--node", metavar="NAME", help="this node's published profile")
    which.add_argument("--partition", metavar="P", help="the nodes of this partition")
    which.add_argument("--all", action="store_true", help="all nodes that published a profile")
    features.add_argument(
        "--slurm", action="store_true", help="print the NodeName= ... Feature= lines of slurm.conf"
    )
    how = features.add_mutually_exclusive_group()
    how.add_argument(
        "--scontrol", action="store_true", help="print the scontrol commands that set them now"
    )
    how.add_argument(
        "--feature-line", action="store_true", help="print Feature= alone, for one kind of node"
    )
    features.add_argument(
        "--compatible", action="store_true", help="name each CPU target whose code a node runs"
    )
    features.set_defaults(call=_features)


def _features(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import print_error
    from hpcimg.settings import read_settings
    from hpcimg.workflow.node_features import featured_nodes

    listed = featured_nodes(
        read_settings(os.environ),
        os.environ,
        node=arguments.node,
        partition=arguments.partition,
        everywhere=arguments.all,
        compatible=arguments.compatible,
    )
    found = tuple(one for one in listed if one.error is None)
    code = 0
    for one in listed:
        if one.error is not None:
            print_error(one.error, one.node)
            code = int(one.error.exit_code)
        for word in one.left_out:
            what = f"{word!r} of node {one.node} is left out: Slurm reads its characters otherwise"
            print(f"hpcimg: {what}", file=sys.stderr)
    if arguments.slurm or arguments.scontrol or arguments.feature_line:
        _print_for_slurm(found, arguments)
        return code
    for one in found:
        start = f"{one.node}  " if len(listed) > 1 else ""
        print(f"{start}{','.join(one.words)}")
    return code


def _print_for_slurm(found: tuple[Featured, ...], arguments: argparse.Namespace) -> None:
    from hpcimg.errors import NotFoundError, UsageError
    from hpcimg.process import describe
    from hpcimg.slurm import folded, update_features_argv
    from hpcimg.workflow.node_features import merged_features

    alike: dict[NodeFeatures, list[str]] = {}
    for node, features in merged_features(found).items():
        if features is None:
            print(f"hpcimg: node {node} is left out: Slurm does not know it", file=sys.stderr)
        else:
            alike.setdefault(features, []).append(node)
    if not alike:
        raise NotFoundError("Slurm knows none of these nodes", "`sinfo -N` shows its nodes")
    if arguments.feature_line and len(alike) > 1:
        raise UsageError(
            f"the nodes have {len(alike)} different sets of features",
            "name one node, or leave out --feature-line",
        )
    for features, nodes in alike.items():
        line = f"Feature={','.join(features.available)}"
        if arguments.scontrol:
            print(describe(update_features_argv(nodes, features)))
        elif arguments.feature_line:
            print(line)
        else:
            print(f"NodeName={folded(nodes)} {line}")
