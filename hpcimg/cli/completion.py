"""completion: print what makes a shell complete our commands, written ahead by docs/."""

from __future__ import annotations

import argparse
from importlib.resources import files

from hpcimg.cli.parser import Adder

SHELLS = ("bash", "zsh")


def add(verbs: Adder) -> None:
    """Add the verb."""
    verb = verbs.add_parser("completion", help="print a script that completes these commands")
    verb.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash or zsh")
    verb.set_defaults(call=_completion)


def _completion(arguments: argparse.Namespace) -> int:
    script = files("hpcimg") / "data" / f"completion.{arguments.shell}"
    print(script.read_text(encoding="utf-8"), end="")
    return 0
