"""How the nodes of one job come to their images: each to its own, or all to the same one.

The nodes do not talk: each computes what all can run, and what the first one wrote down counts.
What only that needs is imported where it is used: most jobs' nodes choose alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from hpcimg.errors import NoCandidateError, NotFoundError, StoreError, UsageError
from hpcimg.oci.model import Index
from hpcimg.quoting import quoted
from hpcimg.selection import Candidate, Resolution, check_single, select
from hpcimg.settings import MATCHES
from hpcimg.workflow.entries import EntryReader
from hpcimg.workflow.pin import UNKNOWN, PinRequest, has_image, pinned_document
from hpcimg.workflow.resolve import READ_LIMIT, Resolved, resolve_document, site_policy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hpcimg.node.profile import NodeProfile
    from hpcimg.oci.model import Manifest
    from hpcimg.oci.reference import Reference
    from hpcimg.policy import Policy
    from hpcimg.requirements import Entry
    from hpcimg.settings import Settings
    from hpcimg.store.agreement import JobKey
    from hpcimg.store.lease import LeaseKey
    from hpcimg.store.store import Store
    from hpcimg.workflow.access import Access
    from hpcimg.workflow.source import ImageSource

_ACCEPTED = ("chosen", "fits")
_MAY_DIFFER = "the nodes of the job may run different images: "


@dataclass(frozen=True)
class Together:
    """A job's nodes, and how they choose: one of `settings.MATCHES`.

    Without a `key`, the job's name in the store, each node computes for itself what all can run.
    `step` is empty before there is one. `several` says that there are more nodes than this one
    where their names do not matter. `request` is what decides the index of a tag; the `lease` is
    the job's on what it runs. `platform` are words that stand for each node's own.
    """

    match: str = "per-node"
    nodes: tuple[str, ...] = ()
    request: PinRequest = UNKNOWN
    step: str = ""
    several: bool = False
    lease: LeaseKey | None = None
    platform: str = ""

    @property
    def key(self) -> JobKey | None:
        """The job's name in the store, where it is known."""
        return self.request.key

    @property
    def size(self) -> int:
        """How many nodes there are, or 2 where there are several."""
        return max(2 if self.several else 1, len(self.nodes))


ALONE = Together()


@dataclass(frozen=True)
class Answer:
    """What this node runs; `warning` says why others of its job may run another image.

    Where it is not for all steps, the next one has to ask again, whatever it has here. `notice` is
    for the job's user, once.
    """

    resolved: Resolved
    warning: str = ""
    notice: str = ""
    is_for_all_steps: bool = True


def together(match: str, nodes: tuple[str, ...], named: tuple[str, str, str, str]) -> Together:
    """Parse what a launcher says of a job; `named` are cluster, job number, uid and start time.

    Where one of those is not known, nothing is kept under the job's name. Raises UsageError.
    """
    if match not in MATCHES:
        raise UsageError(f"{quoted(match)} is no way to match", f"use {', '.join(MATCHES)}")
    if not all(named):
        return Together(match, nodes)
    from hpcimg.store.agreement import JobKey

    try:
        return Together(match, nodes, PinRequest(JobKey(*named)))
    except UsageError:
        if match == "per-node":
            return Together(match, nodes)
        raise


def resolve_in_job(
    reference: Reference,
    profile: NodeProfile,
    access: Access,
    settings: Settings,
    job: Together = ALONE,
) -> Answer:
    """Resolve for this node as one of its job's; a job of one node has nothing to agree on.

    Where the nodes find no image for all, `uniform` gives this node its own, and a warning beside
    it; `uniform-or-fail` raises NoCandidateError, NotFoundError or StoreError.
    """
    policy = site_policy(settings, reference, profile)

    @cache
    def resolved(document: Manifest | Index) -> Resolved:
        return resolve_document(reference, document, profile, access.source, policy)

    def has_pick(document: Manifest | Index) -> bool:
        pick = resolved(document).resolution.pick
        return pick is not None and has_image(pick.descriptor.digest, access, settings)

    pinned = pinned_document(reference, access, settings, job.request, has_pick)
    document, warning = pinned.document, ""
    if job.match != "per-node" and len(job.nodes) != 1:
        try:
            answer = _agreed(reference, document.digest, profile, access, settings, job)
        except (NoCandidateError, NotFoundError, StoreError) as error:
            if job.match == "uniform-or-fail":
                raise
            warning = f"{_MAY_DIFFER}{error.message}"
        else:
            return replace(answer, notice=pinned.notice)
    return Answer(resolved(document), warning, pinned.notice)


def _judged(
    document: Manifest | Index, entries: Sequence[Entry], profile: NodeProfile, policy: Policy
) -> Resolution:
    if isinstance(document, Index):
        return select(profile, entries, policy)
    return check_single(profile, entries[0], policy)


class _Kept:
    """What the job's nodes agreed on; where it cannot be kept, `uniform` goes on with a warning."""

    def __init__(self, store: Store, job: Together) -> None:
        self._store, self._job = store, job
        self.warning = ""
        if job.key is None:
            hint = "start it as a step of its job, on nodes with hpcimg's prolog"
            self._tell(StoreError("the job's cluster or start time is not known here", hint))

    def read(self, subject: Mapping[str, Any]) -> Mapping[str, Any] | None:
        from hpcimg.store.agreement import read_agreement

        try:
            return read_agreement(self._store, self._job.key, subject) if self._job.key else None
        except StoreError as error:
            self._tell(error)
            return None

    def agree(self, subject: Mapping[str, Any], terms: Mapping[str, Any]) -> Mapping[str, Any]:
        from hpcimg.store.agreement import agree

        try:
            return agree(self._store, self._job.key, subject, terms) if self._job.key else terms
        except StoreError as error:
            self._tell(error)
            return terms

    def _tell(self, error: StoreError) -> None:
        if self._job.match == "uniform-or-fail":
            raise error
        self.warning = f"{_MAY_DIFFER}{error.message}"


def _agreed(
    reference: Reference,
    index: str,
    profile: NodeProfile,
    access: Access,
    settings: Settings,
    job: Together,
) -> Answer:
    if not job.nodes:
        raise NotFoundError("the job's nodes are not known", "run it as a step of a job")
    kept = _Kept(access.store, job)
    has_gpus = profile.gpus.wanted or profile.gpus.state != "none"
    terms = _terms(kept, reference, index, access.source, settings, job, has_gpus=has_gpus)
    # By digest, so that a tag that moves meanwhile does not split the job.
    document = access.source.fetch_document(reference.with_digest(str(terms.get("index"))))
    policy = site_policy(settings, reference, profile)
    taken = _taking(str(terms.get("pick")), reference, document, access.source, profile, policy)
    is_index = isinstance(document, Index)
    resolved = Resolved(reference, document.digest, is_index, profile, taken)
    return Answer(resolved, kept.warning, is_for_all_steps=terms.get("gpu_nodes") is False)


def _terms(
    kept: _Kept,
    reference: Reference,
    index: str,
    source: ImageSource,
    settings: Settings,
    job: Together,
    *,
    has_gpus: bool,
) -> Mapping[str, Any]:
    """Find or propose what the step's nodes run, of the index that its whole job has.

    That is `index`, unless its pin could not be kept and another node was first.

    A step may have GPUs on some of its nodes, or on none where its job has: so each step asks one
    question of its own, and goes by an earlier one's answer only where that had GPUs as well.
    """
    whole = {"image": str(reference), "nodes": list(job.nodes)}
    own = {**whole, "step": job.step} if job.step else whole
    terms = kept.read(own)
    if terms is not None:
        return terms

    def propose(index: str) -> Mapping[str, Any]:
        return _proposed(reference, index, source, settings, job, has_gpus=has_gpus)

    first = kept.read(whole) if job.step else None
    if first is None:
        terms = propose(index)
        first = kept.agree(whole, terms)
    elif first.get("gpus") is not has_gpus:
        terms = propose(str(first.get("index")))
    if not job.step or first.get("gpus") is has_gpus:
        terms = first
    elif terms is None or terms.get("index") != first.get("index"):
        terms = propose(str(first.get("index")))
    return kept.agree(own, terms) if job.step else terms


def _proposed(
    reference: Reference,
    index: str,
    source: ImageSource,
    settings: Settings,
    job: Together,
    *,
    has_gpus: bool,
) -> Mapping[str, Any]:
    from hpcimg.workflow.uniform import resolve_for_all

    document = source.fetch_document(reference.with_digest(index))
    published = _published(settings, job.nodes)
    profiles = _scoped(published, has_gpus=has_gpus)
    found = _propose(resolve_for_all(reference, document, profiles, source, settings))
    gpu_nodes = has_gpus or any(one.gpus.state != "none" for one in published)
    return {**found, "gpus": has_gpus, "gpu_nodes": gpu_nodes}


def _published(settings: Settings, nodes: Sequence[str]) -> tuple[NodeProfile, ...]:
    from hpcimg.store.profiles import read_profile
    from hpcimg.store.store import site_store

    store = site_store(settings.store)
    return tuple(replace(read_profile(store, node), job_nodes=len(nodes)) for node in nodes)


def _scoped(profiles: tuple[NodeProfile, ...], *, has_gpus: bool) -> tuple[NodeProfile, ...]:
    """Count all GPUs or none: which ones the job has on other nodes is not known."""
    if has_gpus:
        return tuple(replace(one, gpus=replace(one.gpus, wanted=True)) for one in profiles)
    return tuple(one.allocated((), nodes=one.job_nodes) for one in profiles)


def _propose(resolved: Resolved) -> dict[str, str]:
    try:
        pick = resolved.require()
    except NoCandidateError as error:
        raise NoCandidateError(
            f"{resolved.profile.node} have no image in common: {error.message}",
            f"leave each node its own: --container-match=per-node; {error.hint}",
        ) from error
    return {"index": resolved.digest, "pick": pick.descriptor.digest}


def _taking(
    digest: str,
    reference: Reference,
    document: Manifest | Index,
    client: ImageSource,
    profile: NodeProfile,
    policy: Policy,
) -> Resolution:
    """Take what was agreed, if this node's own test of all that the image requires lets it."""
    reader = EntryReader(reference, client, READ_LIMIT)
    entries = tuple(
        reader.complete(one) if one.descriptor.digest == digest else one
        for one in reader.entries(document, (profile.os, profile.architecture))
    )
    resolution = _judged(document, entries, profile, policy)
    found = [one for one in resolution.candidates if one.descriptor.digest == digest]
    for one in found:
        if one.verdict in _ACCEPTED:
            pick = replace(one, verdict="chosen", reason="what all nodes of the job run")
            candidates = tuple(_behind(each, one, pick) for each in resolution.candidates)
            return replace(resolution, pick=pick, candidates=candidates)
    why = f"{found[0].label} {found[0].reason}" if found else f"the index has no {digest}"
    raise NoCandidateError(
        f"what the nodes of the job agreed on does not run here: {why}",
        "has this node other GPUs of the job than the others, or changed since? "
        "publish it again with `hpcimg node publish`",
    )


def _behind(each: Candidate, taken: Candidate, pick: Candidate) -> Candidate:
    if each is taken:
        return pick
    if each.verdict == "chosen":
        return replace(each, verdict="fits", reason="fits, but is not what all nodes run")
    return each
