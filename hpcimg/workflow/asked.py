"""What `resolve` and `explain` are asked: one node, several together, or the job they run in.

Chooses as a launch would; it must not print.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.errors import UsageError
from hpcimg.selection import require
from hpcimg.settings import MATCHES
from hpcimg.slurm import job_match, job_name, job_nodes, nodes_of_list
from hpcimg.store.profiles import read_profile
from hpcimg.store.store import site_store
from hpcimg.workflow.local import layout_access
from hpcimg.workflow.match import together
from hpcimg.workflow.pin import pin_of_job
from hpcimg.workflow.profile import chosen_profile, with_gpus
from hpcimg.workflow.resolve import Resolved, read_name, resolve_document, site_policy
from hpcimg.workflow.uniform import resolve_for_all

if TYPE_CHECKING:
    from hpcimg.node.profile import NodeProfile
    from hpcimg.oci.reference import Reference
    from hpcimg.settings import Settings
    from hpcimg.workflow.source import ImageSource

_BY_JOB = "the job's --container-match"
_BY_OPTION = "--nodes"


@dataclass(frozen=True)
class Question:
    """The options that say for which node, or nodes, to choose, and by which policy."""

    node: str | None = None
    nodes: str | None = None
    file: Path | None = None
    platform: str | None = None
    gpus: str | None = None
    policy: str | None = None

    @property
    def is_here(self) -> bool:
        """Tell whether no option names a node, so that this one in its job is meant."""
        return all(one is None for one in (self.node, self.nodes, self.file, self.platform))


@dataclass(frozen=True)
class Answer:
    """A choice. `match` is how nodes choose where the settings do not say it, `by` who says it.

    `nodes` are those that choose together, none where one chooses alone; `own` is what this node
    takes where they find nothing and need not agree. `is_here` says that the profile is this
    node's, with what this machine's settings add to it.
    """

    resolved: Resolved
    match: str = ""
    by: str = ""
    nodes: tuple[str, ...] = ()
    own: Resolved | None = None
    is_here: bool = False

    def image(self) -> Reference:
        """Name by its digest what is taken; raises NoCandidateError with a hint whom to ask."""
        taken = self.own or self.resolved
        # Who asks here need not name the node, which may have published no profile.
        node = "" if self.is_here else taken.profile.node
        pick = require(taken.resolution, taken.reference, node)
        return taken.reference.with_digest(pick.descriptor.digest)


def ask(
    name: str,
    question: Question,
    settings: Settings,
    environment: Mapping[str, str],
    source: ImageSource,
) -> Answer:
    """Choose for what the question names; raises UsageError, NotFoundError, RegistryError."""
    layout = layout_access(name, settings, environment)
    reference, source = (
        (layout[0], layout[1].source) if layout else (read_name(name, settings), source)
    )
    if question.nodes is not None:
        return _for_list(reference, question, settings, source)
    profile = chosen_profile(
        settings,
        environment,
        node=question.node,
        file=question.file,
        platform=question.platform,
        gpus=question.gpus,
    )
    in_job = question.is_here and "SLURM_JOB_ID" in environment
    said = job_match(environment) if in_job else ""
    if said and said not in MATCHES:
        raise UsageError(f"the job's way to match is {said!a}", f"use {', '.join(MATCHES)}")
    nodes = job_nodes(environment) if in_job else ()
    pinned = _pinned(reference, settings, environment) if in_job else reference
    match = said or settings.match
    if len(nodes) > 1:
        profile = replace(profile, job_nodes=len(nodes))
        if match != "per-node":
            named = (reference, pinned)
            return _for_job(named, profile, nodes, (match, said), question, settings, source)
    policy = site_policy(settings, reference, profile, question.policy)
    document = source.fetch_document(pinned)
    resolved = resolve_document(reference, document, profile, source, policy)
    return Answer(resolved, said, _BY_JOB if said else "", is_here=question.is_here)


def _pinned(reference: Reference, settings: Settings, environment: Mapping[str, str]) -> Reference:
    """Name what the job's steps run of a tag, where one has read it already."""
    cluster, number, started = job_name(environment)
    job = together("per-node", (), (cluster, number, str(os.geteuid()), started))
    return pin_of_job(reference, settings, job.key) if job.key else reference


def _for_list(
    reference: Reference, question: Question, settings: Settings, source: ImageSource
) -> Answer:
    """Choose for all nodes of a list, with all the GPUs that they have or those of the option."""
    if not (question.node is None and question.file is None and question.platform is None):
        raise UsageError(
            "--node, --nodes, --profile and --platform exclude each other", "give one of them"
        )
    nodes = nodes_of_list(question.nodes or "")
    store = site_store(settings.store)
    profiles = [with_gpus(read_profile(store, node), question.gpus) for node in nodes]
    document = source.fetch_document(reference)
    resolved = resolve_for_all(reference, document, profiles, source, settings, question.policy)
    return Answer(resolved, "uniform", _BY_OPTION, nodes)


def _for_job(
    named: tuple[Reference, Reference],
    own: NodeProfile,
    nodes: tuple[str, ...],
    match: tuple[str, str],
    question: Question,
    settings: Settings,
    source: ImageSource,
) -> Answer:
    """Choose for all nodes of the job that this is in, as its steps do, by its pin of the name."""
    reference, pinned = named
    store = site_store(settings.store)
    has_gpus = own.gpus.wanted or own.gpus.state != "none"
    profiles = [
        read_profile(store, node).allocated(None if has_gpus else (), nodes=len(nodes))
        for node in nodes
    ]
    document = source.fetch_document(pinned)
    resolved = resolve_for_all(reference, document, profiles, source, settings, question.policy)
    word, said = match
    alone = None
    if resolved.resolution.pick is None and word == "uniform":
        policy = site_policy(settings, reference, own, question.policy)
        alone = resolve_document(reference, document, own, source, policy)
    return Answer(resolved, said and word, _BY_JOB if said else "", nodes, alone)
