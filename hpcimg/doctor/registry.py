"""Judges how registries answered, and which of them a job may ask at all.

It must not know how one is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from hpcimg.doctor.finding import FAIL, NOTE, OK, WARN, Finding

_WORKS = frozenset({200, 204})
_REFUSES = frozenset({401, 403})


@dataclass(frozen=True)
class Answered:
    """How a registry answered: a status, or why there was none and what to do."""

    host: str
    status: int = 0
    failure: str = ""
    hint: str = ""
    has_login: bool = False


def judge_registry(answered: Answered) -> Finding:
    """Say whether one listed registry answers, and takes the site's login where there is one."""
    host = answered.host
    if answered.failure:
        change = answered.hint or (
            f"from this machine: curl -v https://{host}/v2/; look at proxy, no_proxy, ca_file "
            "and plain_http in the settings"
        )
        return Finding("registry", FAIL, f"{host}: {answered.failure}", change)
    if answered.status in _WORKS:
        login = ", and takes the site's login" if answered.has_login else ""
        return Finding("registry", OK, f"{host} answers{login}")
    if answered.status in _REFUSES and answered.has_login:
        what = f"{host} refuses the site's login (status {answered.status})"
        change = f"renew the file that registries: {{{host}: {{credentials: ...}}}} names"
        return Finding("registry", FAIL, what, change)
    if answered.status in _REFUSES:
        what = f"{host} answers, and wants a login of whoever asks"
        change = "public images need none; credentials: and readable: give the site one"
        return Finding("registry", NOTE, what, change)
    what = f"{host} answers /v2/ with status {answered.status}: is it a registry?"
    return Finding("registry", WARN, what, "correct the name of the host under registries:")


def judge_listed(default: str, listed: Collection[str]) -> Iterator[Finding]:
    """Say whether jobs may ask the registry that names without one mean."""
    if default not in listed:
        what = f'default_registry "{default}" is not listed: jobs may not ask it'
        change = f"write {default} under registries: in the settings, or name another default"
        yield Finding("registry", FAIL if listed else WARN, what, change)
