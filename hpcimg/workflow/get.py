"""`hpcimg get`, what a launch asks for: the image of a name for this job, ready in a store."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpcimg.errors import HpcimgError, NoCandidateError
from hpcimg.progress import OnProgress, silent
from hpcimg.runtime.choice import choose_converter
from hpcimg.workflow.access import Access, own_access, site_access
from hpcimg.workflow.admission import Admission
from hpcimg.workflow.counted import Heard, failures_noted, note_had
from hpcimg.workflow.ensure import Wanted, ensure_image
from hpcimg.workflow.match import ALONE, Together, resolve_in_job
from hpcimg.workflow.profile import job_profile
from hpcimg.workflow.resolve import Resolved, read_name, resolve, site_policy
from hpcimg.workflow.wanted import note_missed

if TYPE_CHECKING:
    from hpcimg.node.profile import NodeProfile
    from hpcimg.oci.reference import Reference
    from hpcimg.settings import Settings
    from hpcimg.store.entry import Entry


log = logging.getLogger(__name__)

_WARNING_BYTES = 1000
"""The plugin takes 1023."""


@dataclass(frozen=True)
class Ready:
    """An image that can be launched: the choice, and the entry that holds it.

    `warning` says why the job's other nodes may run another image, against the user's wish. What
    is not for all steps makes no ticket.
    """

    resolved: Resolved
    entry: Entry
    warning: str = ""
    is_for_all_steps: bool = True

    def lines(self) -> str:
        """Write what the plugin and its tickets read: a key, an equals sign, a value a line."""
        has_gpu = self.resolved.profile.gpus.state == "present"
        # Foreign words are in it: on one line, and short enough for a ticket.
        text = "".join(c if c.isprintable() else " " for c in self.warning)
        warning = text.encode(errors="replace")[:_WARNING_BYTES].decode(errors="ignore")
        ticket = "" if self.is_for_all_steps else "ticket=no\n"
        return (
            f"image={self.entry.image}\n"
            f"gpu={'yes' if has_gpu else 'no'}\n"
            f"reference={self.resolved.reference}\n"
            f"digest={self.entry.record.digest}\n"
        ) + (f"warning={warning}\n{ticket}" if warning else ticket)


def get(
    name: str,
    settings: Settings,
    *,
    scope: str,
    gpus: tuple[str, ...] | None,
    job: str = "",
    together: Together = ALONE,
    on_progress: OnProgress = silent,
) -> Ready:
    """Resolve for this job and have the pick in the store of `scope`, `site` or `own`.

    Either way only listed registries are asked. AuthenticationError from `site` means that the
    user's own credentials may help; everything else is final.
    """
    with failures_noted(name, settings, scope, job):
        return _get(
            name,
            settings,
            scope=scope,
            gpus=gpus,
            job=job,
            together=together,
            on_progress=on_progress,
        )


def _get(
    name: str,
    settings: Settings,
    *,
    scope: str,
    gpus: tuple[str, ...] | None,
    job: str,
    together: Together,
    on_progress: OnProgress,
) -> Ready:
    if scope == "site":
        access = site_access(settings)
    else:
        access = own_access(settings, os.environ, listed_only=True)
    profile = job_profile(settings, gpus, nodes=together.size)
    reference = read_name(name, settings)
    try:
        answer = resolve_in_job(reference, profile, access, settings, together)
    except NoCandidateError:
        if scope == "site" and job:
            _note_refused(reference, profile, access, settings, job)
        raise
    if scope == "site":
        note_missed(answer.resolved, access.store, job, profile.node)
    entry = ensure_pick(answer.resolved, access, settings, job, on_progress)
    return Ready(answer.resolved, entry, answer.warning, answer.is_for_all_steps)


def _note_refused(
    reference: Reference, profile: NodeProfile, access: Access, settings: Settings, job: str
) -> None:
    """Note that a job whose nodes had to agree got nothing, where this node lacks a build."""
    with suppress(HpcimgError):
        policy = site_policy(settings, reference, profile)
        alone = resolve(reference, profile, access.source, policy)
        note_missed(alone, access.store, job, profile.node, is_refused=True)


def get_for_user(
    name: str,
    settings: Settings,
    environment: Mapping[str, str],
    profile: NodeProfile,
    together: Together = ALONE,
    on_progress: OnProgress = silent,
) -> Ready:
    """Have an image for `hpcimg run`: from the site's store where it is, else the user's own."""
    access = own_access(settings, environment)
    reference = read_name(name, settings)
    answer = resolve_in_job(reference, profile, access, settings, together)
    resolved = answer.resolved
    kept = _in_site_store(resolved, access, settings)
    if kept is not None:
        log.info('found in the site\'s store: "%s"', kept.path)
    entry = kept or ensure_pick(resolved, access, settings, "", on_progress)
    return Ready(resolved, entry, answer.warning, answer.is_for_all_steps)


def ensure_pick(
    resolved: Resolved, access: Access, settings: Settings, job: str, on_progress: OnProgress
) -> Entry:
    """Have the pick of a choice in `access`'s store."""
    pick = resolved.require()
    index = resolved.digest if resolved.is_index else ""
    heard = Heard(on_progress)
    entry = ensure_image(
        Wanted(resolved.reference, pick.descriptor.digest, pick.features, job, index=index),
        store=access.store,
        client=access.source,
        converter=choose_converter(settings),
        limits=settings.limits,
        admission=admission(access, settings),
        on_progress=heard,
    )
    note_had(access.store, heard, entry, str(resolved.reference), job)
    return entry


def admission(access: Access, settings: Settings) -> Admission:
    """Give the site's rules for images; whether one is signed is never answered from a cache."""
    return Admission(settings.registries, lambda: access.client, access.listed_only)


def _in_site_store(resolved: Resolved, access: Access, settings: Settings) -> Entry | None:
    """Look the image up where everybody may read; a machine without a site store has none."""
    from hpcimg.store.store import site_store

    digest = resolved.require().descriptor.digest
    try:
        store = site_store(settings.store)
        kept = store.lookup(digest, choose_converter(settings).id)
    except HpcimgError:
        return None
    if kept is None:
        return None
    index = resolved.digest if resolved.is_index else ""
    return admission(access, settings).admit(kept, resolved.reference, index, store)
