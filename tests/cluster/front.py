"""A registry front that fails as told: it stands before a real registry and notes each request.

Usage: front.py PORT UPSTREAM FOLDER, with the node's own Python and nothing else.
FOLDER/rules.json is a list of rules (see `Rule`), read again when it changes; FOLDER/log gets one
JSON object a line for each request, and one with "held" for each answer that is held back.
"""

from __future__ import annotations

import http.client
import json
import re
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_CHUNK = 64 << 10
_DRIP_BYTES = 10
_POLL_SECONDS = 0.01
_OWN = {"connection", "date", "server", "transfer-encoding"}


@dataclass(frozen=True)
class Rule:
    """What happens to requests whose path holds `path`, for so many `times` (0: always).

    `status` answers without asking upstream. `to` asks for another path instead: a tag that moved.
    `headers` replace those of the answer; they may lie. `flip` changes the byte of that offset.
    After `after` bytes of a longer body `then` comes: cut, reset, or hold, which goes on once there
    is FOLDER/release. A reset without `after` comes at once; drip is the whole body, very slowly.
    """

    path: str
    times: int = 0
    status: int = 0
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    to: str = ""
    no_range: bool = False
    flip: int = -1
    after: int = -1
    then: str = ""


class Rules:
    """The rules of the file as it is now, and how often each was used since it changed."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "rules.json"
        self._release = folder / "release"
        self._lock = threading.Lock()
        self._stamp = 0
        self._left: list[tuple[Rule, list[int]]] = []

    def take(self, path: str) -> Rule:
        """Give the first rule that holds for this path, and count it."""
        with self._lock:
            stamp = self._file.stat().st_mtime_ns
            if stamp != self._stamp:
                self._stamp = stamp
                rules = [Rule(**one) for one in json.loads(self._file.read_text("utf-8"))]
                self._left = [(rule, [rule.times or sys.maxsize]) for rule in rules]
            for rule, left in self._left:
                if left[0] > 0 and re.search(rule.path, path):
                    left[0] -= 1
                    return rule
        return Rule("")

    def wait(self, client: socket.socket) -> None:
        """Wait until what is held back may go on, or its client is gone."""
        while not self._release.exists():
            readable, _, _ = select.select([client], [], [], _POLL_SECONDS)
            if readable and not client.recv(1, socket.MSG_PEEK):
                return


class Server(ThreadingHTTPServer):
    """The front: where it asks, by which rules, and its log."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, port: int, upstream: str, folder: Path) -> None:
        super().__init__(("", port), Handler)
        self.upstream = upstream
        self.rules = Rules(folder)
        self._log = (folder / "log").open("a", buffering=1, encoding="utf-8")

    def note(self, **fields: object) -> None:
        """Add a line to the log; one write is one line."""
        self._log.write(json.dumps({"time": time.time(), **fields}) + "\n")

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that leave are ordinary here."""


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        """Find the rule, note the request, answer."""
        rule = self.server.rules.take(self.path)
        asked = self.headers.get("Range", "")
        self.server.note(method=self.command, path=self.path, range=asked, rule=rule.path)
        time.sleep(rule.delay)
        if rule.status:
            self._begin(rule.status, {"Content-Length": str(len(rule.body.encode()))}, rule)
            self.wfile.write(rule.body.encode())
        elif rule.then == "reset" and rule.after < 0:
            self._reset()
        else:
            self._pass_on(rule)

    do_HEAD = do_GET  # noqa: N815 - as above

    def _pass_on(self, rule: Rule) -> None:
        dropped = {"host", "connection", *(["range"] if rule.no_range else [])}
        headers = {key: value for key, value in self.headers.items() if key.lower() not in dropped}
        upstream = http.client.HTTPConnection(self.server.upstream)
        upstream.request(self.command, rule.to or self.path, headers=headers)
        answer = upstream.getresponse()
        self._begin(answer.status, dict(answer.getheaders()), rule)
        for chunk in _bent(answer, rule):
            self.wfile.write(chunk)
            self.wfile.flush()
            if rule.then == "drip":
                time.sleep(_POLL_SECONDS)
        if rule.after >= 0 and answer.length:
            self._break(answer, rule)
        upstream.close()

    def _begin(self, status: int, headers: dict[str, str], rule: Rule) -> None:
        kept = {key.title(): value for key, value in headers.items() if key.lower() not in _OWN}
        self.send_response(status)
        for key, value in {**kept, **rule.headers}.items():
            self.send_header(key, value)
        self.end_headers()
        # A length that lies leaves the connection in no state to be used again.
        self.close_connection = self.close_connection or "Content-Length" in rule.headers

    def _break(self, answer: http.client.HTTPResponse, rule: Rule) -> None:
        if rule.then == "hold":
            self.server.note(held=self.path)
            self.server.rules.wait(self.connection)
            self.wfile.write(answer.read())
        elif rule.then == "reset":
            self._reset()
        self.close_connection = rule.then != "hold"

    def _reset(self) -> None:
        """Close so that the other side gets a reset, not an end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        for stream in (self.rfile, self.wfile):
            stream.close()
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """Nothing but `Server.note`."""


def _bent(answer: http.client.HTTPResponse, rule: Rule) -> Iterator[bytes]:
    """Give the body as the rule wants it, up to where it breaks."""
    at = 0
    size = _DRIP_BYTES if rule.then == "drip" else _CHUNK
    until = rule.after if rule.after >= 0 else sys.maxsize
    while at < until and (chunk := answer.read(min(size, until - at))):
        if at <= rule.flip < at + len(chunk):
            changed = bytearray(chunk)
            changed[rule.flip - at] ^= 0xFF
            chunk = bytes(changed)
        at += len(chunk)
        yield chunk


if __name__ == "__main__":
    Server(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])).serve_forever()
