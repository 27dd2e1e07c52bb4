"""cache ls, info, verify and stats: what the site's image store holds, and whether it is good."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from hpcimg.cli.parser import Adder

if TYPE_CHECKING:
    from typing_extensions import Self

    from hpcimg.cli.progress_lines import ShowProgress
    from hpcimg.progress import OnProgress
    from hpcimg.settings import Settings
    from hpcimg.store.entry import EntryKey, Record
    from hpcimg.store.store import Store
    from hpcimg.tally import Count
    from hpcimg.workflow.holdings import Holding
    from hpcimg.workflow.stats import Stats
    from hpcimg.workflow.verify import Checked

_TO_THE_MINUTE = len("2026-01-31T12:00")
_WHICH = "a digest, its first letters, or an image name, which means all of its entries"


def add_holdings(cache: Adder) -> None:
    """Add the verbs that look at what there is."""
    listing = cache.add_parser("ls", help="list the images in the store")
    listing.add_argument("--json", action="store_true", help="print a list for programs")
    listing.set_defaults(call=_list)

    info = cache.add_parser("info", help="print all that the store knows of an image")
    info.add_argument("which", metavar="IMAGE", nargs="+", help=_WHICH)
    info.add_argument("--json", action="store_true", help="print a list for programs")
    info.set_defaults(call=_info)

    verify = cache.add_parser("verify", help="read images again and compare them to their records")
    verify.add_argument("which", metavar="IMAGE", nargs="*", help=_WHICH)
    verify.add_argument("--all", action="store_true", help="check every image")
    verify.add_argument(
        "--quarantine",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="move a bad image aside, so that the next job builds it anew (the account does)",
    )
    verify.add_argument("--json", action="store_true", help="print a list for programs")
    verify.set_defaults(call=_verify)

    stats = cache.add_parser("stats", help="print what requests of the store came to")
    form = stats.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print an object for programs")
    form.add_argument("--prometheus", action="store_true", help="print Prometheus's text format")
    stats.set_defaults(call=_stats)


def _site() -> tuple[Settings, Store]:
    from hpcimg.settings import read_settings
    from hpcimg.store.store import site_store
    from hpcimg.workflow.holdings import check_there

    settings = read_settings(os.environ)
    store = site_store(settings.store)
    check_there(store)
    return settings, store


def _list(arguments: argparse.Namespace) -> int:
    from hpcimg.amounts import utc_text
    from hpcimg.cli.output import print_json, print_table
    from hpcimg.oci.digest import shortened
    from hpcimg.workflow.holdings import holdings

    held = holdings(_site()[1])
    if arguments.json:
        print_json([one.fields for one in held])
        return 0
    rows = (
        (
            shortened(one.entry.record.digest),
            _size(one.entry.record.size),
            _features(one.entry.record),
            one.entry.record.created[:_TO_THE_MINUTE],
            utc_text(one.last_use)[:_TO_THE_MINUTE],
            "?" if one.leases is None else str(len(one.leases)),
            " ".join(map(_short, one.entry.record.references)),
        )
        for one in held
    )
    head = ("DIGEST", "SIZE", "FEATURES", "CREATED", "USED", "LEASES", "REFERENCE")
    print_table(head, rows)
    return 0


def _info(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import print_json
    from hpcimg.store.events import read_events
    from hpcimg.workflow.holdings import found, with_counts

    settings, store = _site()
    held = found(store, tuple(arguments.which), settings)
    counted = read_events(store)
    counts = [counted.of_digest(one.entry.record.digest) for one in held]
    if arguments.json:
        print_json([with_counts(one, count) for one, count in zip(held, counts, strict=True)])
        return 0
    print("\n\n".join(_page(one, count) for one, count in zip(held, counts, strict=True)))
    return 0


def _page(one: Holding, count: Count) -> str:
    """Write all of a record, a word and its value a line."""
    from hpcimg.amounts import utc_text

    record = one.entry.record
    jobs = (
        f"job {lease.key.job} of {lease.key.cluster}, uid {lease.key.uid}, "
        f"since {utc_text(lease.taken)}"
        for lease in one.leases or ()
    )
    lines = [
        ("digest", record.digest),
        *(("reference", reference) for reference in record.references),
        ("features", _features(record)),
        ("converter", record.converter),
        ("size", f"{_size(record.size)} ({record.size} bytes)"),
        ("sha256", record.sha256),
        ("fs-verity", record.verity or "-"),
        ("created", f"{record.created} on {record.builder}"),
        *(("layer", f"{layer.digest}  {_size(layer.size)}") for layer in record.layers),
        *(("signed", f"{signed.digest} by key {signed.key}") for signed in record.signatures),
        ("used", utc_text(one.last_use)),
        *(("lease", job) for job in jobs),
        ("requests", f"{count.hit} hit, {count.built} built, {count.waited} waited"),
        ("path", str(one.entry.path)),
    ]
    return "\n".join(f"{word:<10} {value}" for word, value in lines)


def _verify(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import print_json
    from hpcimg.errors import ExitCode, StoreError, UsageError
    from hpcimg.workflow.access import become_account
    from hpcimg.workflow.holdings import keys
    from hpcimg.workflow.verify import may_set_aside, verify

    if bool(arguments.which) == arguments.all:
        raise UsageError("say which images to check", "give digests or names, or --all")
    settings, store = _site()
    become_account(settings)
    if arguments.quarantine and not may_set_aside(store):
        raise StoreError(
            f'only the account of the store "{store.root}" may move its images',
            "run it as root or as that account, or leave --quarantine out",
        )
    wanted = may_set_aside(store) if arguments.quarantine is None else arguments.quarantine
    checked = []
    with _Bars() as bars:
        chosen = keys(store, tuple(arguments.which), settings)
        for one in verify(store, chosen, quarantine=wanted, on_progress=bars.of):
            bars.close()
            checked.append(one)
            if not arguments.json:
                print(_verdict(one), flush=True)
    if arguments.json:
        print_json([one.to_fields() for one in checked])
    bad = [one for one in checked if one.reason]
    if bad and not (arguments.json or may_set_aside(store)):
        print("hpcimg: hint: as root, the same command moves bad images aside", file=sys.stderr)
    return int(ExitCode.STORE) if bad else 0


class _Bars:
    """The bar of the entry that is being read; taken away before its verdict is printed."""

    def __init__(self) -> None:
        self._show: ShowProgress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def of(self, key: EntryKey) -> OnProgress:
        """Begin the bar of an entry."""
        from hpcimg.cli.progress_lines import ShowProgress
        from hpcimg.oci.digest import shortened

        self._show = ShowProgress(shortened(key.digest))
        return self._show

    def close(self) -> None:
        """Take the bar away."""
        if self._show is not None:
            self._show.close()
            self._show = None


def _verdict(one: Checked) -> str:
    from hpcimg.cli.output import paint

    if not one.reason:
        return f"{paint('good', 'green')}  {one.key.digest}  {_size(one.size)}"
    aside = "; moved to the quarantine" if one.is_aside else ""
    return f"{paint('bad', 'red')}   {one.key.digest}  {one.reason}{aside}"


def _stats(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.output import print_json
    from hpcimg.workflow.stats import prometheus_text, read_stats

    stats = read_stats(_site()[1])
    if arguments.json:
        print_json(stats.to_fields())
    elif arguments.prometheus:
        print(prometheus_text(stats), end="")
    else:
        _print_stats(stats)
    return 0


def _print_stats(stats: Stats) -> None:
    from hpcimg.cli.output import print_table

    whole = stats.whole
    held = f"{stats.entries} ({_size(stats.entry_bytes)}), {_size(stats.free_bytes)} free"
    print(f"images     {held}")
    print(f"leases     {'?' if stats.leases is None else stats.leases}")
    if stats.quarantined:
        print(f"aside      {stats.quarantined} in the quarantine")
    results = f"{whole.hit} hit, {whole.built} built, {whole.waited} waited, {whole.failed} failed"
    print(f"requests   {results}")
    print(f"fetched    {_size(whole.bytes)}")
    for word, times in (("building", stats.tally.build), ("waiting", stats.tally.wait)):
        if times.count:
            print(f"{word:<10} {times.count} times, {times.sum / times.count:.1f} s on average")
    rows = (
        (
            str(count.hit),
            str(count.built),
            str(count.waited),
            str(count.failed),
            _size(count.bytes),
            f"{count.build_seconds:.1f} s",
            f"{count.wait_seconds:.1f} s",
            image or "(others)",
        )
        for image, count in stats.tally.by_name().items()
    )
    if stats.tally.images:
        print()
        head = ("HIT", "BUILT", "WAITED", "FAILED", "FETCHED", "BUILDING", "WAITING", "IMAGE")
        print_table(head, rows)


def _size(size: int) -> str:
    from hpcimg.store.faults import size_text

    return size_text(size)


def _short(reference: str) -> str:
    """Cut the digest of a name: what is listed has its own column for it."""
    from hpcimg.oci.digest import shortened

    name, at, digest = reference.partition("@")
    return f"{name}@{shortened(digest)}" if at else name


def _features(record: Record) -> str:
    """Say what an image is for; one that was only asked for by digest never said it."""
    by_name = any("@" not in reference for reference in record.references)
    return ",".join(record.features) or ("generic" if by_name else "-")
