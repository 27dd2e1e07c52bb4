"""A front of a registry that gives blobs slowly: PORT UPSTREAM BYTES_PER_SECOND.

Runs on a node of the cluster, with nothing but Python's own library.
"""

from __future__ import annotations

import http.client
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, UPSTREAM, RATE = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
PIECES_A_SECOND = 20
PASSED_ON = {"Content-Type", "Content-Length", "Docker-Content-Digest"}


class Front(BaseHTTPRequestHandler):
    """Passes each request on, and drips what comes."""

    def do_GET(self) -> None:
        """Answer as the registry does."""
        upstream = http.client.HTTPConnection(UPSTREAM)
        upstream.request(self.command, self.path, headers=dict(self.headers.items()))
        answer = upstream.getresponse()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name in PASSED_ON:
                self.send_header(name, value)
        self.end_headers()
        while piece := answer.read(RATE // PIECES_A_SECOND):
            self.wfile.write(piece)
            if "/blobs/" in self.path:
                time.sleep(1 / PIECES_A_SECOND)

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def log_message(self, *_: object) -> None:
        """Say nothing."""


ThreadingHTTPServer(("", PORT), Front).serve_forever()
