"""A registry in this process: the distribution API on real sockets, with faults on request.

Tests talk to it as to any registry; it keeps content in memory and logs every request.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import ssl
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from exchanges import Document, Fault, Seen

if TYPE_CHECKING:
    from typing_extensions import Self

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


class Registry:
    """The content, the accounts, the faults and the log; use it as a context."""

    def __init__(self, *, auth: str = "anonymous", users: dict[str, str] | None = None) -> None:
        self.auth = auth
        self.users = users or {}
        self.identity_tokens: set[str] = set()
        self.realm = ""
        self.ranges = True
        self.page_size = 1000
        self.has_referrers = False
        self.redirect_blobs_to = ""
        self.blobs: dict[str, bytes] = {}
        self.links: dict[str, set[str]] = {}
        self.documents: dict[str, dict[str, Document]] = {}
        self.uploads: set[str] = set()
        self.tokens: dict[str, set[str]] = {}
        self.faults: deque[Fault] = deque()
        self.seen: list[Seen] = []
        self.connections = self.most_connections = 0
        self._open: set[object] = set()
        self._server: ThreadingHTTPServer | None = None

    def start(
        self, tls: tuple[str, str] | None = None, context: ssl.SSLContext | None = None
    ) -> Self:
        """Listen on a free port of the loopback; `tls` is (certificate file, key file)."""
        handler = type("BoundHandler", (Handler,), {"registry": self})
        server = Server(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        self._server = server
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Close the port."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def name(self) -> str:
        """HOST:PORT as an image name begins with it."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def put_blob(self, repository: str, raw: bytes) -> str:
        """Store a blob in a repository and return its digest."""
        digest = digest_of(raw)
        self.blobs[digest] = raw
        self.links.setdefault(repository, set()).add(digest)
        return digest

    def put_document(self, repository: str, tag: str, media_type: str, raw: bytes) -> str:
        """Store a manifest or an index under its digest and a tag."""
        digest = digest_of(raw)
        documents = self.documents.setdefault(repository, {})
        documents[digest] = documents[tag] = Document(media_type, raw)
        return digest

    def put_image(
        self, repository: str, tag: str, layers: list[bytes], *, docker: bool = True, **config
    ) -> str:
        """Store an image of these layers and config fields; return its manifest's digest."""
        kind = "application/vnd.docker" if docker else "application/vnd.oci"
        config_type = "container.image.v1+json" if docker else "image.config.v1+json"
        layer_type = "image.rootfs.diff.tar.gzip" if docker else "image.layer.v1.tar+gzip"
        config = {"architecture": "amd64", "os": "linux", **config}
        media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
        document = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": self._describe(repository, f"{kind}.{config_type}", _json(config)),
            "layers": [self._describe(repository, f"{kind}.{layer_type}", raw) for raw in layers],
        }
        return self.put_document(repository, tag, media_type, _json(document))

    def referrers_index(self, repository: str, digest: str) -> bytes:
        """Make the index of the manifests whose subject is this digest, in the order of putting."""
        entries = []
        for name, found in self.documents[repository].items():
            document = json.loads(found.raw)
            if name.startswith("sha256:") and document.get("subject", {}).get("digest") == digest:
                entry = {"mediaType": found.media_type, "digest": name, "size": len(found.raw)}
                extra = {key: document[key] for key in ("artifactType", "annotations")}
                entries.append({**entry, **extra})
        return _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})

    def _describe(self, repository: str, media_type: str, raw: bytes) -> dict[str, object]:
        return {
            "mediaType": media_type,
            "size": len(raw),
            "digest": self.put_blob(repository, raw),
        }

    def note_connection(self, connection: object, *, is_open: bool) -> None:
        """Count the connections, and how many there were at once."""
        if is_open:
            self.connections += 1
            self._open.add(connection)
            self.most_connections = max(self.most_connections, len(self._open))
        else:
            self._open.discard(connection)

    def fail(self, match: str, **fault) -> None:
        """Make the next request that contains `match` fail."""
        self.faults.append(Fault(match, **fault))

    def log(self) -> list[str]:
        """Return the requests as "METHOD PATH STATUS"."""
        return [str(seen) for seen in self.seen]


class Server(ThreadingHTTPServer):
    """One thread for each connection."""

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that hang up; a request that failed is missed in the log."""


class Handler(BaseHTTPRequestHandler):
    """Serves one connection."""

    registry: Registry
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean; the registry has a log of its own."""

    def setup(self) -> None:
        """Count the connection."""
        super().setup()
        self.registry.note_connection(self, is_open=True)

    def finish(self) -> None:
        """Count it no more."""
        self.registry.note_connection(self, is_open=False)
        super().finish()

    def do_GET(self) -> None:
        """Answer any method by one path."""
        self._serve()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - http.server's names

    def _serve(self) -> None:
        url = urlsplit(self.path)
        self.path_only, self.query = url.path, parse_qs(url.query)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.fault = self._next_fault()
        if self.fault and self.fault.cut:
            self._note(0)
            self.close_connection = True
            return
        if self.fault and self.fault.status:
            self._answer(self.fault.status, self.fault.body, self.fault.headers)
        elif url.path == "/token":
            self._token()
        elif self._is_allowed():
            self._route()

    def _next_fault(self) -> Fault | None:
        for fault in self.registry.faults:
            if fault.match in f"{self.command} {self.path}":
                fault.times -= 1
                if fault.times == 0:
                    self.registry.faults.remove(fault)
                return fault
        return None

    def _route(self) -> None:
        if self.path_only == "/v2/":
            return self._answer(200, b"{}")
        for pattern, serve in (
            (r"/v2/(.+)/manifests/([^/]+)", self._manifest),
            (r"/v2/(.+)/referrers/([^/]+)", self._referrers),
            (r"/v2/(.+)/blobs/uploads/([^/]*)", self._upload),
            (r"/v2/(.+)/blobs/([^/]+)", self._blob),
            (r"/v2/(.+)/tags/list", self._tags),
        ):
            if match := re.fullmatch(pattern, self.path_only):
                return serve(*match.groups())
        return self._error(404, "NOT_FOUND", "no such route")

    def _manifest(self, repository: str, name: str) -> None:
        documents = self.registry.documents.setdefault(repository, {})
        if self.command == "PUT":
            media_type = self.headers["Content-Type"]
            missing = _missing(self.registry, repository, self.body)
            if missing:
                return self._error(400, "MANIFEST_BLOB_UNKNOWN", f"blob unknown: {missing}")
            digest = self.registry.put_document(repository, name, media_type, self.body)
            return self._answer(201, b"", {"Docker-Content-Digest": digest})
        found = documents.get(name)
        if found is None:
            return self._error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        if found.media_type not in self.headers.get("Accept", ""):
            return self._error(404, "MANIFEST_UNKNOWN", f"{found.media_type} is not accepted")
        headers = {
            "Content-Type": found.media_type,
            "Docker-Content-Digest": digest_of(found.raw),
        }
        return self._answer(200, found.raw, headers)

    def _referrers(self, repository: str, digest: str) -> None:
        """List what points to a digest, unfiltered as the specification allows."""
        if not self.registry.has_referrers:
            return self._error(404, "NOT_FOUND", "no such route")
        raw = self.registry.referrers_index(repository, digest)
        return self._answer(200, raw, {"Content-Type": OCI_INDEX})

    def _blob(self, repository: str, digest: str) -> None:
        if digest not in self.registry.links.get(repository, set()):
            return self._error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        if self.registry.redirect_blobs_to and self.command == "GET":
            target = self.registry.redirect_blobs_to + self.path
            return self._answer(307, b"", {"Location": target + "?signature=hush"})
        raw = self.registry.blobs[digest]
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and self.registry.ranges:
            start = int(wanted[1])
            stated = f"bytes {start}-{len(raw) - 1}/{len(raw)}"
            return self._answer(206, raw[start:], {"Content-Range": stated})
        return self._answer(200, raw)

    def _tags(self, repository: str) -> None:
        """List tags in pages; the link to the next one is relative, as registries send it."""
        tags = sorted(t for t in self.registry.documents.get(repository, {}) if ":" not in t)
        if not tags:
            return self._error(404, "NAME_UNKNOWN", "repository name not known to registry")
        left = [tag for tag in tags if tag > self.query.get("last", [""])[0]]
        size = min(int(self.query["n"][0]), self.registry.page_size)
        page, headers = left[:size], {}
        if len(left) > size:
            link = f"/v2/{repository}/tags/list?n={size}&last={page[-1]}"
            headers["Link"] = f'<{link}>; rel="next"'
        return self._answer(200, _json({"name": repository, "tags": page}), headers)

    def _upload(self, repository: str, session: str) -> None:
        registry = self.registry
        if self.command == "POST":
            mounted = self.query.get("mount", [""])[0]
            source = self.query.get("from", [""])[0]
            if mounted and mounted in registry.links.get(source, set()):
                registry.links.setdefault(repository, set()).add(mounted)
                return self._answer(201)
            session = secrets.token_hex(8)
            registry.uploads.add(session)
            location = f"/v2/{repository}/blobs/uploads/{session}?state=x"
            return self._answer(202, b"", {"Location": location})
        if session not in registry.uploads:
            return self._error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown")
        registry.uploads.discard(session)
        if self.command == "DELETE":
            return self._answer(204)
        if digest_of(self.body) != self.query["digest"][0]:
            return self._error(400, "DIGEST_INVALID", "digest did not match content")
        registry.put_blob(repository, self.body)
        return self._answer(201)

    def _is_allowed(self) -> bool:
        registry = self.registry
        value = self.headers.get("Authorization", "")
        if registry.auth == "anonymous":
            return True
        if registry.auth == "basic":
            challenge, allowed = 'Basic realm="the registry"', self._login() is not None
        else:
            scope = self._needed_scope()
            realm = registry.realm or f"http://{self.headers['Host']}/token"
            challenge = f'Bearer realm="{realm}",service="tests",scope="{scope}"'
            granted = registry.tokens.get(value.removeprefix("Bearer "), set())
            allowed = _expand({scope}) <= granted
        if not allowed:
            self._error(401, "UNAUTHORIZED", "log in", {"WWW-Authenticate": challenge})
        return allowed

    def _needed_scope(self) -> str:
        match = re.match(r"/v2/(.+)/(?:manifests|blobs|referrers|tags)/", self.path_only)
        actions = "pull" if self.command in {"GET", "HEAD"} else "pull,push"
        return f"repository:{match[1] if match else ''}:{actions}"

    def _token(self) -> None:
        """Grant what is asked for to whom is known; without accounts everybody is known."""
        query = parse_qs(self.body.decode()) if self.command == "POST" else self.query
        scopes = {word for value in query.get("scope", []) for word in value.split()}
        if self.command == "POST":
            known = query["refresh_token"][0] in self.registry.identity_tokens
        else:
            known = not self.registry.users or self._login() is not None
        if not known:
            return self._error(401, "UNAUTHORIZED", "incorrect username or password")
        token = secrets.token_hex(8)
        self.registry.tokens[token] = _expand(scopes)
        key = "access_token" if self.command == "POST" else "token"
        return self._answer(200, _json({key: token, "expires_in": 300}))

    def _login(self) -> str | None:
        """Return the user that the request logs in as, when the password is right."""
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        if scheme != "Basic":
            return None
        user, _, password = base64.b64decode(value).decode().partition(":")
        return user if self.registry.users.get(user) == password else None

    def _error(
        self, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> None:
        self._answer(status, _json({"errors": [{"code": code, "message": message}]}), headers)

    def _answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        self._note(status)
        fault = self.fault
        sent = {"Content-Length": str(len(body)), **(headers or {})}
        if fault and not fault.status:
            sent.update(fault.headers)
        self.send_response(status)
        for key, value in sent.items():
            self.send_header(key, value)
        self.end_headers()
        if fault and fault.corrupt:
            body = bytes([body[0] ^ 1]) + body[1:]
        if fault and fault.keep is not None:
            body, self.close_connection = body[: fault.keep], True
        if self.command != "HEAD":
            self.wfile.write(body)

    def _note(self, status: int) -> None:
        self.registry.seen.append(
            Seen(self.command, self.path_only, self.query, dict(self.headers), self.body, status)
        )


def digest_of(raw: bytes) -> str:
    """Name bytes by their sha256."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def _json(document: object) -> bytes:
    return json.dumps(document).encode()


def _expand(scopes: set[str]) -> set[str]:
    """Split scopes into single actions."""
    parts = [scope.rpartition(":") for scope in scopes]
    return {f"{name}:{action}" for name, _, actions in parts for action in actions.split(",")}


def _missing(registry: Registry, repository: str, raw: bytes) -> str:
    """Name the first blob or manifest that a document points to and the repository lacks."""
    document = json.loads(raw)
    if "manifests" in document:
        wanted, there = document["manifests"], registry.documents.get(repository, {}).keys()
    else:
        wanted = [document["config"], *document["layers"]]
        there = registry.links.get(repository, set())
    return next((entry["digest"] for entry in wanted if entry["digest"] not in there), "")
