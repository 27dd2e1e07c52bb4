"""Which node is meant: this one, a published one, a file's, or one that words describe."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.errors import StoreError, UsageError
from hpcimg.node.profile import NodeProfile
from hpcimg.node.words import profile_from_words, with_offered
from hpcimg.quoting import quoted
from hpcimg.slurm import job_gpus, parse_gpus
from hpcimg.store.profiles import forget_profile, publish_profile, read_profile
from hpcimg.store.store import site_store

if TYPE_CHECKING:
    from hpcimg.settings import Settings

_DETECTION_SECONDS = 120.0


def this_node(*, refresh: bool = False) -> NodeProfile:
    """Give this node's profile, as kept for this boot or found now."""
    from hpcimg.node.detect import detect, read_cached

    kept = None if refresh else read_cached()
    return kept or detect()


def job_profile(
    settings: Settings, gpus: tuple[str, ...] | None, *, nodes: int = 1, platform: str = ""
) -> NodeProfile:
    """Give this node's profile with the GPUs of its job, which spans `nodes` nodes.

    The words of a `platform` stand for all that, as in `chosen_profile`.
    """
    if platform:
        return profile_from_words(platform, node=this_node().node)
    scope = None if settings.gpu_scope == "node" else gpus
    # In this order: GPUs that the site's words offer count whatever the job got.
    return with_offered(this_node().allocated(scope, nodes=nodes), settings.platform_features)


def chosen_profile(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    node: str | None = None,
    file: Path | None = None,
    platform: str | None = None,
    gpus: str | None = None,
) -> NodeProfile:
    """Give the profile that the options name; none of them means this node in this job.

    `gpus` are those of a job that is asked about, in Slurm's words, `none` for a job without.
    """
    if sum(given is not None for given in (node, file, platform)) > 1:
        raise UsageError(
            "--node, --nodes, --profile and --platform exclude each other", "give one of them"
        )
    if platform is not None:
        if gpus is not None:
            raise UsageError("--gpus does not go with --platform", "its words say what is offered")
        return profile_from_words(platform)
    if node is not None:
        return with_gpus(read_profile(site_store(settings.store), node), gpus)
    if file is not None:
        return with_gpus(read_profile_file(file), gpus)
    if gpus is None:
        return job_profile(settings, job_gpus(environment))
    with_gpus(with_offered(this_node(), settings.platform_features), gpus)
    return job_profile(settings, parse_gpus(gpus))


def with_gpus(profile: NodeProfile, gpus: str | None) -> NodeProfile:
    """Restrict a node to the GPUs of a job that is asked about; UsageError for what it lacks."""
    if gpus is None:
        return profile
    wanted = parse_gpus(gpus)
    found = profile.allocated(wanted)
    node = profile.node or "the node"
    if wanted and profile.gpus.state == "none":
        raise UsageError(f"{node} has no GPU", "leave --gpus out, or write --gpus none")
    devices = profile.gpus.devices
    # Where they differ in vendor, or have slices, their numbers are not clear.
    is_plain = len({one.vendor for one in devices}) == 1 and not any(one.slices for one in devices)
    known = {name for one in devices for name in (str(one.index), *one.names())}
    if is_plain and not known.issuperset(wanted):
        numbers = ",".join(str(one.index) for one in devices)
        raise UsageError(
            f"{node} has GPU{'s' if len(devices) > 1 else ''} {numbers} only, not {quoted(gpus)}",
            "`hpcimg node show` on that node lists them",
        )
    return found


def read_profile_file(path: Path) -> NodeProfile:
    """Read a profile that `hpcimg node show --json` wrote."""
    try:
        return NodeProfile.from_json(path.read_bytes())
    except OSError as error:
        raise UsageError(
            f'could not read the profile "{path}": {error.strerror}',
            "make one with `hpcimg node show --json > FILE`",
        ) from error


def publish(settings: Settings) -> NodeProfile:
    """Detect this node and publish it in the store; as root also keep it for this boot.

    Root detects nothing itself: the store's account does, and root writes down what it found.
    """
    from hpcimg.node.detect import cache_key, detect, write_cached
    from hpcimg.process import run

    if os.geteuid() != 0:
        store = site_store(settings.store)
        if os.geteuid() != store.owner:
            account = settings.store.account
            raise StoreError(
                f'the store "{store.root}" is written only by {account}',
                "run `hpcimg node publish` as root",
            )
        profile = detect()
        # What is kept for this boot is what was found; others are told what is offered.
        publish_profile(store, with_offered(profile, settings.platform_features))
        return profile
    # Taken before: what changes meanwhile must make the kept profile a stale one.
    key = cache_key()
    argv = [sys.executable, "-I", "-m", "hpcimg", "node", "publish", "--json"]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/"}
    done = run(
        argv,
        env=environment,
        cwd="/",
        timeout=_DETECTION_SECONDS,
        account=settings.store.account,
    )
    profile = NodeProfile.from_json(done.stdout)
    write_cached(profile, key)
    return profile


def forget(settings: Settings, node: str) -> None:
    """Remove the profile that a node published; as root it is done as the store's account."""
    from hpcimg.workflow.access import become_account

    if os.geteuid() == 0:
        become_account(settings)
    forget_profile(site_store(settings.store), node)
