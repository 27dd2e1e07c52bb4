"""The parser of the whole command line, made of what the verbs' modules add."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from hpcimg import __version__

Adder = Any  # argparse has no public name for what add_subparsers returns

_LEVELS = {0: logging.ERROR, 1: logging.INFO, 2: logging.DEBUG}


class _Verbose(argparse.Action):
    """Count -v and set the log level at once."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        del parser, values, option_string
        count = getattr(namespace, self.dest, 0) + 1
        setattr(namespace, self.dest, count)
        logging.getLogger("hpcimg").setLevel(_LEVELS.get(count, logging.DEBUG))


def make_parser(modules: Sequence[ModuleType]) -> argparse.ArgumentParser:
    """Make the parser with the verbs of these modules; each has an `add(verbs)`."""
    parser = argparse.ArgumentParser(
        prog="hpcimg", description="One image name; every node runs the best build of it."
    )
    parser.add_argument("--version", action="version", version=f"hpcimg {__version__}")
    parser.add_argument(
        "-v",
        "--verbose",
        action=_Verbose,
        nargs=0,
        default=0,
        help="say what is decided; twice: and why",
    )
    logging.basicConfig(level=logging.WARNING, format="hpcimg: %(message)s")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in modules:
        module.add(verbs)
    return parser


def add_profile_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say for which node to choose; this one is the default."""
    from pathlib import Path

    parser.add_argument("--node", metavar="NAME", help="choose for this node's published profile")
    parser.add_argument(
        "--profile", metavar="FILE", type=Path, help="choose for a profile in a file"
    )
    parser.add_argument(
        "--platform",
        metavar="WORDS",
        help="choose for what the words offer, as linux/amd64:broadwell:nv-compute-5-2",
    )
