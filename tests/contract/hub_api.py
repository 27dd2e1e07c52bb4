"""The part of a hub that a node asks, on a real socket: machine types, proposals, and faults."""

from __future__ import annotations

import base64
import json
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SECRET = "s3cret-of-the-type"
"""A password, or the start of one; it must show nowhere."""
TYPES = [
    {"account": "qnib", "name": name, "features": words, "answer": "manifest", "description": ""}
    for name, words in {
        "type1": ["cpu:broadwell"],
        "type2": ["cpu:skylake"],
        "type4": ["cpu:broadwell", "nvcap:5.2"],
        "arm": ["linux/arm64", "cpu:neoverse_n1"],
        "typo": ["cpu:brodwell"],
    }.items()
]
LOGINS = {f"qnib-{one['name']}": f"{SECRET}-{one['name']}" for one in TYPES}


class Hub:
    """Its types and logins, what was asked, and what it does wrong; use it as a context."""

    def __init__(self, types, logins, tls=None):
        self.types = types
        self.logins = logins
        self.asked: list[str] = []
        self.proposals: list[dict] = []
        self.answer: tuple[int, dict, bytes] | None = None
        handler = type("BoundHandler", (Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    hub: Hub

    def do_GET(self):
        """List the types."""
        self._serve(None)

    def do_POST(self):
        """Take a proposal."""
        length = int(self.headers["Content-Length"])
        self._serve(json.loads(self.rfile.read(length)))

    def log_message(self, *_):
        """Print nothing."""

    def _serve(self, body):
        hub = self.hub
        hub.asked.append(f"{self.command} {self.path}")
        if hub.answer is not None:
            self._send(*hub.answer)
            return
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        name, _, password = base64.b64decode(value).decode().partition(":")
        if scheme != "Basic" or hub.logins.get(name) != password:
            error = {"errors": [{"code": "UNAUTHORIZED", "message": "the password is not right"}]}
            self._send(401, {}, json.dumps(error).encode())
        elif (self.command, self.path) == ("GET", "/api/v1/types"):
            self._send(200, {}, json.dumps(hub.types).encode())
        elif (self.command, self.path) == ("POST", "/api/v1/proposals"):
            hub.proposals.append(body)
            self._send(202, {}, b"")
        else:
            self._send(404, {}, b"")

    def _send(self, status, headers, body):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def basic(name):
    """What a type's login is in the files."""
    return base64.b64encode(f"{name}:{LOGINS[name]}".encode()).decode()


def hosts_of(folder):
    """What containerd reads of a host there."""
    return tomllib.loads((folder / "hosts.toml").read_text())
