"""How the nodes of one job come to their images: each to its own, or all to the same one.

The nodes do not talk: each computes what all can run, and what the first one wrote down counts.
What only that needs is imported where it is used: most jobs' nodes choose alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hpcimg.errors import NoCandidateError, NotFoundError, StoreError, UsageError
from hpcimg.oci.model import Index
from hpcimg.quoting import quoted
from hpcimg.selection import Candidate, Resolution, check_single, select
from hpcimg.settings import MATCHES
from hpcimg.slurm import nodes_of_list
from hpcimg.workflow.entries import EntryReader
from hpcimg.workflow.resolve import Resolved, resolve, site_policy
from hpcimg.workflow.uniform import resolve_for_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpcimg.node.profile import NodeProfile
    from hpcimg.oci.model import Manifest
    from hpcimg.oci.reference import Reference
    from hpcimg.policy import Policy
    from hpcimg.requirements import Entry
    from hpcimg.settings import Settings
    from hpcimg.store.agreement import JobKey
    from hpcimg.workflow.access import Access
    from hpcimg.workflow.source import ImageSource

_ACCEPTED = ("chosen", "fits")


@dataclass(frozen=True)
class Together:
    """A job's nodes, and how they choose: one of `settings.MATCHES`.

    Without a `key`, the job's name in the store, each node computes for itself what all can run.
    """

    match: str = "per-node"
    nodes: tuple[str, ...] = ()
    key: JobKey | None = None


ALONE = Together()


def together(match: str, nodes: tuple[str, ...], named: tuple[str, str, str, str]) -> Together:
    """Parse what a launcher says of a job; `named` are cluster, job number, uid and start time.

    Where one of those is not known, nothing is kept under the job's name. Raises UsageError.
    """
    if match not in MATCHES:
        raise UsageError(f"{quoted(match)} is no way to match", f"use {', '.join(MATCHES)}")
    if match == "per-node" or len(nodes) < 2 or not all(named):
        return Together(match, nodes)
    from hpcimg.store.agreement import JobKey

    return Together(match, nodes, JobKey(*named))


def resolve_in_job(
    reference: Reference,
    profile: NodeProfile,
    access: Access,
    settings: Settings,
    job: Together = ALONE,
) -> tuple[Resolved, str]:
    """Resolve for this node as one of its job's; a job of one node has nothing to agree on.

    Where the nodes find no image for all, `uniform` gives this node its own, and a warning beside
    it; `uniform-or-fail` raises NoCandidateError, NotFoundError or StoreError.
    """
    policy = site_policy(settings, reference, profile)
    warning = ""
    if job.match != "per-node" and len(job.nodes) != 1:
        try:
            return _agreed(reference, profile, access, settings, job), ""
        except (NoCandidateError, NotFoundError, StoreError) as error:
            if job.match == "uniform-or-fail":
                raise
            warning = f"the nodes of the job may run different images: {error.message}"
    return resolve(reference, profile, access.source, policy), warning


def resolve_for_nodes(
    reference: Reference, nodes: str, client: ImageSource, settings: Settings, kind: str | None
) -> Resolved:
    """Resolve for all nodes of a list, with all the GPUs that they have."""
    from hpcimg.store.profiles import read_profile
    from hpcimg.store.store import site_store

    store = site_store(settings.store)
    profiles = [read_profile(store, node) for node in nodes_of_list(nodes)]
    document = client.fetch_document(reference)
    return resolve_for_all(reference, document, profiles, client, settings, kind)


def _judged(
    document: Manifest | Index, entries: Sequence[Entry], profile: NodeProfile, policy: Policy
) -> Resolution:
    if isinstance(document, Index):
        return select(profile, entries, policy)
    return check_single(profile, entries[0], policy)


def _agreed(
    reference: Reference,
    profile: NodeProfile,
    access: Access,
    settings: Settings,
    job: Together,
) -> Resolved:
    from hpcimg.store.agreement import agree, read_agreement

    if not job.nodes:
        raise NotFoundError("the job's nodes are not known", "run it as a step of a job")
    # A job's steps with GPUs and those without ask different questions.
    has_gpus = profile.gpus.wanted or profile.gpus.state != "none"
    subject = {"image": str(reference), "nodes": list(job.nodes), "gpus": has_gpus}
    document = None
    terms = read_agreement(access.store, job.key, subject) if job.key else None
    if terms is None:
        document = access.source.fetch_document(reference)
        profiles = _profiles(settings, job.nodes, has_gpus=has_gpus)
        terms = _propose(resolve_for_all(reference, document, profiles, access.source, settings))
        if job.key:
            terms = agree(access.store, job.key, subject, terms)
    if document is None or document.digest != terms.get("index"):
        # By digest, so that a tag that moves meanwhile does not split the job.
        document = access.source.fetch_document(reference.with_digest(str(terms.get("index"))))
    policy = site_policy(settings, reference, profile)
    taken = _taking(str(terms.get("pick")), reference, document, access.source, profile, policy)
    is_index = isinstance(document, Index)
    return Resolved(reference, document.digest, is_index, profile, taken)


def _profiles(
    settings: Settings, nodes: Sequence[str], *, has_gpus: bool
) -> tuple[NodeProfile, ...]:
    """Read what the nodes published; the job's GPUs on other nodes are not known, so all count."""
    from hpcimg.store.profiles import read_profile
    from hpcimg.store.store import site_store

    store = site_store(settings.store)
    profiles = (replace(read_profile(store, node), job_nodes=len(nodes)) for node in nodes)
    if has_gpus:
        return tuple(replace(one, gpus=replace(one.gpus, wanted=True)) for one in profiles)
    return tuple(one.allocated((), nodes=len(nodes)) for one in profiles)


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
    reader = EntryReader(reference, client)
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
        "has this node changed since? publish it again with `hpcimg node publish`",
    )


def _behind(each: Candidate, taken: Candidate, pick: Candidate) -> Candidate:
    if each is taken:
        return pick
    if each.verdict == "chosen":
        return replace(each, verdict="fits", reason="fits, but is not what all nodes run")
    return each
