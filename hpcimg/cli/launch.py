"""get, prefetch and pin: what the plugin and the prolog call."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hpcimg.cli.parser import Adder

if TYPE_CHECKING:
    from hpcimg.settings import Settings
    from hpcimg.workflow.get import Ready

ASK_AS_USER = 80
"""How `get --store site` ends, in silence, where the user's own credentials may help."""

_PULLS = "missing, newer, always"


def add(verbs: Adder) -> None:
    """Add the verbs."""
    get = verbs.add_parser("get", help="have a job's image ready (the plugin calls this)")
    get.add_argument("--store", choices=("site", "own"), default="site")
    _add_job_options(get)
    get.set_defaults(call=_get, is_ahead=False)

    prefetch = verbs.add_parser("prefetch", help="the same ahead of time (the prolog calls this)")
    _add_job_options(prefetch)
    prefetch.set_defaults(call=_prefetch, store="site", is_ahead=True)

    pin = verbs.add_parser(
        "pin", help="say what a tag stands for, as NAME:TAG@DIGEST (sbatch's plugin calls this)"
    )
    pin.add_argument("name", metavar="NAME")
    pin.set_defaults(call=_pin)


def _add_job_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--job", default="", metavar="ID")
    parser.add_argument("--uid", default="", metavar="UID")
    parser.add_argument("--gpus", default="none", metavar="LIST", help="the job's GPUs, or none")
    parser.add_argument("--node", default="", metavar="NAME", help="the node's name, for messages")
    parser.add_argument("--match", default="", metavar="WORD", help="how the job's nodes choose")
    parser.add_argument("--nodelist", default="", metavar="LIST", help="all nodes of the job")
    parser.add_argument("--cluster", default="", metavar="NAME")
    parser.add_argument(
        "--leader", default="", metavar="ID", help="the number that a job's components share"
    )
    parser.add_argument("--step", default="", metavar="ID", help="of the job, where it is one")
    parser.add_argument("--started", default="", metavar="TIME", help="the job's start, in s")
    parser.add_argument(
        "--restarts", default="0", metavar="N", help="how often the job was started before"
    )
    parser.add_argument(
        "--pinned", default="", metavar="NAME@DIGEST", help="what its tag was at submit"
    )
    parser.add_argument("--pull", default="", metavar="WORD", help=f"overrides pull: {_PULLS}")
    parser.add_argument(
        "--platform", default="", metavar="WORDS", help="what to choose for instead of the node"
    )
    parser.add_argument(
        "--place", default="", metavar="N/COUNT", help="of the node among those of the step"
    )
    parser.add_argument(
        "--progress", choices=("lines", "reports"), default="lines", help="for people or programs"
    )


def _get(arguments: argparse.Namespace) -> int:
    def lines(settings: Settings) -> str:
        return _file_lines(arguments, settings) or _ready(arguments, settings).lines()

    return _print_ready(arguments, lines)


def _file_lines(arguments: argparse.Namespace, settings: Settings) -> str:
    """Have nothing made of what runs as it is; its user alone may look whether there is any."""
    if arguments.store == "site":
        return ""
    from hpcimg.workflow.local import image_path

    path = image_path(arguments.name)
    if path is None:
        return ""
    from hpcimg.slurm import parse_gpus
    from hpcimg.store.lease import lease_key
    from hpcimg.workflow.get import get_file

    whose = lease_key(arguments.cluster, arguments.job, arguments.uid)
    return get_file(path, settings, parse_gpus(arguments.gpus), whose)


def _print_ready(arguments: argparse.Namespace, lines: Callable[[Settings], str]) -> int:
    from hpcimg.cli.output import print_error
    from hpcimg.errors import AuthenticationError, HpcimgError, NotListedError
    from hpcimg.settings import read_settings

    try:
        with _errors_alone():
            # Root-owned settings alone decide here, whatever the environment says.
            settings = read_settings({})
            if arguments.is_ahead and not settings.prolog.prefetch:
                return 0
            found = lines(settings)
        # A path may have bytes that are no text.
        sys.stdout.buffer.write(found.encode(errors="surrogateescape"))
    except NotListedError as error:
        print_error(error, arguments.node)
        return int(error.exit_code)
    except HpcimgError as error:
        if isinstance(error, AuthenticationError) and arguments.store == "site":
            return ASK_AS_USER
        print_error(error, arguments.node)
        return int(error.exit_code)
    except Exception as error:
        # The same as everywhere, but of a job's nodes it must be told which.
        if os.environ.get("HPCIMG_DEBUG"):
            raise
        from hpcimg.cli import confess

        return confess(error, arguments.node)
    return 0


@contextmanager
def _errors_alone() -> Iterator[None]:
    """Log warnings to syslog, unless -v asks for more: a failed launch's user reads two lines."""
    logger = logging.getLogger("hpcimg")
    if logger.level != logging.NOTSET:
        yield
        return
    from hpcimg.cli.output import SyslogStream

    handler = logging.StreamHandler(SyslogStream(""))
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = True
        logger.removeHandler(handler)


def _ready(arguments: argparse.Namespace, settings: Settings) -> Ready:
    from dataclasses import replace

    from hpcimg.cli.progress_lines import ProgressReports, ShowProgress
    from hpcimg.slurm import names_several, nodes_of_list, parse_gpus, place_of
    from hpcimg.store.lease import lease_key
    from hpcimg.workflow.get import get
    from hpcimg.workflow.match import together
    from hpcimg.workflow.pin import read_pull

    # Words that stand for each node make all of them choose alike.
    match = "per-node" if arguments.platform else arguments.match or settings.match
    # Where each node chooses alone, the others' names are nobody's matter.
    nodes = nodes_of_list(arguments.nodelist) if arguments.nodelist and match != "per-node" else ()
    named = (arguments.cluster, arguments.leader or arguments.job, arguments.uid, arguments.started)
    start = f"hpcimg: {arguments.node}: " if arguments.node else "hpcimg: "
    job = together(match, nodes, named)
    request = replace(
        job.request,
        name=arguments.pinned,
        is_again=arguments.restarts not in {"", "0"},
        pull=read_pull(arguments.pull),
    )
    show = ShowProgress(arguments.name, start, place_of(arguments.place))
    ready = get(
        arguments.name,
        settings,
        scope=arguments.store,
        gpus=parse_gpus(arguments.gpus),
        job=arguments.job,
        together=replace(
            job,
            request=request,
            step=arguments.step,
            platform=arguments.platform,
            several=names_several(arguments.nodelist),
            lease=lease_key(arguments.cluster, arguments.job, arguments.uid),
        ),
        on_progress=ProgressReports() if arguments.progress == "reports" else show,
    )
    show.ready(_ready_words(ready))
    return ready


def _ready_words(ready: Ready) -> str:
    """Say what came of a wait; an image that stands alone is no build of a name."""
    from hpcimg.progress_text import size_words

    build = ",".join(ready.resolved.require().features) or "generic"
    return size_words(ready.entry.record.size) + f", {build} build" * ready.resolved.is_index


def _pin(arguments: argparse.Namespace) -> int:
    from hpcimg.settings import read_settings
    from hpcimg.workflow.pin import name_at_submit

    with _errors_alone():
        print(name_at_submit(arguments.name, read_settings({}), os.environ), end="")
    return 0


def _prefetch(arguments: argparse.Namespace) -> int:
    """Get ahead of the job's first step. Nobody sees the prolog: syslog is told."""
    from hpcimg.cli.output import SyslogStream

    sys.stderr = SyslogStream(f"job {arguments.job}: ")
    # The log knows which node it is of.
    node, arguments.node = arguments.node, ""

    def lines(settings: Settings) -> str:
        ready = _ready(arguments, settings)
        if settings.accounting == "none":
            return ready.lines()
        from hpcimg.workflow.job import accounting_line

        line = accounting_line(ready, settings, node, arguments.nodelist)
        return f"{ready.lines()}accounting={line}\n"

    code = _print_ready(arguments, lines)
    if code == ASK_AS_USER:
        print(f"the site may not read {arguments.name}: its user will fetch it", file=sys.stderr)
    return code
