"""`hpcimg cache warm`: fetch and convert, before any job, what the named nodes will pick."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpcimg.errors import HpcimgError, RuntimeFailure
from hpcimg.process import describe, run
from hpcimg.progress import OnProgress, silent
from hpcimg.slurm import run_argv
from hpcimg.store.profiles import read_profile
from hpcimg.store.store import site_store
from hpcimg.workflow.access import site_access
from hpcimg.workflow.get import ensure_pick
from hpcimg.workflow.node_types import all_nodes, scopes
from hpcimg.workflow.resolve import Resolved, read_name, resolve_document, site_policy

if TYPE_CHECKING:
    from hpcimg.settings import Settings

_JOB_SECONDS = 4 * 3600.0


@dataclass(frozen=True)
class Variant:
    """One image that some of the nodes will pick; `resolved` is the choice of the first."""

    resolved: Resolved
    nodes: tuple[str, ...]

    @property
    def digest(self) -> str:
        """The image's digest."""
        return self.resolved.require().descriptor.digest

    @property
    def features(self) -> tuple[str, ...]:
        """What the image is for, as canonical words."""
        return self.resolved.require().features


@dataclass(frozen=True)
class Refusal:
    """A node that gets no image, and why."""

    node: str
    error: HpcimgError


@dataclass(frozen=True)
class Plan:
    """What to warm: the variants, and the nodes that no image fits."""

    reference: str
    variants: tuple[Variant, ...]
    refused: tuple[Refusal, ...]


def plan(name: str, nodes: tuple[str, ...], settings: Settings) -> Plan:
    """Resolve the name for each node's published profile; `nodes` empty means all published.

    A node with GPUs counts twice: jobs on it may have a GPU or none.
    """
    store = site_store(settings.store)
    access = site_access(settings)
    reference = read_name(name, settings)
    # One fetch for all nodes: a tag that moves meanwhile cannot split the plan.
    document = access.source.fetch_document(reference)
    picks: dict[str, tuple[Resolved, list[str]]] = {}
    refused = []
    for node in nodes or all_nodes(store):
        try:
            for profile in scopes(read_profile(store, node), settings):
                policy = site_policy(settings, reference, profile)
                resolved = resolve_document(reference, document, profile, access.source, policy)
                digest = resolved.require().descriptor.digest
                picks.setdefault(digest, (resolved, []))[1].append(node)
        except HpcimgError as error:
            refused.append(Refusal(node, error))
    variants = tuple(Variant(resolved, tuple(dict.fromkeys(on))) for resolved, on in picks.values())
    return Plan(str(reference), variants, tuple(refused))


def warm(
    planned: Plan,
    settings: Settings,
    *,
    on_variant: Callable[[Variant], None],
    on_srun_line: Callable[[str], None],
    on_progress: OnProgress = silent,
) -> None:
    """Bring every variant into the site's store: at once as its account, else through Slurm.

    `on_variant` is told of each that is in the store; `on_srun_line` of what a failed srun said.

    An ordinary user may not write there, and needs not: a job of one task on one node of each kind
    makes that node fetch it, as it would for any job.
    """
    for variant in planned.variants:
        if is_account(settings.store.account):
            ensure_pick(variant.resolved, site_access(settings), settings, "", on_progress)
        else:
            _warm_through_slurm(planned.reference, variant, on_srun_line)
        on_variant(variant)


def is_account(account: str) -> bool:
    """Tell whether this process may write the site's store."""
    try:
        return pwd.getpwnam(account).pw_uid == os.geteuid()
    except KeyError:
        return False


def _warm_through_slurm(name: str, variant: Variant, on_line: Callable[[str], None]) -> None:
    needs_gpu = bool(variant.resolved.profile.gpus.devices)
    # By digest where the pick hangs on a GPU: this job shall not wait for one.
    image = str(variant.resolved.image()) if needs_gpu else name
    argv = run_argv(variant.nodes[:1], [f"--container-image={image}", "true"])
    try:
        done = run(argv, cwd="/", timeout=_JOB_SECONDS, check=False)
    except RuntimeFailure as error:
        raise _not_warmed(variant, error.message) from error
    if done.returncode != 0:
        # The reason is the node's own two lines: they stay lines.
        for line in done.stderr.decode(errors="replace").splitlines():
            on_line(line)
        raise _not_warmed(variant, f"srun ended with {done.returncode}: {describe(argv)}")


def _not_warmed(variant: Variant, why: str) -> RuntimeFailure:
    return RuntimeFailure(
        f"could not warm {variant.digest} through Slurm: {why}",
        "the site's account or root can warm it without a job",
    )
