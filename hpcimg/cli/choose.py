"""resolve and inspect: what a name means, for a node and as it is."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from hpcimg.cli.parser import Adder, add_profile_options
from hpcimg.quoting import quoted

if TYPE_CHECKING:
    from hpcimg.settings import Settings
    from hpcimg.workflow.asked import Answer
    from hpcimg.workflow.source import ImageSource


def add(verbs: Adder) -> None:
    """Add the two verbs."""
    resolve = verbs.add_parser("resolve", help="print the image that a name means on a node")
    resolve.add_argument("name", metavar="NAME")
    add_profile_options(resolve)
    resolve.set_defaults(call=_resolve)

    inspect = verbs.add_parser("inspect", help="show what a registry has behind a name")
    inspect.add_argument("name", metavar="NAME")
    inspect.add_argument("--json", action="store_true", help="print an object for programs")
    inspect.set_defaults(call=_inspect)


def answer(arguments: argparse.Namespace, settings: Settings, source: ImageSource) -> Answer:
    """Answer what a verb's options ask of its name; tell of words that mean nothing."""
    from hpcimg.workflow.asked import Question, ask

    question = Question(
        node=arguments.node,
        nodes=arguments.nodes,
        file=arguments.profile,
        platform=arguments.platform,
        gpus=arguments.gpus,
        policy=arguments.policy,
    )
    found = ask(arguments.name, question, settings, os.environ, source)
    tell_unknown(arguments.platform)
    return found


def tell_unknown(platform: str | None) -> None:
    """Say which words of a platform mean nothing; they may be meant, so it is no error."""
    from hpcimg.features import unknown_words

    for word in unknown_words(platform) if platform else ():
        what = f"{quoted(word)} is no known word: it fits only an image that asks for the very same"
        print(f"hpcimg: {what}", file=sys.stderr)


def _resolve(arguments: argparse.Namespace) -> int:
    from hpcimg.settings import read_settings
    from hpcimg.workflow.access import own_access

    settings = read_settings(os.environ)
    found = answer(arguments, settings, own_access(settings, os.environ).source)
    if found.own is not None:
        what = "the nodes of the job have no image in common, so each takes its own: this node's is"
        print(f"hpcimg: {what}", file=sys.stderr)
    print(found.image())
    return 0


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
