"""The distribution API as a client: manifests, blobs, uploads, every byte checked.

It must not know what an image is picked for, nor where its bytes are kept.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import BinaryIO
from urllib.parse import urlencode

import requests

from hpcimg import __version__
from hpcimg.errors import AuthenticationError, DigestMismatchError, NotFoundError, RegistryError
from hpcimg.oci.auth import Access, Authenticator, TokenRequest, pull_access, push_access
from hpcimg.oci.blob import BlobCheck, is_range_from
from hpcimg.oci.credentials import FindCredential
from hpcimg.oci.diagnostics import failure, token_failure
from hpcimg.oci.digest import digest_of, is_digest, verify_digest
from hpcimg.oci.hosts import Hosts, joined, origin
from hpcimg.oci.model import (
    ACCEPT,
    DOCUMENT_LIMIT,
    OCI_INDEX,
    Descriptor,
    Index,
    Manifest,
    parse_document,
)
from hpcimg.oci.reference import DEFAULT_TAG, Reference
from hpcimg.oci.tags import PAGE_LIMIT, PAGE_SIZE, parse_page
from hpcimg.oci.transport import (
    CHUNK,
    DEFAULT_PATIENCE,
    DEFAULT_TIMEOUTS,
    Patience,
    Request,
    Timeouts,
    Transport,
    chunks_of,
    error_body,
    stated_length,
)
from hpcimg.settings import RegistrySettings

log = logging.getLogger(__name__)

TOKEN_LIMIT = 1 << 20
"""Bytes of a token service's answer that are read."""

_CREATED = "org.opencontainers.image.created"
_NO_REFERRERS = frozenset({400, 405, 406, 410, 501})
"""How registries besides 404 say that they have no referrers API."""
_TAG_DIGITS = 64
"""Digits of a digest that the specification's tag for its referrers has."""

_FORM = "application/x-www-form-urlencoded"
_BINARY = "application/octet-stream"

Progress = Callable[[int], None]
"""Told the number of bytes that just arrived."""


class RegistryClient:
    """Asks registries; `listed_only` refuses every host that the settings do not list.

    Errors of all methods: NotFoundError, AuthenticationError, DigestMismatchError, RegistryError.
    """

    def __init__(
        self,
        registries: Mapping[str, RegistrySettings],
        credentials: FindCredential,
        *,
        listed_only: bool,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        patience: Patience = DEFAULT_PATIENCE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._hosts = Hosts(registries, listed_only=listed_only)
        self._transport = Transport(
            self._hosts,
            user_agent=f"hpcimg/{__version__}",
            timeouts=timeouts,
            patience=patience,
            sleep=sleep,
        )
        self._timeouts = timeouts
        self._without_referrers: set[str] = set()
        self._auth = Authenticator(credentials, self._send_token_request, time.monotonic)

    def fetch_document(self, reference: Reference) -> Manifest | Index:
        """Fetch what the reference names, by digest when it has one, checked on the raw bytes."""
        request = Request("GET", self._manifest_url(reference), {"Accept": ", ".join(ACCEPT)})
        raw, headers = self._read(_pull(reference), request, str(reference), DOCUMENT_LIMIT)
        promised = headers.get("Docker-Content-Digest", "")
        for digest in (reference.digest, promised if is_digest(promised) else None):
            if digest is not None:
                _verify(raw, digest, str(reference))
        return parse_document(raw, headers.get("Content-Type"))

    def has_manifest(self, reference: Reference) -> bool:
        """Tell whether the registry has this tag or digest."""
        request = Request("HEAD", self._manifest_url(reference), {"Accept": ", ".join(ACCEPT)})
        return self._has(_pull(reference), request, str(reference))

    def referrers(self, reference: Reference, artifact_type: str) -> tuple[str, ...]:
        """List the digests of what is attached to the image of a digest, newest first.

        Asks for the tag that stands in for the API where there is none. A refusal counts as none,
        since the image itself could be read; a failure that may pass is raised.
        """
        if reference.digest is None or not self._hosts.settings(reference.registry).referrers:
            return ()
        if reference.name not in self._without_referrers:
            query = urlencode({"artifactType": artifact_type})
            base = f"{self._hosts.base(reference.registry)}{reference.repository}"
            raw = self._read_index(reference, f"{base}/referrers/{reference.digest}?{query}")
            if raw is not None:
                return _attached(raw, artifact_type)
            self._without_referrers.add(reference.name)
        algorithm, _, hexadecimal = reference.digest.partition(":")
        tag = f"{algorithm}-{hexadecimal[:_TAG_DIGITS]}"
        url = self._manifest_url(replace(reference, tag=tag, digest=None))
        raw = self._read_index(reference, url)
        return () if raw is None else _attached(raw, artifact_type)

    def fetch_blob(self, reference: Reference, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream a blob; a broken transfer is resumed, and the end is reached by good bytes only.

        The last chunk comes before the digest is known: use nothing until the iterator is done.
        """
        check = BlobCheck(descriptor, f"{reference.name}@{descriptor.digest}")
        attempt, mark = 0, 0
        while True:
            try:
                for chunk in self._blob_from(reference, descriptor, check):
                    check.take(chunk)
                    yield chunk
                break
            except RegistryError as error:
                if check.received - mark >= CHUNK:
                    attempt, mark = 0, check.received
                if not error.temporary or not self._transport.pause(attempt):
                    raise
                attempt += 1
        check.finish()

    def fetch_blob_to(
        self,
        reference: Reference,
        descriptor: Descriptor,
        target: BinaryIO,
        progress: Progress | None = None,
    ) -> None:
        """Write a blob to `target`; what was written counts only when this returns."""
        for chunk in self.fetch_blob(reference, descriptor):
            target.write(chunk)
            if progress is not None:
                progress(len(chunk))

    def has_blob(self, reference: Reference, digest: str) -> bool:
        """Tell whether the reference's repository has this blob."""
        request = Request("HEAD", self._blob_url(reference, digest))
        return self._has(_pull(reference), request, f"{reference.name}@{digest}")

    def mount_blob(self, reference: Reference, digest: str, source_repository: str) -> bool:
        """Let the registry link a blob of another repository of its own; False: copy it instead."""
        access = push_access(reference.registry, reference.repository, source_repository)
        query = urlencode({"mount": digest, "from": source_repository})
        request = Request("POST", f"{self._uploads_url(reference)}?{query}")
        response = self._expect(self._call(access, request), {201, 202}, access, reference.name)
        if response.status_code == 201:
            return True
        self._cancel_upload(access, request.url, response)
        return False

    def put_blob(self, reference: Reference, descriptor: Descriptor, source: BinaryIO) -> None:
        """Upload a blob from a seekable file that holds exactly its bytes."""
        access = _push(reference)
        start = Request("POST", self._uploads_url(reference))
        response = self._expect(self._call(access, start), {202}, access, reference.name)
        location = joined(start.url, response.headers.get("Location", ""))
        separator = "&" if "?" in location else "?"
        url = f"{location}{separator}{urlencode({'digest': descriptor.digest})}"
        request = Request("PUT", url, {"Content-Type": _BINARY}, source)
        # An upload may go to another host, which has no business with the registry's token.
        same = origin(url) == origin(start.url)
        response = self._call(access, request) if same else self._transport.send(request)
        self._expect(response, {201}, access, f"{reference.name}@{descriptor.digest}").close()

    def put_manifest(self, reference: Reference, raw: bytes, media_type: str) -> str:
        """Upload a manifest or an index under the reference's tag or digest; return its digest."""
        access = _push(reference)
        request = Request("PUT", self._manifest_url(reference), {"Content-Type": media_type}, raw)
        response = self._expect(self._call(access, request), {201}, access, str(reference))
        promised = response.headers.get("Docker-Content-Digest", "")
        if is_digest(promised):
            _verify(raw, promised, str(reference))
        return digest_of(raw)

    def tags(self, reference: Reference) -> tuple[str, ...]:
        """List the tags of the reference's repository, sorted; a long list comes in pages."""
        base = self._hosts.base(reference.registry)
        url = f"{base}{reference.repository}/tags/list?{urlencode({'n': PAGE_SIZE})}"
        found: set[str] = set()
        for _ in range(PAGE_LIMIT):
            request = Request("GET", url)
            raw, headers = self._read(_pull(reference), request, reference.name, DOCUMENT_LIMIT)
            page = parse_page(raw, headers, url, reference.name)
            found.update(page.tags)
            if not page.next_url:
                return tuple(sorted(found))
            url = page.next_url
        raise RegistryError(f'"{reference.name}" has more than {PAGE_LIMIT} pages of tags')

    def _blob_from(
        self, reference: Reference, descriptor: Descriptor, check: BlobCheck
    ) -> Iterator[bytes]:
        """Stream a blob from where `check` stands, whether or not the registry knows ranges."""
        start = check.received
        headers = {"Range": f"bytes={start}-"} if start else {}
        request = Request("GET", self._blob_url(reference, descriptor.digest), headers)
        access, what = _pull(reference), f"{reference.name}@{descriptor.digest}"
        response = self._expect(self._call(access, request), {200, 206}, access, what)
        if response.status_code == 206:
            stated = response.headers.get("Content-Range", "")
            if not is_range_from(stated, start, descriptor.size):
                response.close()
                raise RegistryError(f'"{what}": the registry sent another range than asked for')
            return chunks_of(response, self._timeouts)
        check.expect_length(stated_length(response.headers))
        return _without_first(chunks_of(response, self._timeouts), start)

    def _cancel_upload(self, access: Access, url: str, response: requests.Response) -> None:
        """Close an upload that a refused mount opened; the registry expires it otherwise."""
        location = joined(url, response.headers.get("Location", ""))
        if origin(location) == origin(url):
            with contextlib.suppress(RegistryError):
                self._call(access, Request("DELETE", location)).close()

    def _has(self, access: Access, request: Request, what: str) -> bool:
        response = self._expect(self._call(access, request), {200, 404}, access, what)
        error_body(response)
        return response.status_code == 200

    def _read(
        self, access: Access, request: Request, what: str, limit: int
    ) -> tuple[bytes, Mapping[str, str]]:
        """Read a whole small body and its headers; a broken transfer is started again."""
        attempt = 0
        while True:
            response = self._expect(self._call(access, request), {200}, access, what)
            try:
                return _bounded(chunks_of(response, self._timeouts), limit, what), response.headers
            except RegistryError as error:
                if not error.temporary or not self._transport.pause(attempt):
                    raise
                attempt += 1

    def _read_index(self, reference: Reference, url: str) -> bytes | None:
        """Read an index that need not be there; what is no index counts as none."""
        request = Request("GET", url, {"Accept": OCI_INDEX})
        try:
            raw, headers = self._read(_pull(reference), request, str(reference), DOCUMENT_LIMIT)
        except (NotFoundError, AuthenticationError) as error:
            log.debug("nothing is attached to %s: %s", reference, error.message)
            return None
        except RegistryError as error:
            if error.status not in _NO_REFERRERS:
                raise
            return None
        media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return raw if media_type == OCI_INDEX else None

    def _call(self, access: Access, request: Request) -> requests.Response:
        """Send with what is known to authorise; answer one 401, but never one of another host."""
        response = self._transport.send(_authorised(request, self._auth.value(access)))
        if response.status_code != 401 or origin(response.url) != origin(request.url):
            return response
        error_body(response)  # read to its end, the connection can be used again
        value = self._auth.answer(access, response.headers.get("WWW-Authenticate", ""))
        return self._transport.send(_authorised(request, value))

    def _expect(
        self, response: requests.Response, statuses: Collection[int], access: Access, what: str
    ) -> requests.Response:
        if response.status_code in statuses:
            return response
        raise failure(what, access.registry, response.status_code, error_body(response))

    def _send_token_request(self, wanted: TokenRequest) -> bytes:
        headers = {"Authorization": wanted.authorization} if wanted.authorization else {}
        request = Request("GET", wanted.url, headers)
        if wanted.form is not None:
            headers["Content-Type"] = _FORM
            request = Request("POST", wanted.url, headers, wanted.form.encode())
        response = self._transport.send(request)
        host = origin(wanted.url)[1]
        if response.status_code != 200:
            anonymous = wanted.authorization is None and wanted.form is None
            status, body = response.status_code, error_body(response)
            raise token_failure(host, status, body, anonymous=anonymous)
        return _bounded(chunks_of(response, self._timeouts), TOKEN_LIMIT, f"token of {host}")

    def _manifest_url(self, reference: Reference) -> str:
        target = reference.digest or reference.tag or DEFAULT_TAG
        base = self._hosts.base(reference.registry)
        return f"{base}{reference.repository}/manifests/{target}"

    def _blob_url(self, reference: Reference, digest: str) -> str:
        return f"{self._hosts.base(reference.registry)}{reference.repository}/blobs/{digest}"

    def _uploads_url(self, reference: Reference) -> str:
        return f"{self._hosts.base(reference.registry)}{reference.repository}/blobs/uploads/"


def _pull(reference: Reference) -> Access:
    return pull_access(reference.registry, reference.repository)


def _push(reference: Reference) -> Access:
    return push_access(reference.registry, reference.repository)


def _authorised(request: Request, value: str | None) -> Request:
    if value is None:
        return request
    return replace(request, headers={**request.headers, "Authorization": value})


def _verify(raw: bytes, digest: str, what: str) -> None:
    try:
        verify_digest(raw, digest)
    except DigestMismatchError as error:
        raise DigestMismatchError(f'"{what}": {error.message}', error.hint) from error


def _bounded(chunks: Iterator[bytes], limit: int, what: str) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > limit:
            raise RegistryError(f'"{what}": the registry sent more than {limit} bytes')
    return bytes(body)


def _attached(raw: bytes, artifact_type: str) -> tuple[str, ...]:
    """Give the digests of one type's artifacts, newest first as node-feature-discovery has it."""
    index = parse_document(raw, OCI_INDEX)
    entries = index.manifests if isinstance(index, Index) else ()
    fitting = [each for each in entries if each.artifact_type == artifact_type]
    fitting.sort(key=lambda each: each.annotations.get(_CREATED, ""))
    return tuple(each.digest for each in reversed(fitting))


def _without_first(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    for chunk in chunks:
        rest = chunk[count:]
        count -= len(chunk) - len(rest)
        if rest:
            yield rest
