"""The distribution API as a client: manifests, blobs, uploads, every byte checked.

It must not know what an image is picked for, nor where its bytes are kept.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import BinaryIO
from urllib.parse import urlencode

from hpcimg import __version__
from hpcimg.errors import AuthenticationError, DigestMismatchError, NotFoundError, RegistryError
from hpcimg.oci.answer import CHUNK, DEFAULT_TIMEOUTS, Answer, Timeouts, stated_length
from hpcimg.oci.auth import Access, pull_access, push_access
from hpcimg.oci.blob import BlobCheck
from hpcimg.oci.credentials import FindCredential
from hpcimg.oci.digest import digest_of, is_digest, verify_digest
from hpcimg.oci.hosts import NOTHING_AROUND, Endpoint, Hosts, Surroundings, joined, origin
from hpcimg.oci.mirrors import Mirrors
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
from hpcimg.oci.session import Session
from hpcimg.oci.tags import PAGE_LIMIT, PAGE_SIZE, parse_page
from hpcimg.oci.transport import DEFAULT_PATIENCE, ONE_TRY, Patience, Request, Transport
from hpcimg.registry_settings import RegistrySettings

log = logging.getLogger(__name__)

_CREATED = "org.opencontainers.image.created"
_NO_REFERRERS = frozenset({400, 405, 406, 410, 501})
"""How registries besides 404 say that they have no referrers API."""
_TAG_DIGITS = 64
"""Digits of a digest that the specification's tag for its referrers has."""

_ACCEPTED = {"Accept": ", ".join(ACCEPT)}
_BINARY = "application/octet-stream"

Progress = Callable[[int], None]
"""Told the number of bytes that just arrived."""


class RegistryClient:
    """Asks registries; `listed_only` refuses every host that the settings do not list.

    Threads may share one. What is read comes from the first mirror that has it, what is written
    goes to the registry itself.
    Errors of all methods: NotFoundError, AuthenticationError, DigestMismatchError, RegistryError.
    """

    def __init__(
        self,
        registries: Mapping[str, RegistrySettings],
        credentials: FindCredential,
        *,
        listed_only: bool,
        around: Surroundings = NOTHING_AROUND,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        patience: Patience = DEFAULT_PATIENCE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._hosts = Hosts(registries, around, listed_only=listed_only)
        self._transport = Transport(
            self._hosts,
            user_agent=f"hpcimg/{__version__}",
            timeouts=timeouts,
            patience=patience,
            sleep=sleep,
        )
        self._session = Session(self._transport, credentials)
        self._mirrors = Mirrors(self._hosts, time.monotonic)
        self._without_referrers: set[str] = set()

    def fetch_document(self, reference: Reference) -> Manifest | Index:
        """Fetch what the reference names, by digest when it has one, checked on the raw bytes."""

        def ask(place: Endpoint, patience: Patience | None) -> Manifest | Index:
            request = Request("GET", self._manifest_url(place, reference), _ACCEPTED)
            raw, headers = self._session.read(
                _pull(place), request, str(reference), DOCUMENT_LIMIT, patience
            )
            promised = headers.get("Docker-Content-Digest", "")
            for digest in (reference.digest, promised if is_digest(promised) else None):
                if digest is not None:
                    _verify(raw, digest, str(reference))
            return parse_document(raw, headers.get("Content-Type"))

        return self._mirrors.first(reference, ask)

    def has_manifest(self, reference: Reference) -> bool:
        """Tell whether the registry itself has this tag or digest."""
        place = self._hosts.origin(reference)
        request = Request("HEAD", self._manifest_url(place, reference), _ACCEPTED)
        return self._session.has(_pull(place), request, str(reference))

    def manifest_digest(self, reference: Reference) -> str | None:
        """Ask what a tag stands for without its content; None where the registry does not say."""

        def ask(place: Endpoint, patience: Patience | None) -> str | None:
            request = Request("HEAD", self._manifest_url(place, reference), _ACCEPTED)
            headers = self._session.headers(_pull(place), request, str(reference), patience)
            promised = headers.get("Docker-Content-Digest", "")
            return promised if is_digest(promised) else None

        return self._mirrors.first(reference, ask)

    def referrers(self, reference: Reference, artifact_type: str) -> tuple[str, ...]:
        """List the digests of what is attached to the image of a digest, newest first.

        Asks for the tag that stands in for the API where there is none. A refusal counts as none,
        since the image itself could be read; a failure that may pass is raised.
        """
        if reference.digest is None or not self._hosts.settings(reference.registry).referrers:
            return ()
        if reference.name not in self._without_referrers:
            query = urlencode({"artifactType": artifact_type})
            path = f"/referrers/{reference.digest}?{query}"
            found = self._attached_at(reference, path, artifact_type)
            if found is not None:
                return found
            self._without_referrers.add(reference.name)
        algorithm, _, hexadecimal = reference.digest.partition(":")
        tag = f"{algorithm}-{hexadecimal[:_TAG_DIGITS]}"
        by_tag = replace(reference, tag=tag, digest=None)
        return self._attached_at(by_tag, f"/manifests/{tag}", artifact_type) or ()

    def attached_index(self, reference: Reference) -> bytes | None:
        """Read the index of all that is attached to the image of a digest; None: no such API."""
        path = f"/referrers/{reference.digest}"

        def ask(place: Endpoint, patience: Patience | None) -> bytes | None:
            return self._read_index(place, str(reference), path, patience)

        return self._mirrors.first(reference, ask)

    def fetch_blob(
        self, reference: Reference, descriptor: Descriptor, begun: Iterable[bytes] = ()
    ) -> Iterator[bytes]:
        """Stream a blob; a broken transfer is resumed, and the end is reached by good bytes only.

        The last chunk comes before the digest is known: use nothing until the iterator is done.
        `begun` are first bytes that are there already: checked with the rest, not given again.
        """
        check = BlobCheck(descriptor, f"{reference.name}@{descriptor.digest}")
        for chunk in begun:
            check.take(chunk)
        wanted = replace(reference, digest=descriptor.digest)
        attempt, mark = 0, check.received
        while not (mark and check.received == descriptor.size):
            place, answer = self._mirrors.first(wanted, partial(self._ask_blob, check))
            try:
                for chunk in self._rest_of(answer, check):
                    check.take(chunk)
                    yield chunk
                break
            except RegistryError as error:
                if check.received - mark >= CHUNK:
                    attempt, mark = 0, check.received
                if not error.temporary or not self._transport.pause(attempt):
                    raise
                self._mirrors.pass_over(wanted, place, error)
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
        """Tell whether the reference's repository itself has this blob."""
        place = self._hosts.origin(reference)
        request = Request("HEAD", self._blob_url(place, digest))
        return self._session.has(_pull(place), request, f"{reference.name}@{digest}")

    def blob_size(self, reference: Reference) -> int:
        """Ask how long the blob of a digest is; raises NotFoundError where there is none."""
        name = f"{reference.name}@{reference.digest}"

        def ask(place: Endpoint, patience: Patience | None) -> int:
            request = Request("HEAD", self._blob_url(place, reference.digest or ""))
            size = stated_length(self._session.headers(_pull(place), request, name, patience))
            if size is None:
                raise RegistryError(f'"{name}": the registry does not say how long it is')
            return size

        return self._mirrors.first(reference, ask)

    def mount_blob(self, reference: Reference, digest: str, source_repository: str) -> bool:
        """Let the registry link a blob of another repository of its own; False: copy it instead."""
        place = self._hosts.origin(reference)
        source = self._hosts.origin(replace(reference, repository=source_repository))
        if source.registry != place.registry:
            return False
        access = push_access(place.registry, place.repository, source.repository)
        query = urlencode({"mount": digest, "from": source.repository})
        request = Request("POST", f"{self._uploads_url(place)}?{query}")
        answer = self._done(access, request, {201, 202}, reference.name)
        if answer.status == 201:
            return True
        self._cancel_upload(access, request.url, answer)
        return False

    def put_blob(self, reference: Reference, descriptor: Descriptor, source: BinaryIO) -> None:
        """Upload a blob from a seekable file that holds exactly its bytes."""
        place = self._hosts.origin(reference)
        access = _push(place)
        start = Request("POST", self._uploads_url(place))
        answer = self._done(access, start, {202}, reference.name)
        location = joined(start.url, answer.headers.get("Location", ""))
        separator = "&" if "?" in location else "?"
        url = f"{location}{separator}{urlencode({'digest': descriptor.digest})}"
        request = Request("PUT", url, {"Content-Type": _BINARY}, source)
        what = f"{reference.name}@{descriptor.digest}"
        # An upload may go to another host, which has no business with the registry's token.
        if origin(url) == origin(start.url):
            self._done(access, request, {201}, what)
        else:
            self._session.expect(self._transport.send(request), {201}, access, what).close()

    def put_manifest(self, reference: Reference, raw: bytes, media_type: str) -> str:
        """Upload a manifest or an index under the reference's tag or digest; return its digest."""
        place = self._hosts.origin(reference)
        url = self._manifest_url(place, reference)
        request = Request("PUT", url, {"Content-Type": media_type}, raw)
        answer = self._done(_push(place), request, {201}, str(reference))
        promised = answer.headers.get("Docker-Content-Digest", "")
        if is_digest(promised):
            _verify(raw, promised, str(reference))
        return digest_of(raw)

    def tags(self, reference: Reference) -> tuple[str, ...]:
        """List the tags of the repository itself, sorted; a long list comes in pages."""
        place = self._hosts.origin(reference)
        base = self._session.base(place.registry)
        url = f"{base}{place.repository}/tags/list?{urlencode({'n': PAGE_SIZE})}"
        found: set[str] = set()
        for _ in range(PAGE_LIMIT):
            request = Request("GET", url)
            raw, headers = self._session.read(_pull(place), request, reference.name, DOCUMENT_LIMIT)
            page = parse_page(raw, headers, url, reference.name)
            found.update(page.tags)
            if not page.next_url:
                return tuple(sorted(found))
            url = page.next_url
        raise RegistryError(f'"{reference.name}" has more than {PAGE_LIMIT} pages of tags')

    def _ask_blob(
        self, check: BlobCheck, place: Endpoint, patience: Patience | None
    ) -> tuple[Endpoint, Answer]:
        """Ask for a blob from where `check` stands, whether or not the place knows ranges."""
        start = check.received
        headers = {"Range": f"bytes={start}-"} if start else {}
        request = Request("GET", self._blob_url(place, check.digest), headers)
        access = _pull(place)
        answer = self._session.call(access, request, patience)
        answer = self._session.expect(answer, {200, 206}, access, check.name)
        try:
            if answer.status == 200:
                check.expect_length(stated_length(answer.headers))
            else:
                check.expect_range(answer.headers.get("Content-Range", ""))
        except RegistryError:
            answer.close()
            raise
        return place, answer

    def _rest_of(self, answer: Answer, check: BlobCheck) -> Iterator[bytes]:
        chunks = self._session.chunks(answer)
        return chunks if answer.status == 206 else _without_first(chunks, check.received)

    def _done(self, access: Access, request: Request, statuses: set[int], what: str) -> Answer:
        """Send what has no body in its answer that anybody reads."""
        answer = self._session.call(access, request)
        answer = self._session.expect(answer, statuses, access, what)
        answer.error_body()
        return answer

    def _cancel_upload(self, access: Access, url: str, answer: Answer) -> None:
        """Close an upload that a refused mount opened; the registry expires it otherwise."""
        location = joined(url, answer.headers.get("Location", ""))
        if origin(location) == origin(url):
            with contextlib.suppress(RegistryError):
                self._session.call(access, Request("DELETE", location)).close()

    def _attached_at(
        self, reference: Reference, path: str, artifact_type: str
    ) -> tuple[str, ...] | None:
        """Read an index that need not be there; what is no index counts as none.

        A mirror may lack it, or not know the question: its none counts only while the registry
        itself cannot be asked.
        """
        origin, nothing_at_mirror = self._hosts.origin(reference), False

        def ask(place: Endpoint, patience: Patience | None) -> tuple[str, ...] | None:
            nonlocal nothing_at_mirror
            if nothing_at_mirror:
                patience = ONE_TRY
            raw = self._read_index(place, str(reference), path, patience)
            found = None if raw is None else _attached(raw, artifact_type)
            if place != origin and not found:
                nothing_at_mirror = True
                raise NotFoundError(f'nothing is attached to "{reference}" at {place.registry}')
            return found

        try:
            return self._mirrors.first(reference, ask)
        except RegistryError as error:
            if not (nothing_at_mirror and error.temporary):
                raise
            log.warning("%s; a mirror has nothing attached to %s", error.message, reference)
            return ()

    def _read_index(
        self, place: Endpoint, what: str, path: str, patience: Patience | None
    ) -> bytes | None:
        url = f"{self._session.base(place.registry)}{place.repository}{path}"
        request = Request("GET", url, {"Accept": OCI_INDEX})
        try:
            raw, headers = self._session.read(_pull(place), request, what, DOCUMENT_LIMIT, patience)
        except (NotFoundError, AuthenticationError) as error:
            log.debug("nothing is attached to %s: %s", what, error.message)
            return None
        except RegistryError as error:
            if error.status not in _NO_REFERRERS:
                raise
            return None
        media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return raw if media_type == OCI_INDEX else None

    def _manifest_url(self, place: Endpoint, reference: Reference) -> str:
        target = reference.digest or reference.tag or DEFAULT_TAG
        return f"{self._session.base(place.registry)}{place.repository}/manifests/{target}"

    def _blob_url(self, place: Endpoint, digest: str) -> str:
        return f"{self._session.base(place.registry)}{place.repository}/blobs/{digest}"

    def _uploads_url(self, place: Endpoint) -> str:
        return f"{self._session.base(place.registry)}{place.repository}/blobs/uploads/"


def _pull(place: Endpoint) -> Access:
    return pull_access(place.registry, place.repository)


def _push(place: Endpoint) -> Access:
    return push_access(place.registry, place.repository)


def _verify(raw: bytes, digest: str, what: str) -> None:
    try:
        verify_digest(raw, digest)
    except DigestMismatchError as error:
        raise DigestMismatchError(f'"{what}": {error.message}', error.hint) from error


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
