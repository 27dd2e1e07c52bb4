#!/usr/bin/env python3
"""Writes hpcimg/data/completion.bash and completion.zsh from the command line's own parser.

Run it after a change of the command line; a test compares the files with what it would write.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import shtab

import hpcimg
from hpcimg.cli import VERBS
from hpcimg.cli.completion import SHELLS
from hpcimg.cli.parser import make_parser

DATA = Path(hpcimg.__file__).resolve().parent / "data"
_FILES = {"--file", "--profile", "--cpuinfo", "yaml"}
_HOOKS = {"get", "prefetch", "pin", "record", "fetch"}
_FOLDERS = {"--root", "--store"}


def scripts() -> dict[Path, str]:
    """Each script's path and text."""
    modules = [import_module(f"hpcimg.cli.{name}") for name in dict.fromkeys(VERBS.values())]
    found = {}
    for shell in SHELLS:
        parser = make_parser(modules)
        _prepare(parser)
        text = str(shtab.complete(parser, shell))
        found[DATA / f"completion.{shell}"] = text.rstrip() + "\n"
    return found


def _prepare(parser: argparse.ArgumentParser) -> None:
    """Leave out what only hooks call, and say where a file is meant."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to its verbs
        words = {*action.option_strings, action.dest}
        if words & _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif words & _FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for one in action._choices_actions:  # noqa: SLF001
                if one.dest in _HOOKS:
                    one.help = argparse.SUPPRESS
            for child in action.choices.values():
                _prepare(child)


if __name__ == "__main__":
    for path, text in scripts().items():
        path.write_text(text, encoding="utf-8")
