"""run and srun: an image without the plugin."""

from __future__ import annotations

import argparse
import logging
import os
from typing import TYPE_CHECKING

from hpcimg.cli.parser import Adder

if TYPE_CHECKING:
    from hpcimg.errors import HpcimgError
    from hpcimg.workflow.run import Start

_SRUN = "srun [SRUN'S OPTIONS] --container NAME COMMAND [ARGUMENT...]"
_SRUN_HELP = "srun where the plugin is not installed: each node runs its own build of NAME"
_VALUES = {
    "match": ("WORD", "how the job's nodes choose: per-node, uniform"),
    "pull": ("WORD", "when to ask: missing, newer, always"),
    "platform": ("WORDS", "take the build for these words, as linux/amd64:broadwell"),
    "mounts": ("SRC:DST[:FLAG+FLAG]", "show files of the node in the container, a list"),
    "workdir": ("DIR", "start in this directory of the container"),
    "env": ("NAME,NAME", "variables that are yours where the image sets them too"),
}
_LISTS = ("mounts", "env")
_SWITCHES = {
    "mount-home": ("no-mount-home", "show your home directory", "do not show it"),
    "writable": ("readonly", "let the command change the image's files, in memory", "let it not"),
    "entrypoint": ("no-entrypoint", "put the image's entrypoint before the command", "do not"),
}


def add(verbs: Adder) -> None:
    """Add the two verbs."""
    run = verbs.add_parser("run", help="run a command in the image that fits this node")
    run.add_argument("name", metavar="NAME")
    run.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER)
    for word, (value, about) in _VALUES.items():
        run.add_argument(f"--{word}", action="append", metavar=value, help=about)
    for word, (other, about, not_so) in _SWITCHES.items():
        both = run.add_mutually_exclusive_group()
        both.add_argument(f"--{word}", action="store_true", help=about)
        both.add_argument(f"--{other}", action="store_true", help=not_so)
    run.add_argument("--dry-run", action="store_true", help="print the command line instead")
    run.add_argument(
        "--say-once", action="store_true", help="of a node's tasks only the first says what fails"
    )
    run.set_defaults(call=_run)

    srun = verbs.add_parser(
        "srun",
        help=_SRUN_HELP,
        usage=f"hpcimg {_SRUN}",
        prefix_chars="\0",
        add_help=False,
    )
    srun.add_argument("words", nargs=argparse.REMAINDER)
    srun.set_defaults(call=_srun)


def _run(arguments: argparse.Namespace) -> int:
    from hpcimg.errors import HpcimgError, UsageError
    from hpcimg.process import describe, replace
    from hpcimg.slurm import is_first_task

    command = arguments.command[arguments.command[:1] == ["--"] :]
    if not command:
        raise UsageError("there is no command to run", "write: hpcimg run NAME -- COMMAND")
    is_silent = arguments.say_once and not is_first_task(os.environ)
    try:
        start = _have_image(arguments, command, is_silent=is_silent)
        if not arguments.dry_run:
            replace(start.argv, {**os.environ, **start.variables})
    except HpcimgError as error:
        return _refuse(error, is_silent=is_silent)
    words = [f"{name}={value}" for name, value in start.variables.items()]
    print(describe([*["env"] * bool(words), *words, *start.argv]))
    return 0


def _words(arguments: argparse.Namespace) -> dict[str, str]:
    """Give what was said; lists that are said several times are one.

    A word that stands beside its opposite is refused by the parser.
    """
    from hpcimg.errors import UsageError
    from hpcimg.quoting import quoted

    found = {}
    for word in _VALUES:
        said = list(dict.fromkeys(getattr(arguments, word) or []))
        if len(said) > 1 and word not in _LISTS:
            one, other = map(quoted, said[:2])
            raise UsageError(f"--{word} is said twice, {one} and {other}", "leave one of them out")
        if said:
            found[word] = ",".join(said)
    for word, (other, *_) in _SWITCHES.items():
        for name, value in ((word, "yes"), (other, "no")):
            if getattr(arguments, name.replace("-", "_")):
                # What the environment says of the opposite is outvoted as well.
                found |= {word: value, other: "no" if value == "yes" else "yes"}
    return found


def _have_image(arguments: argparse.Namespace, command: list[str], *, is_silent: bool) -> Start:
    from hpcimg.cli.progress_lines import ShowProgress
    from hpcimg.progress import silent
    from hpcimg.settings import read_settings
    from hpcimg.slurm import node_name, place_in_step
    from hpcimg.workflow.run import run_start
    from hpcimg.workflow.wishes import read_wishes

    node = node_name(os.environ)
    start = f"hpcimg: {node}: " if node else "hpcimg: "
    show = ShowProgress(arguments.name, start, place_in_step(os.environ))
    if is_silent:
        logging.getLogger("hpcimg").setLevel(logging.ERROR)
    try:
        report = silent if is_silent else show
        wishes = read_wishes(_words(arguments), os.environ)
        settings = read_settings(os.environ)
        found = run_start(arguments.name, command, wishes, settings, os.environ, report)
        show.ready()
        return found
    finally:
        show.close()


def _refuse(error: HpcimgError, *, is_silent: bool) -> int:
    """Say why nothing runs, on a node of a job with the node's name."""
    from hpcimg.cli.output import print_error
    from hpcimg.slurm import node_name

    if os.environ.get("HPCIMG_DEBUG"):
        raise error
    if not is_silent:
        print_error(error, node_name(os.environ))
    return int(error.exit_code)


def _srun(arguments: argparse.Namespace) -> int:
    from hpcimg.process import replace
    from hpcimg.workflow.run import srun_argv

    if arguments.words in (["-h"], ["--help"]):
        # Any other -h is srun's own, or the command's.
        print(f"usage: hpcimg {_SRUN}\n\n{_SRUN_HELP}")
        return 0
    return replace(srun_argv(arguments.words), os.environ)
