"""What a node asks of the hub's REST API: which machine types there are, and to have one more.

It must not know how the answer is used. A redirect to another host is not followed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcimg import __version__
from hpcimg.errors import AuthenticationError, HpcimgError, RegistryError, UsageError
from hpcimg.hub.machine_type import MachineType
from hpcimg.oci import certificates
from hpcimg.oci.diagnostics import diagnostics, shown_url
from hpcimg.oci.hosts import Hosts, Surroundings
from hpcimg.oci.proxies import Proxies
from hpcimg.oci.transport import DEFAULT_PATIENCE, Patience, Request, Transport
from hpcimg.registry_settings import RegistrySettings

if TYPE_CHECKING:
    from hpcimg.oci.answer import Answer
    from hpcimg.settings import Settings
    from hpcimg.workflow.autologin import Proposal

_LIMIT = 4 << 20
_HINT = "is it up, and may this node reach it? a certificate authority of its own is named by --ca"
_NO_HUB = "does a hub with this API stand there?"


class HubClient:
    """Asks one hub with one login."""

    def __init__(
        self,
        url: str,
        login: tuple[str, str],
        authority: Path | None,
        around: Surroundings,
        patience: Patience = DEFAULT_PATIENCE,
    ) -> None:
        self._url = url
        self._name = login[0]
        self._basic = base64.b64encode(":".join(login).encode()).decode()
        site = RegistrySettings(
            plain_http=url.startswith("http:"), ca_file=str(authority) if authority else None
        )
        hosts = Hosts({url.partition("://")[2]: site}, around, listed_only=True)
        agent = f"hpcimg/{__version__}"
        self._transport = Transport(hosts, user_agent=agent, patience=patience)

    def types(self) -> tuple[MachineType, ...]:
        """List the machine types that the login may see."""
        found = self._ask("GET", "/api/v1/types", None, {200})
        try:
            return tuple(_machine_type(one) for one in _listed(found))
        except (KeyError, TypeError, ValueError, UsageError) as error:
            raise self._odd("its list of machine types has another form") from error

    def propose(self, proposal: Proposal) -> None:
        """Have it propose a machine type to its administrators; to do so twice is to do so once."""
        body = {
            "account": proposal.account,
            "name": proposal.name,
            "features": list(proposal.words),
            "node": proposal.node,
        }
        self._ask("POST", "/api/v1/proposals", body, {200, 201, 202})

    def _ask(self, method: str, path: str, body: Any, expected: set[int]) -> Any:
        headers = {"Authorization": f"Basic {self._basic}", "Accept": "application/json"}
        raw = None if body is None else json.dumps(body).encode()
        if raw is not None:
            headers["Content-Type"] = "application/json"
        try:
            answer = self._transport.send(Request(method, self._url + path, headers, raw))
            if answer.status not in expected:
                raise self._failure(answer, path)
            said = self._bounded(answer)
        except RegistryError as error:
            if error.status:
                raise
            # The transport's own hints are about registries that images are pulled from.
            raise RegistryError(error.message, _HINT, temporary=error.temporary) from error
        if method != "GET":
            return None
        try:
            return json.loads(said)
        except (ValueError, RecursionError):
            raise self._odd("it answered something else than JSON") from None

    def _bounded(self, answer: Answer) -> bytes:
        said = b""
        for chunk in answer.chunks(self._transport.timeouts):
            said += chunk
            if len(said) > _LIMIT:
                answer.close()
                raise self._odd(f"it answered more than {_LIMIT} bytes")
        return said

    def _failure(self, answer: Answer, path: str) -> HpcimgError:
        said = diagnostics(answer.error_body()) or f"HTTP status {answer.status}"
        hub = shown_url(self._url)
        if answer.status in {401, 403}:
            return AuthenticationError(
                f'the hub {hub} refuses the login "{self._name}": {said}',
                "its administrator gives logins: `hpcimg hub account` and `hpcimg hub type`",
            )
        message = f"the hub {hub} failed for {path}: {said}"
        temporary = answer.status == 429 or answer.status >= 500
        hint = "try again later" if temporary else _NO_HUB
        return RegistryError(message, hint, status=answer.status, temporary=temporary)

    def _odd(self, why: str) -> RegistryError:
        return RegistryError(f"the hub {shown_url(self._url)} is not understood: {why}", _NO_HUB)


def surroundings(settings: Settings, environment: Mapping[str, str]) -> Surroundings:
    """Read how the machine reaches other hosts: the certificates of certs.d, and proxies."""
    proxies = Proxies(environment, settings.proxy, settings.no_proxy)
    return Surroundings((), certificates.SYSTEM, proxies)


def _listed(found: Any) -> list[Any]:
    if not isinstance(found, list):
        raise TypeError
    return found


def _machine_type(one: Any) -> MachineType:
    words = one["features"]
    if not all(isinstance(text, str) for text in (one["account"], one["name"], *words)):
        raise TypeError
    if not isinstance(words, list):
        raise TypeError
    return MachineType(one["account"], one["name"], tuple(words))
