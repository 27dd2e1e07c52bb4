"""`cache warm`, its work: variants brought into the site's store, several at a time.

Each is a child process of its own, so that one can fail, or all be interrupted, without harm.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hpcimg
from hpcimg.errors import ExitCode, HpcimgError, UsageError
from hpcimg.process import Ended, run_several
from hpcimg.progress import OnProgress, Progress
from hpcimg.progress_text import READY, read_report
from hpcimg.runtime.choice import choose_converter
from hpcimg.slurm import folded, usable_nodes, warm_argv, warm_environment
from hpcimg.store.account import is_account
from hpcimg.store.entry import ENTRIES
from hpcimg.store.store import site_store
from hpcimg.workflow.access import site_access
from hpcimg.workflow.counted import Heard
from hpcimg.workflow.ensure import Wanted
from hpcimg.workflow.get import admission, have_image
from hpcimg.workflow.resolve import read_name

if TYPE_CHECKING:
    from hpcimg.settings import Settings
    from hpcimg.store.entry import Entry
    from hpcimg.store.store import Store
    from hpcimg.workflow.admission import Admission
    from hpcimg.workflow.warm import Variant

log = logging.getLogger(__name__)

JOBS = 2
WAIT_SECONDS = 300

# Not `-m`, which would take a directory of this name in the working directory for us.
_START = "import sys; sys.path.append(sys.argv.pop(1)); from hpcimg.cli import run; run()"


@dataclass(frozen=True)
class Outcome:
    """What became of a variant: stored (it was there), fetched, failed, interrupted or planned.

    `said` are the lines that its process said, of one that failed or that is ours; `code` is how
    this command should end for it.
    """

    variant: Variant
    state: str
    size: int = 0
    seconds: float = 0.0
    code: int = 0
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Way:
    """How to warm: so many at once, and through Slurm in this partition, waiting so many seconds.

    `dry_run` says what would be done.
    """

    jobs: int = JOBS
    partition: str = ""
    wait: int = WAIT_SECONDS
    dry_run: bool = False


OnVariant = Callable[["Variant", Progress], None]
OnOutcome = Callable[[Outcome], None]


def warm(
    variants: Sequence[Variant],
    settings: Settings,
    way: Way,
    *,
    on_progress: OnVariant,
    on_outcome: OnOutcome,
) -> None:
    """Bring every variant into the site's store: at once as its account, else through Slurm.

    An ordinary user may not write there, and needs not: a job of one task on one node that picks
    the variant makes that node fetch it, as it would for any job.
    """
    if not (settings.store.shared or way.dry_run or is_account(settings.store.account)):
        raise UsageError(
            "each node has a store of its own here, and this command cannot reach them",
            "have the nodes fetch it: srun -N COUNT --ntasks-per-node=1 --container NAME true",
        )
    store, converter = site_store(settings.store), choose_converter(settings).id
    rules = admission(site_access(settings), settings)
    missing = []
    for variant in variants:
        entry = store.lookup(variant.digest, converter)
        # One from before a rule is asked for again, which proves it or says what it lacks.
        if entry is not None and rules.is_proved(entry, variant.resolved.reference):
            log.info('found in the store: "%s"', entry.path)
            on_outcome(Outcome(variant, "stored", entry.record.size))
        elif way.dry_run:
            on_outcome(Outcome(variant, "planned"))
        else:
            missing.append(variant)
    if not missing:
        return
    if is_account(settings.store.account):
        environment: Mapping[str, str] = os.environ
        commands: Mapping[str, Sequence[str]] = {
            str(n): _own_argv(each) for n, each in enumerate(missing)
        }
    else:
        commands = _srun_argvs(missing, way, on_outcome)
        environment = warm_environment(os.environ)
    _run(missing, commands, environment, way.jobs, _Ends(store, rules, on_progress, on_outcome))


def fetch_one(
    reference: str,
    digest: str,
    features: tuple[str, ...],
    index: str,
    settings: Settings,
    report: OnProgress,
) -> Entry:
    """Have one variant in the site's store, as its account."""
    wanted = Wanted(read_name(reference, settings), digest, features, index=index)
    return have_image(wanted, site_access(settings), settings, Heard(report))


@dataclass(frozen=True)
class _Ends:
    """Who is told what, and where an image must be in the end."""

    store: Store
    rules: Admission
    on_progress: OnVariant
    on_outcome: OnOutcome

    def end(self, variant: Variant, ended: Ended, seconds: float) -> None:
        """Judge by the store alone: a foreign build may not even run where it was fetched."""
        entry = _find(self.store, variant.digest)
        if entry is not None and self.rules.is_proved(entry, variant.resolved.reference):
            size = entry.record.size
            # Of an image that its job could not run, srun says what is of no matter here.
            said = ended.said if ended.returncode == 0 else ()
            self.on_outcome(Outcome(variant, "fetched", size, seconds, said=said))
            return
        known = {int(code) for code in ExitCode}
        code = ended.returncode if ended.returncode in known else int(ExitCode.LAUNCH)
        said = ended.said
        if ended.returncode == 0:
            code = int(ExitCode.STORE)
            said += (_missing(variant, self.store),)
        self.on_outcome(Outcome(variant, "failed", 0, seconds, code, said))


def _run(
    variants: Sequence[Variant],
    commands: Mapping[str, Sequence[str]],
    environment: Mapping[str, str],
    jobs: int,
    ends: _Ends,
) -> None:
    began: dict[str, float] = {}

    def start(key: str) -> None:
        began[key] = time.monotonic()
        ends.on_progress(variants[int(key)], Progress("wait"))

    def take(key: str, line: str) -> bool:
        report = read_report(line)
        if report is not None:
            ends.on_progress(variants[int(key)], report)
        return report is not None or READY in line

    run_several(
        commands,
        jobs,
        env=environment,
        on_start=start,
        on_line=take,
        on_end=lambda key, ended: ends.end(
            variants[int(key)], ended, time.monotonic() - began[key]
        ),
    )


def _own_argv(variant: Variant) -> list[str]:
    package = str(Path(hpcimg.__file__).parents[1])
    resolved = variant.resolved
    level = logging.getLogger("hpcimg").level
    options = {logging.INFO: ["-v"], logging.DEBUG: ["-v", "-v"]}.get(level, [])
    if resolved.is_index:
        options.append(f"--index={resolved.digest}")
    named = [str(resolved.reference), variant.digest, *variant.features]
    words = ["cache", "fetch", *options, "--", *named]
    return [sys.executable, "-I", "-c", _START, package, *words]


def _srun_argvs(
    variants: Sequence[Variant], way: Way, on_outcome: OnOutcome
) -> dict[str, Sequence[str]]:
    """Choose the freest node that picks each variant; one that nobody picks is fetched anywhere."""
    named = sorted({node for variant in variants for node in variant.nodes})
    usable = usable_nodes(named, way.partition)
    commands: dict[str, Sequence[str]] = {}
    for number, variant in enumerate(variants):
        fitting = [node for node in usable if not variant.nodes or node.name in variant.nodes]
        if fitting:
            # Spread over the nodes of the kind, which are in the order of their freedom.
            free = [node for node in fitting if node.rank == fitting[0].rank]
            chosen = free[number % len(free)]
            image = _image(variant)
            commands[str(number)] = warm_argv(chosen, image, partition=way.partition, wait=way.wait)
            continue
        where = folded(variant.nodes) or "the cluster"
        said = f"hpcimg: no node of {where} takes jobs now: `sinfo --list-reasons` says why"
        on_outcome(Outcome(variant, "failed", code=int(ExitCode.TEMPORARY), said=(said,)))
    return commands


def _image(variant: Variant) -> str:
    """By name, so that the entry's record tells it and the build; by digest where it must be.

    A job without GPU does not pick what needs one, and shall not wait for one either; and no node
    picks what is for hardware that is not there.
    """
    if variant.resolved.profile.gpus.devices or not variant.nodes:
        return str(variant.resolved.image())
    return str(variant.resolved.reference)


def _find(store: Store, digest: str) -> Entry | None:
    """Find an image whatever converted it: the node's squashfs-tools may be another release."""
    algorithm, _, name = digest.partition(":")
    for path in sorted((store.root / ENTRIES / algorithm).glob(f"{name}.*")):
        try:
            entry = store.lookup(digest, path.name.partition(".")[2])
        except HpcimgError:
            continue
        if entry is not None:
            return entry
    return None


def _missing(variant: Variant, store: Store) -> str:
    return (
        f'hpcimg: {variant.digest} is not in the site\'s store "{store.root}", though the job did '
        "well: either its tag moved meanwhile, or it is private and now in your own store"
    )
