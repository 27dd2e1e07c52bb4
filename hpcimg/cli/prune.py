"""cache prune and cache rm: what leaves the site's image store, and why."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, TypeVar

from hpcimg.cli.parser import Adder

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpcimg.settings import Settings
    from hpcimg.store.prune import Stored
    from hpcimg.workflow.prune import Jobs, Pruned

T = TypeVar("T")


def add(verbs: Adder) -> None:
    """Add the two verbs."""
    prune = verbs.add_parser("prune", help="remove images that no job uses: old ones, or too many")
    prune.add_argument(
        "--older", type=_age, default=0.0, metavar="AGE", help="not used for so long, as 30d or 12h"
    )
    prune.add_argument(
        "--high", type=_size, default=0, metavar="SIZE", help="begin when there is more, as 2T"
    )
    prune.add_argument("--low", type=_size, default=0, metavar="SIZE", help="and go down to this")
    prune.add_argument(
        "--keep-bytes", type=_size, default=0, metavar="SIZE", help="the same size for both"
    )
    prune.add_argument("--dry-run", action="store_true", help="only say what would go")
    prune.add_argument("--json", action="store_true", help="print an object for programs")
    prune.set_defaults(call=_prune)

    remove = verbs.add_parser("rm", help="remove these images, if no job uses them")
    remove.add_argument("image", nargs="+", metavar="DIGEST|NAME")
    remove.add_argument("--force", action="store_true", help="also what jobs use: they may fail")
    remove.set_defaults(call=_remove)


def _size(text: str) -> int:
    from hpcimg.amounts import parse_size

    return _told(parse_size, text)


def _age(text: str) -> float:
    from hpcimg.amounts import parse_age

    return _told(parse_age, text)


def _told(parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _begin() -> tuple[Settings, Jobs]:
    """Ask Slurm while we are root, who sees all jobs, and become the account for the rest."""
    from hpcimg.settings import read_settings
    from hpcimg.workflow.access import become_account
    from hpcimg.workflow.prune import ask_for_jobs, check_account

    settings = read_settings(os.environ)
    check_account(settings)
    jobs = ask_for_jobs()
    become_account(settings)
    return settings, jobs


def _prune(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import print_json
    from hpcimg.workflow.prune import bounds, prune

    settings, jobs = _begin()
    high = arguments.high or arguments.keep_bytes
    low = arguments.low or arguments.keep_bytes
    limits = bounds(settings.store, age=arguments.older, high=high, low=low)
    done = prune(settings, limits, jobs, is_dry=arguments.dry_run)
    if arguments.json:
        print_json(_as_json(done, is_dry=arguments.dry_run))
    else:
        _print(done, is_dry=arguments.dry_run)
        if not limits.age and not limits.high:
            print("no image was too old or too many: no limit is set (store: {max_age_days: ...})")
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    from hpcimg.workflow.prune import remove_named

    settings, jobs = _begin()
    for one in remove_named(settings, arguments.image, jobs, is_forced=arguments.force):
        print(f"removed {one.entry.record.digest}  {' '.join(one.entry.record.references)}")
    return 0


def _print(done: Pruned, *, is_dry: bool) -> None:
    from hpcimg.amounts import utc_text
    from hpcimg.cli.output import print_table
    from hpcimg.oci.digest import shortened
    from hpcimg.store.agreement import KEPT_DAYS
    from hpcimg.store.faults import size_text

    if done.removed:
        rows = (
            (
                shortened(each.stored.entry.record.digest),
                size_text(each.stored.entry.record.size),
                utc_text(each.stored.used),
                each.why,
                " ".join(each.stored.entry.record.references),
            )
            for each in done.removed
        )
        print_table(("DIGEST", "SIZE", "LAST USED", "WHY", "REFERENCE"), rows)
    size = sum(one.stored.entry.record.size for one in done.removed)
    kept = sum(one.entry.record.size for one in done.kept)
    held = sum(bool(one.in_use) for one in done.kept)
    verb = "would remove" if is_dry else "removed"
    print(f"{verb} {len(done.removed)} images, {size_text(size)}")
    print(f"{len(done.kept)} stay, {size_text(kept)}; {held} of them in use")
    print(f"leases of ended jobs: {len(done.dropped)}; left behind by others: {len(done.swept)}")
    print(f"what was kept of jobs from more than {KEPT_DAYS} days ago: {done.jobs}")
    for one in done.swept:
        print(f"  {one.path}: {one.why}")
    if done.note:
        print(done.note)


def _as_json(done: Pruned, *, is_dry: bool) -> dict[str, object]:
    return {
        "dry_run": is_dry,
        "removed": [{**_stored(each.stored), "why": each.why} for each in done.removed],
        "kept": [{**_stored(each), "in_use": each.in_use} for each in done.kept],
        "leases_dropped": [
            {"cluster": one.key.cluster, "job": one.key.job, "digest": one.entry.digest}
            for one in done.dropped
        ],
        "swept": [{"path": str(one.path), "why": one.why} for one in done.swept],
        "jobs": done.jobs,
        "note": done.note,
    }


def _stored(one: Stored) -> dict[str, object]:
    from hpcimg.amounts import utc_text

    record = one.entry.record
    return {
        "digest": record.digest,
        "converter": record.converter,
        "size": record.size,
        "references": list(record.references),
        "last_used": utc_text(one.used),
    }
