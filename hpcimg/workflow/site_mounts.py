"""What the site's settings put into all containers, with the words of one job filled in."""

from __future__ import annotations

import logging
import pwd
from typing import TYPE_CHECKING

from hpcimg.bind import make_bind
from hpcimg.errors import SettingsError, UsageError
from hpcimg.workflow.surroundings import NOTHING, Surroundings

if TYPE_CHECKING:
    from hpcimg.settings import Settings

log = logging.getLogger(__name__)


def site_mounts(settings: Settings, uid: str, job: str) -> Surroundings:
    """Give the site's mounts and variables for a user's job; both are numbers, or not known.

    What names the job is left out where there is none. Raises SettingsError for a user without a
    name, or with one that makes no path.
    """
    if not settings.mounts and not settings.environment and settings.mount_home:
        return NOTHING
    from hpcimg.container_settings import fill, words_in

    texts = [text for bind in settings.mounts for text in (bind.source, bind.target)]
    needed = frozenset().union(*map(words_in, (*texts, *settings.environment.values())))
    known = _known(needed, uid, job)
    binds = []
    for bind in settings.mounts:
        if not words_in(bind.source + bind.target) <= set(known):
            log.info("not mounted outside of a job: %s", bind.source)
            continue
        try:
            ends = (fill(bind.source, known), fill(bind.target, known))
            binds.append(make_bind(*ends, bind.flags))
        except UsageError as error:
            raise SettingsError(error.message, 'look at "mounts" in the settings') from error
    variables = [
        (name, fill(value, known))
        for name, value in settings.environment.items()
        if words_in(value) <= set(known)
    ]
    return Surroundings(tuple(binds), tuple(variables), home=settings.mount_home)


def _known(needed: frozenset[str], uid: str, job: str) -> dict[str, str]:
    """Find what the words stand for; a user whom this node does not know has no name here."""
    found = {word: text for word, text in (("j", job), ("U", uid)) if text.isdecimal()}
    if "u" in needed and "U" in found:
        try:
            name = pwd.getpwuid(int(uid)).pw_name
        except KeyError as error:
            raise SettingsError(
                f'uid {uid} has no name on this node, and "mounts" or "environment" need it',
                "write %U in the settings, which is the number",
            ) from error
        if "/" in name or name in {".", ".."}:
            raise SettingsError(f"{name!r} is no user's name that can stand in a path")
        found["u"] = name
    return found
