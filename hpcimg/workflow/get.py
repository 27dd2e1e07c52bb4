"""`hpcimg get`, what a launch asks for: the image of a name for this job, ready in a store."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hpcimg.errors import HpcimgError, NoCandidateError
from hpcimg.progress import OnProgress, silent
from hpcimg.quoting import quoted
from hpcimg.runtime.choice import choose_converter
from hpcimg.slurm import job_gpus
from hpcimg.store.lease import LeaseKey
from hpcimg.workflow.access import Access, own_access, site_access
from hpcimg.workflow.admission import Admission
from hpcimg.workflow.counted import Heard, failures_noted, note_had
from hpcimg.workflow.ensure import Wanted, ensure_image
from hpcimg.workflow.gpu_mounts import gpu_mounts
from hpcimg.workflow.image_own import image_own
from hpcimg.workflow.match import ALONE, Answer, Together, resolve_in_job
from hpcimg.workflow.profile import job_profile
from hpcimg.workflow.resolve import Resolved, read_name, resolve, site_policy
from hpcimg.workflow.site_mounts import site_mounts
from hpcimg.workflow.surroundings import NOTHING, Surroundings, join
from hpcimg.workflow.wanted import note_missed

if TYPE_CHECKING:
    from pathlib import Path

    from hpcimg.node.profile import NodeProfile
    from hpcimg.oci.reference import Reference
    from hpcimg.settings import Settings
    from hpcimg.store.entry import Entry
    from hpcimg.store.store import Store


log = logging.getLogger(__name__)

_VALUE_BYTES = 1000
"""The plugin takes 1023 of a warning, and 8 KiB of all."""


@dataclass(frozen=True)
class Ready:
    """An image that can be launched: the choice, and the entry that holds it.

    `warning` says why the job's other nodes may run another image, against the user's wish;
    `notice` is for the job's user, once. What is not for all steps makes no ticket. `source` is
    how the image was had, in so many seconds: found in the store, built, or waited for.
    `by_kernel`: the site lets the kernel mount it. `owner` is the uid that writes the store.
    `around` is what the node puts into its containers.
    """

    resolved: Resolved
    entry: Entry
    warning: str = ""
    notice: str = ""
    is_for_all_steps: bool = True
    source: str = "store"
    seconds: float = 0.0
    by_kernel: bool = False
    owner: int = 0
    around: Surroundings = NOTHING

    @property
    def told(self) -> str:
        """What the job's user is told once."""
        return "; ".join(filter(None, (self.notice, *self.around.warnings)))

    def facts(self) -> dict[str, str]:
        """Say what the plugin, its tickets and the job's record are told; empty is left out."""
        pick = self.resolved.require()
        found = {
            "image": str(self.entry.image),
            "size": str(self.entry.record.size),
            "owner": str(self.owner),
            "gpu": "yes" if self.resolved.profile.gpus.state == "present" else "no",
            "reference": str(self.resolved.reference),
            "digest": self.entry.record.digest,
            "index": self.resolved.digest,
            "label": pick.label,
            "reason": pick.reason,
            "source": self.source,
            "builder": self.entry.record.builder,
            "converter": self.entry.record.converter,
            "millis": str(round(self.seconds * 1000)),
            "warning": self.warning,
            "once": self.told,
            "mount": "kernel" if self.by_kernel else "",
            "ticket": "" if self.is_for_all_steps else "no",
        }
        return {key: _one_line(value) for key, value in found.items() if value}

    def lines(self) -> str:
        """Write the facts and the surroundings: a key, an equals sign, a value a line."""
        facts = "".join(f"{key}={value}\n" for key, value in self.facts().items())
        return facts + self.around.lines()


def _one_line(text: str) -> str:
    """Foreign words may be in it: on one line, and short enough for a ticket."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return printable.encode(errors="replace")[:_VALUE_BYTES].decode(errors="ignore")


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
    is_site = scope == "site"
    with failures_noted(name, settings, scope, job):
        reference, access = _asked(name, settings, is_site=is_site)
        heard = Heard(on_progress)
        profile = job_profile(settings, gpus, nodes=together.size, platform=together.platform)
        try:
            answer = resolve_in_job(reference, profile, access, settings, together)
        except NoCandidateError:
            if is_site and job and not together.platform:
                _note_refused(reference, profile, access, settings, job)
            raise
        if is_site and not together.platform:
            note_missed(answer.resolved, access.store, job, profile.node)
        lease = together.lease if is_site else None
        kept = ensure_pick(answer.resolved, access, settings, job, heard, lease)
        entry = _staged(kept, settings, lease, on_progress) if is_site else kept
    by_kernel = is_site and settings.mount == "kernel"
    ready = replace(
        _ready(answer, entry, heard),
        by_kernel=by_kernel,
        owner=access.store.owner,
        # What the store knows of an image is not beside a node's copy.
        around=surroundings(
            of_image(kept, reference, settings), profile, gpus, settings, together.lease
        ),
    )
    notice = ready.notice or _unknown(together.platform) or _apart(reference, settings, together)
    ready = replace(ready, notice=notice)
    if ready.told:
        log.warning("%s", ready.told)
    _record(ready, name, access.store, scope, together, job)
    return ready


def _asked(name: str, settings: Settings, *, is_site: bool) -> tuple[Reference, Access]:
    if is_site:
        return read_name(name, settings), site_access(settings)
    from hpcimg.workflow.local import layout_access

    layout = layout_access(name, settings, os.environ)
    return layout or (
        read_name(name, settings),
        own_access(settings, os.environ, listed_only=True),
    )


def _staged(
    entry: Entry, settings: Settings, lease: LeaseKey | None, on_progress: OnProgress
) -> Entry:
    if not settings.stage.path:
        return entry
    from hpcimg.workflow.stage import staged

    return staged(entry, settings, lease, on_progress)


def _ready(answer: Answer, entry: Entry, heard: Heard) -> Ready:
    return Ready(
        answer.resolved,
        entry,
        answer.warning,
        answer.notice,
        answer.is_for_all_steps,
        heard.source,
        heard.seconds,
    )


def _unknown(platform: str) -> str:
    """Say which words of a platform mean nothing: one that is mistyped fits no image."""
    if not platform:
        return ""
    from hpcimg.features import unknown_words

    found = ", ".join(quoted(word) for word in unknown_words(platform))
    return f"{found} in the platform is no known word" if found else ""


def _apart(reference: Reference, settings: Settings, together: Together) -> str:
    """Say that nodes without a common store cannot agree on a tag that nobody pinned for them."""
    is_pinned = reference.digest is not None or together.request.name
    if settings.store.shared or together.size < 2 or is_pinned:
        return ""
    return (
        f"each node of the job reads the tag of {reference} for itself, since their stores are "
        "their own: name a digest, or have the plugin pin tags (pin=always)"
    )


def _record(
    ready: Ready, name: str, store: Store, scope: str, together: Together, job: str
) -> None:
    """Let people see what a running job runs; its end is recorded by the epilog."""
    if together.key is None or not job:
        return
    from hpcimg.store.steps import StepFile, keep_start

    file = StepFile(job, ready.resolved.profile.node, together.step)
    facts = {"step": together.step, "at": str(int(time.time())), "name": name, "scope": scope}
    try:
        keep_start(store, together.key, file, {**facts, **ready.facts()})
    except HpcimgError as error:
        log.info("not recorded for the job: %s", error.message)


def _note_refused(
    reference: Reference, profile: NodeProfile, access: Access, settings: Settings, job: str
) -> None:
    """Note that a job whose nodes had to agree got nothing, where this node lacks a build."""
    with suppress(HpcimgError):
        policy = site_policy(settings, reference, profile)
        alone = resolve(reference, profile, access.source, policy)
        note_missed(alone, access.store, job, profile.node, is_refused=True)


def get_file(
    path: Path, settings: Settings, gpus: tuple[str, ...] | None, whose: LeaseKey | None
) -> str:
    """Write for the plugin what `Ready.lines` says, of a file or a directory that is run as it is.

    Its stamp tells whether it is still the file that it was.
    """
    about = path.stat()
    profile = job_profile(settings, gpus)
    stamp = "" if path.is_dir() else f"{about.st_size}:{about.st_mtime_ns}"
    has_gpu = "yes" if profile.gpus.state == "present" else "no"
    facts = f"image={path}\nstamp={stamp}\ngpu={has_gpu}\nsource=file\n"
    return facts + surroundings((), profile, gpus, settings, whose).lines()


def get_for_user(
    name: str,
    settings: Settings,
    environment: Mapping[str, str],
    profile: NodeProfile,
    together: Together = ALONE,
    on_progress: OnProgress = silent,
) -> Ready:
    """Have an image for `hpcimg run`: from the site's store where it is, else the user's own."""
    from hpcimg.workflow.local import layout_access

    layout = layout_access(name, settings, environment)
    reference, access = layout or (read_name(name, settings), own_access(settings, environment))
    heard = Heard(on_progress)
    answer = resolve_in_job(reference, profile, access, settings, together)
    resolved = answer.resolved
    kept = _in_site_store(resolved, access, settings)
    if kept is not None:
        log.info('found in the site\'s store: "%s"', kept.path)
    entry = kept or ensure_pick(resolved, access, settings, "", heard)
    around = surroundings(
        of_image(entry, reference, settings),
        profile,
        job_gpus(environment),
        settings,
        own_job(environment),
    )
    return replace(_ready(answer, entry, heard), around=around)


def own_job(environment: Mapping[str, str]) -> LeaseKey:
    """Name the job, if any, in which a user's own command runs; its cluster is not asked for."""
    return LeaseKey("", environment.get("SLURM_JOB_ID", ""), str(os.geteuid()))


def of_image(entry: Entry, reference: Reference, settings: Settings) -> tuple[Surroundings, ...]:
    """Say what an image brings with it; of a file of the user's nothing is known."""
    own = image_own(entry)
    if not settings.host_mpi:
        return (own,)
    from hpcimg.workflow.host_mpi import host_mpi

    return (own, host_mpi(entry, reference, settings))


def surroundings(
    images: Iterable[Surroundings],
    profile: NodeProfile,
    gpus: tuple[str, ...] | None,
    settings: Settings,
    whose: LeaseKey | None,
) -> Surroundings:
    """Say what this node puts around an image for a job with these GPUs; the site's word is last.

    `images` are the image's own. `gpus` is None where nobody manages them, and `profile` has those
    that the job may use.
    """
    return join(
        (
            *images,
            gpu_mounts(profile, gpus, settings),
            site_mounts(settings, whose.uid if whose else "", whose.job if whose else ""),
        )
    )


def ensure_pick(
    resolved: Resolved,
    access: Access,
    settings: Settings,
    job: str,
    heard: Heard,
    lease: LeaseKey | None = None,
) -> Entry:
    """Have the pick of a choice in `access`'s store."""
    pick = resolved.require()
    index = resolved.digest if resolved.is_index else ""
    wanted = Wanted(resolved.reference, pick.descriptor.digest, pick.features, job, lease, index)
    return have_image(wanted, access, settings, heard)


def have_image(wanted: Wanted, access: Access, settings: Settings, heard: Heard) -> Entry:
    """Have one image in `access`'s store as the site's rules want it, and count the request."""
    entry = ensure_image(
        wanted,
        store=access.store,
        client=access.source,
        converter=choose_converter(settings),
        limits=settings.limits,
        admission=admission(access, settings),
        on_progress=heard,
    )
    note_had(access.store, heard, entry, str(wanted.reference), wanted.job)
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
