"""cache warm: images into the site's store before any job; and cache fetch, which does one."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcimg.cli.parser import Adder, add_nodes_options
from hpcimg.quoting import quoted

if TYPE_CHECKING:
    from hpcimg.workflow.node_types import UnknownNode
    from hpcimg.workflow.warm import Plan, Variant
    from hpcimg.workflow.warming import Outcome

_JOBS_LIMIT = 16
_COMMENT = re.compile(r"(?:^|\s)#.*")
"""Not every number sign: Pyxis's names have one behind the registry."""
_STATES = {
    "stored": ("in the store", ""),
    "planned": ("to fetch", ""),
    "fetched": ("fetched", "green"),
    "failed": ("failed", "red"),
    "interrupted": ("not fetched", "yellow"),
}


def add_warm(verbs: Adder) -> None:
    """Add the two verbs to the noun."""
    warm = verbs.add_parser("warm", help="fetch and convert what nodes will pick, before any job")
    warm.add_argument("names", metavar="NAME", nargs="*")
    warm.add_argument(
        "--file", metavar="LIST", help="also the names in a file, one a line; - is standard input"
    )
    add_nodes_options(warm)
    warm.add_argument(
        "--type",
        "--hardware",
        metavar="TYPE",
        dest="types",
        action="append",
        default=[],
        help="for this node type alone, as `coverage` names it, or for what no node has yet, "
        "as linux/amd64:zen4; again for more",
    )
    warm.add_argument(
        "--jobs", metavar="N", type=_jobs, default=2, help="so many images at once (2)"
    )
    warm.add_argument(
        "--wait",
        metavar="SECONDS",
        type=_seconds,
        default=300,
        help="how long a user's job may wait for a free node (300)",
    )
    warm.add_argument("--dry-run", action="store_true", help="say what would be fetched")
    warm.add_argument("--json", action="store_true", help="print an object for programs")
    warm.set_defaults(call=_warm)

    fetch = verbs.add_parser("fetch", help="have one image in the store (cache warm calls this)")
    fetch.add_argument("name", metavar="NAME")
    fetch.add_argument("digest", metavar="DIGEST")
    fetch.add_argument("features", metavar="FEATURE", nargs="*", help="what it is for")
    fetch.add_argument("--index", default="", metavar="DIGEST", help="what it was picked from")
    fetch.set_defaults(call=_fetch)


def _jobs(text: str) -> int:
    return _number(text, 1, _JOBS_LIMIT)


def _seconds(text: str) -> int:
    return _number(text, 1, 7 * 86400)


def _number(text: str, least: int, most: int) -> int:
    if not (text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
        raise argparse.ArgumentTypeError(f"{quoted(text)} is no number from {least} to {most}")
    return int(text)


def _warm(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.choose import tell_unknown
    from hpcimg.cli.output import print_error
    from hpcimg.settings import read_settings
    from hpcimg.slurm import named_nodes
    from hpcimg.workflow.access import become_account
    from hpcimg.workflow.warm import Hardware, plan
    from hpcimg.workflow.warming import Way

    names = _names(arguments.names, arguments.file)
    if not names:
        where = "standard input" if arguments.file == "-" else f"the list {quoted(arguments.file)}"
        print(f"hpcimg: {where} names no image", file=sys.stderr)
        return 0
    settings = read_settings(os.environ)
    nodes = named_nodes(arguments.partition, arguments.nodes)
    become_account(settings)
    for platform in filter(lambda each: "/" in each, arguments.types):
        tell_unknown(platform)
    with _terminated_as_interrupted():
        plans, unknown = plan(names, Hardware(nodes, tuple(arguments.types)), settings)
        # Before the long work, which may fail and take the word from us.
        for one in unknown:
            print_error(one.error, one.node)
        for each in plans:
            for refusal in each.refused:
                print_error(refusal.error, refusal.where)
            if each.error is not None:
                print_error(each.error)
        way = Way(
            arguments.jobs, arguments.partition or "", arguments.wait, dry_run=arguments.dry_run
        )
        return _Warming(plans, unknown, as_json=arguments.json).run(settings, way)


class _Warming:
    """One run: what is shown while it goes on, and its result."""

    def __init__(
        self, plans: Sequence[Plan], unknown: Sequence[UnknownNode], *, as_json: bool
    ) -> None:
        from hpcimg.cli.progress_many import ShowMany

        self._plans = plans
        self._unknown = unknown
        self._as_json = as_json
        self._outcomes: dict[int, Outcome] = {}
        self._is_dry = False
        self._show = ShowMany()

    def run(self, settings: Any, way: Any) -> int:
        """Do it, print the result, and say how to end."""
        from hpcimg.workflow.warming import warm

        self._is_dry = way.dry_run
        variants = [variant for each in self._plans for variant in each.variants]
        try:
            warm(
                variants,
                settings,
                way,
                on_progress=lambda variant, progress: self._show(variant.label, progress),
                on_outcome=self._end,
            )
        except KeyboardInterrupt:
            self._show.close()
            print("hpcimg: interrupted: run it again for what is missing", file=sys.stderr)
            raise
        finally:
            self._show.close()
            self._print()
        return self._code()

    def _end(self, outcome: Outcome) -> None:
        from hpcimg.cli.output import one_line
        from hpcimg.progress_text import size_words

        self._outcomes[id(outcome.variant)] = outcome
        if self._is_dry:
            return  # the table says it in a moment
        words, _ = _STATES[outcome.state]
        if outcome.state == "fetched":
            words = f"{words} in {outcome.seconds:.1f} s, {size_words(outcome.size)}"
        said = [one_line(line) for line in outcome.said]
        label = outcome.variant.label
        self._show.finish(label, "\n".join([*said, f"hpcimg: {label}: {words}"]))

    def _outcome(self, variant: Variant) -> Outcome:
        from hpcimg.workflow.warming import Outcome

        return self._outcomes.get(id(variant)) or Outcome(variant, "interrupted")

    def _print(self) -> None:
        from hpcimg.cli.output import print_json, print_table

        if self._as_json:
            print_json(self._to_json())
            return
        if not any(each.variants for each in self._plans):
            return  # why there are none was said
        rows, colours = [], []
        for each in self._plans:
            for variant in each.variants:
                outcome = self._outcome(variant)
                rows.append(_row(outcome))
                colours.append(_STATES[outcome.state][1])
            if each.error is not None:
                rows.append((each.name, "-", "-", "-", "failed", "-"))
                colours.append("red")
        print_table(("IMAGE", "BUILD", "NODES", "SIZE", "STATE", "DIGEST"), rows, colours)

    def _code(self) -> int:
        from hpcimg.errors import ExitCode

        for each in self._plans:
            if each.error is not None:
                return int(each.error.exit_code)
            for variant in each.variants:
                if code := self._outcome(variant).code:
                    return code
        refused = self._unknown or any(each.refused for each in self._plans)
        return int(ExitCode.NO_CANDIDATE) if refused else 0

    def _to_json(self) -> dict[str, object]:
        return {
            "images": [
                {
                    "name": each.name,
                    "reference": each.reference,
                    "error": each.error.message if each.error else "",
                    "variants": [_outcome_json(self._outcome(one)) for one in each.variants],
                    "refused": [
                        {"nodes": one.where, "reason": one.error.message} for one in each.refused
                    ],
                }
                for each in self._plans
            ],
            "unknown": [{"node": one.node, "reason": one.error.message} for one in self._unknown],
        }


def _row(outcome: Outcome) -> tuple[str, ...]:
    from hpcimg.oci.digest import shortened
    from hpcimg.progress_text import size_words
    from hpcimg.slurm import folded

    variant = outcome.variant
    return (
        variant.name,
        ",".join(variant.features) or "generic",
        folded(variant.nodes) or "-",
        size_words(outcome.size) if outcome.size else "-",
        _STATES[outcome.state][0],
        shortened(variant.digest),
    )


def _outcome_json(outcome: Outcome) -> dict[str, object]:
    return {
        "digest": outcome.variant.digest,
        "features": list(outcome.variant.features),
        "nodes": list(outcome.variant.nodes),
        "state": outcome.state,
        "bytes": outcome.size,
        "seconds": round(outcome.seconds, 1),
        "said": list(outcome.said),
    }


def _names(given: Sequence[str], file: str | None) -> tuple[str, ...]:
    """Collect the names of the command line and of the list, each once."""
    from hpcimg.errors import UsageError

    if not given and file is None:
        raise UsageError("no NAME and no --file LIST says what", "see hpcimg cache warm --help")
    listed = _read_list(file) if file is not None else ""
    lines = (_COMMENT.sub("", line).strip() for line in listed.splitlines())
    return tuple(dict.fromkeys([*given, *filter(None, lines)]))


def _read_list(file: str) -> str:
    from hpcimg.errors import UsageError

    try:
        if file == "-":
            return sys.stdin.read()
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        message = f"could not read the list {quoted(file)}: {reason}"
        raise UsageError(message, "write one name a line; # begins a comment") from error


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Tidy up when a service is stopped, as on Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fetch(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.progress_lines import ProgressReports
    from hpcimg.settings import read_settings
    from hpcimg.workflow.access import become_account
    from hpcimg.workflow.warming import fetch_one

    settings = read_settings(os.environ)
    become_account(settings)
    features = tuple(arguments.features)
    # Who starts us interrupts us, whatever a shell's background job inherits.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with _terminated_as_interrupted():
        fetch_one(
            arguments.name,
            arguments.digest,
            features,
            arguments.index,
            settings,
            ProgressReports(),
        )
    return 0
