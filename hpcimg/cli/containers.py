"""containers and save: what the plugin asks for containers that have a name or are kept."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hpcimg.cli.parser import Adder


def add(verbs: Adder) -> None:
    """Add the two verbs."""
    containers = verbs.add_parser(
        "containers", help="say where named containers are kept (the plugin calls this)"
    )
    containers.set_defaults(call=_containers)

    save = verbs.add_parser(
        "save", help="write the files here to an image file (the plugin calls this)"
    )
    save.add_argument("path", metavar="PATH", type=Path)
    save.add_argument("--node", default="", metavar="NAME", help="the node's name, for messages")
    save.set_defaults(call=_save)


def _containers(_: argparse.Namespace) -> int:
    from hpcimg.settings import read_settings

    # Root-owned settings alone decide here, whatever the environment says.
    kept = read_settings({}).containers
    print(f"path={kept.path}\nkeep={kept.keep}")
    return 0


def _save(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import print_error
    from hpcimg.errors import HpcimgError
    from hpcimg.progress_text import size_words
    from hpcimg.quoting import quoted
    from hpcimg.runtime.saved import save_tree

    try:
        size = save_tree(Path(), arguments.path)
    except HpcimgError as error:
        print_error(error, arguments.node)
        return int(error.exit_code)
    start = f"hpcimg: {arguments.node}: " if arguments.node else "hpcimg: "
    said = f"saved the container to {quoted(arguments.path)} ({size_words(size)})"
    print(f"{start}{said}", file=sys.stderr)
    return 0
