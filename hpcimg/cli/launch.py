"""run and srun for people; get and prefetch for the plugin and the prolog."""

from __future__ import annotations

import argparse
import os
import sys

from hpcimg.cli.parser import Adder

ASK_AS_USER = 80
"""How `get --store site` ends, in silence, where the user's own credentials may help."""


def add(verbs: Adder) -> None:
    """Add the four verbs."""
    run = verbs.add_parser("run", help="run a command in the image that fits this node")
    run.add_argument("name", metavar="NAME")
    run.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER)
    run.add_argument("--dry-run", action="store_true", help="print the command line instead")
    run.set_defaults(call=_run)

    srun = verbs.add_parser(
        "srun",
        help="srun [OPTIONS] --container NAME COMMAND, where the plugin is not installed",
        prefix_chars="\0",
        add_help=False,
    )
    srun.add_argument("words", nargs=argparse.REMAINDER)
    srun.set_defaults(call=_srun)

    get = verbs.add_parser("get", help="have a job's image ready (the plugin calls this)")
    get.add_argument("--store", choices=("site", "own"), default="site")
    _add_job_options(get)
    get.set_defaults(call=_get)

    prefetch = verbs.add_parser("prefetch", help="the same ahead of time (the prolog calls this)")
    prefetch.add_argument("--foreground", type=float, metavar="SECONDS")
    _add_job_options(prefetch)
    prefetch.set_defaults(call=_prefetch, store="site")


def _add_job_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--job", default="", metavar="ID")
    parser.add_argument("--uid", default="", metavar="UID")
    parser.add_argument("--gpus", default="none", metavar="LIST", help="the job's GPUs, or none")
    parser.add_argument("--node", default="", metavar="NAME", help="the node's name, for messages")


def _run(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import ShowProgress
    from hpcimg.errors import UsageError
    from hpcimg.process import describe, replace
    from hpcimg.settings import read_settings
    from hpcimg.workflow.run import run_argv

    command = arguments.command[arguments.command[:1] == ["--"] :]
    if not command:
        raise UsageError("there is no command to run", "write: hpcimg run NAME -- COMMAND")
    show = ShowProgress(arguments.name)
    try:
        argv = run_argv(arguments.name, command, read_settings(os.environ), os.environ, show)
    finally:
        show.close()
    if arguments.dry_run:
        print(describe(argv))
        return 0
    return replace(argv, os.environ)


def _srun(arguments: argparse.Namespace) -> int:
    from hpcimg.process import replace
    from hpcimg.workflow.run import srun_argv

    return replace(srun_argv(arguments.words), os.environ)


def _get(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import ShowProgress, print_error
    from hpcimg.errors import AuthenticationError, HpcimgError, NotListedError
    from hpcimg.settings import read_settings
    from hpcimg.slurm import parse_gpus
    from hpcimg.workflow.get import get

    start = f"hpcimg: {arguments.node}: " if arguments.node else "hpcimg: "
    try:
        ready = get(
            arguments.name,
            # Root-owned settings alone decide here, whatever the environment says.
            read_settings({}),
            scope=arguments.store,
            gpus=parse_gpus(arguments.gpus),
            job=arguments.job,
            on_progress=ShowProgress(arguments.name, start),
        )
    except HpcimgError as error:
        is_refused = isinstance(error, AuthenticationError) and not isinstance(
            error, NotListedError
        )
        if is_refused and arguments.store == "site":
            return ASK_AS_USER
        print_error(error, arguments.node)
        return int(error.exit_code)
    sys.stdout.write(ready.lines())
    return 0


def _prefetch(arguments: argparse.Namespace) -> int:
    from hpcimg.process import detach_after
    from hpcimg.settings import read_settings

    seconds = arguments.foreground or read_settings({}).prolog.foreground
    return detach_after(seconds, lambda: _get(arguments))
