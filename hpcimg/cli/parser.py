"""The parser of the whole command line, made of what the verbs' modules add."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

from hpcimg import __version__
from hpcimg.errors import UsageError

Adder = Any  # argparse has no public name for what add_subparsers returns


class _Verbose(argparse.Action):
    """Raise the log level at once: it counts before the verb and after it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        del parser, namespace, values, option_string
        logger = logging.getLogger("hpcimg")
        logger.setLevel(logging.INFO if logger.level == logging.NOTSET else logging.DEBUG)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in two lines, as all of our errors."""

    def error(self, message: str) -> NoReturn:
        """Raise what the command line prints."""
        raise UsageError(message, f"see {self.prog} --help")


class _VerbParser(_Parser):
    """A verb's parser, which takes -v as well; one without options of its own does not."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if "-" in self.prefix_chars:
            _add_verbose(self, argparse.SUPPRESS)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse here what nobody knows, so that the hint names this verb and not all of them."""
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found, rest


def make_parser(modules: Sequence[ModuleType]) -> argparse.ArgumentParser:
    """Make the parser with the verbs of these modules; each has an `add(verbs)`."""
    parser = _Parser(
        prog="hpcimg", description="One image name; every node runs the best build of it."
    )
    parser.add_argument("--version", action="version", version=f"hpcimg {__version__}")
    _add_verbose(parser, "say what is decided; twice: and why")
    logging.basicConfig(level=logging.WARNING, format="hpcimg: %(message)s")
    logging.getLogger("hpcimg").setLevel(logging.NOTSET)
    verbs = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_VerbParser)
    for module in modules:
        module.add(verbs)
    return parser


def _add_verbose(parser: argparse.ArgumentParser, about: str) -> None:
    parser.add_argument(
        "-v", "--verbose", action=_Verbose, nargs=0, default=argparse.SUPPRESS, help=about
    )


def add_nodes_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which of the cluster's nodes are meant; neither means all."""
    nodes = parser.add_mutually_exclusive_group()
    nodes.add_argument("--partition", metavar="P", help="the nodes of this partition")
    nodes.add_argument("--nodes", metavar="LIST", help="these nodes, as bdw[1-4],gpu1")


def add_profile_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say for which node to choose; this one is the default."""
    from pathlib import Path

    parser.add_argument("--node", metavar="NAME", help="choose for this node's published profile")
    parser.add_argument(
        "--nodes", metavar="LIST", help="choose what all of these can run, as bdw[1-4],skx1"
    )
    parser.add_argument(
        "--profile", metavar="FILE", type=Path, help="choose for a profile in a file"
    )
    parser.add_argument(
        "--gpus",
        metavar="LIST",
        help="choose for a job with these GPUs of the node, as 0,1 or none",
    )
    parser.add_argument(
        "--platform",
        metavar="WORDS",
        help="choose for what the words offer, as linux/amd64:broadwell:nv-compute-5-2",
    )
    parser.add_argument(
        "--policy",
        choices=("compatible", "exact"),
        help="choose by this policy, whatever the site's",
    )
