"""Asks a registry's front door, `/v2/`, whether it answers and takes a login; never for long.

It must not know what a doctor makes of it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from hpcimg import __version__
from hpcimg.errors import HpcimgError
from hpcimg.oci.answer import Timeouts
from hpcimg.oci.auth import pull_access
from hpcimg.oci.credentials import FindCredential
from hpcimg.oci.hosts import Hosts, Surroundings
from hpcimg.oci.session import Session
from hpcimg.oci.transport import ONE_TRY, Request, Transport
from hpcimg.registry_settings import RegistrySettings

_TIMEOUTS = Timeouts(connect=4.0, read=6.0)


@dataclass(frozen=True)
class Greeting:
    """How a registry answered: by `status`, or not at all; `apart` is our clock less its own.

    `has_login` says that a login was sent, or would have been.
    """

    host: str
    status: int = 0
    failure: str = ""
    hint: str = ""
    apart: float | None = None
    has_login: bool = False


def greet(
    host: str,
    registries: Mapping[str, RegistrySettings],
    find: FindCredential,
    around: Surroundings,
    repository: str = "",
) -> Greeting:
    """Ask one registry once; with a `repository` as somebody who wants to read that."""
    hosts = Hosts(registries, around, listed_only=True)
    agent = f"hpcimg/{__version__}"
    transport = Transport(hosts, user_agent=agent, timeouts=_TIMEOUTS, patience=ONE_TRY)
    session = Session(transport, find)
    has_login = False
    try:
        has_login = bool(repository) and find(host, repository) is not None
        request = Request("GET", session.base(host))
        if has_login:
            answer = session.call(pull_access(host, repository), request, ONE_TRY)
        else:
            answer = transport.send(request, ONE_TRY)
        now = time.time()
        answer.error_body()
    except HpcimgError as error:
        return Greeting(host, 0, error.message, error.hint, has_login=has_login)
    apart = None
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        # The header has whole seconds.
        apart = now - parsedate_to_datetime(answer.headers.get("Date", "")).timestamp() - 0.5
    return Greeting(host, answer.status, apart=apart, has_login=has_login)
