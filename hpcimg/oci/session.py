"""Authorised requests to registries, and what their answers mean. Threads may share it.

It must not know which requests make up an image, nor which of several places to ask.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from hpcimg.errors import RegistryError
from hpcimg.oci.answer import Answer
from hpcimg.oci.auth import Access, Authenticator, TokenRequest
from hpcimg.oci.credentials import FindCredential
from hpcimg.oci.diagnostics import diagnostics, failure, token_failure
from hpcimg.oci.hosts import origin
from hpcimg.oci.transport import ONE_TRY, Patience, Request, Transport, retry_after

TOKEN_LIMIT = 1 << 20
"""Bytes of a token service's answer that are read."""

_FORM = "application/x-www-form-urlencoded"


class Session:
    """Sends requests with what authorises them; `patience` None is the transport's own."""

    def __init__(self, transport: Transport, credentials: FindCredential) -> None:
        self.transport = transport
        self._auth = Authenticator(credentials, self._send_token_request, time.monotonic)
        self._probing = threading.Lock()
        self._bases: dict[str, str] = {}

    def base(self, registry: str) -> str:
        """Give the URL of a registry's API; an insecure one is plain http where it knows no TLS."""
        hosts = self.transport.hosts
        base = hosts.base(registry)
        if not hosts.may_be_plain(registry):
            return base
        with self._probing:
            if registry not in self._bases:
                self._bases[registry] = base
                with contextlib.suppress(RegistryError):
                    self.transport.send(Request("GET", base), ONE_TRY).close()
                    return base
                self._bases[registry] = base.replace("https:", "http:", 1)
            return self._bases[registry]

    def call(self, access: Access, request: Request, patience: Patience | None = None) -> Answer:
        """Send with what is known to authorise; answer one 401, but never one of another host."""
        value = self._auth.value(access)
        answer = self.transport.send(_authorised(request, value), patience)
        if answer.status != 401 or origin(answer.url) != origin(request.url):
            return answer
        # Read to its end, the connection can be used again.
        said = diagnostics(answer.error_body())
        value = self._auth.answer(access, answer.headers.get("WWW-Authenticate", ""), value, said)
        return self.transport.send(_authorised(request, value), patience)

    def expect(
        self, answer: Answer, statuses: Collection[int], access: Access, what: str
    ) -> Answer:
        """Return an answer of these statuses; all others are an error about `what`."""
        if answer.status in statuses:
            return answer
        error = failure(what, access.registry, answer.status, answer.error_body())
        if isinstance(error, RegistryError):
            error.retry_after = retry_after(answer.headers, time.time()) or 0.0
        raise error

    def has(
        self, access: Access, request: Request, what: str, patience: Patience | None = None
    ) -> bool:
        """Tell 200 from 404."""
        answer = self.expect(self.call(access, request, patience), {200, 404}, access, what)
        answer.error_body()
        return answer.status == 200

    def headers(
        self, access: Access, request: Request, what: str, patience: Patience | None = None
    ) -> Mapping[str, str]:
        """Read the headers of what is there."""
        answer = self.expect(self.call(access, request, patience), {200}, access, what)
        answer.error_body()
        return answer.headers

    def read(
        self,
        access: Access,
        request: Request,
        what: str,
        limit: int,
        patience: Patience | None = None,
    ) -> tuple[bytes, Mapping[str, str]]:
        """Read a whole small body and its headers; a broken transfer is started again."""
        attempt = 0
        while True:
            answer = self.expect(self.call(access, request, patience), {200}, access, what)
            try:
                return _bounded(self.chunks(answer), limit, what), answer.headers
            except RegistryError as error:
                if not error.temporary or not self.transport.pause(attempt, patience):
                    raise
                attempt += 1

    def chunks(self, answer: Answer) -> Iterator[bytes]:
        """Stream a body."""
        return answer.chunks(self.transport.timeouts)

    def _send_token_request(self, wanted: TokenRequest) -> bytes:
        headers = {"Authorization": wanted.authorization} if wanted.authorization else {}
        request = Request("GET", wanted.url, headers)
        if wanted.form is not None:
            headers["Content-Type"] = _FORM
            request = Request("POST", wanted.url, headers, wanted.form.encode())
        answer = self.transport.send(request)
        host = origin(wanted.url)[1]
        if answer.status != 200:
            anonymous = wanted.authorization is None and wanted.form is None
            raise token_failure(host, answer.status, answer.error_body(), anonymous=anonymous)
        return _bounded(self.chunks(answer), TOKEN_LIMIT, f"token of {host}")


def _authorised(request: Request, value: str | None) -> Request:
    if value is None:
        return request
    return replace(request, headers={**request.headers, "Authorization": value})


def _bounded(chunks: Iterator[bytes], limit: int, what: str) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > limit:
            raise RegistryError(f'"{what}": the registry sent more than {limit} bytes')
    return bytes(body)
