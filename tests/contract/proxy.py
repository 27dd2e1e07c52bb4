"""A web proxy in this process: CONNECT for TLS, whole URLs for plain http, logins on request."""

from __future__ import annotations

import http.client
import select
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from typing_extensions import Self


class Proxy:
    """Sends all to one place, whatever the host's name; notes what it was asked."""

    def __init__(self, target: tuple[str, int], *, login: str = "") -> None:
        self.target = target
        self.login = login
        self.asked: list[str] = []
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        handler = type("BoundHandler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        """HOST:PORT of the proxy."""
        return f"127.0.0.1:{self._server.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""

    def do_CONNECT(self) -> None:
        """Pass bytes both ways."""
        if not self._is_known():
            return
        with socket.create_connection(self.proxy.target) as there:
            self.send_response(200)
            self.end_headers()
            pairs = {self.connection: there, there: self.connection}
            while True:
                for one in select.select(list(pairs), [], [])[0]:
                    raw = one.recv(65536)
                    if not raw:
                        self.close_connection = True
                        return
                    pairs[one].sendall(raw)

    def do_GET(self) -> None:
        """Ask for a whole URL."""
        if not self._is_known():
            return
        parts = urlsplit(self.path)
        there = http.client.HTTPConnection(*self.proxy.target)
        headers = {"Host": parts.netloc, "Accept": self.headers["Accept"]}
        there.request("GET", parts.path, headers=headers)
        answer = there.getresponse()
        raw = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers["Content-Type"])
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _is_known(self) -> bool:
        self.proxy.asked.append(f"{self.command} {self.path}")
        if self.headers.get("Proxy-Authorization", "") == self.proxy.login:
            return True
        self.send_response(407)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False
