"""A hub of its own process over test registries, and a client that shows all of each answer."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hpcimg

if TYPE_CHECKING:
    from typing_extensions import Self

MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
_SERVING = re.compile(r"hpcimg hub: (https?)://127\.0\.0\.1:([0-9]+)")


@dataclass(frozen=True)
class Answer:
    """One answer, whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self):
        """Parse the body."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The specification's word for what is wrong."""
        return self.json()["errors"][0]["code"]

    @property
    def message(self) -> str:
        """What the hub says is wrong."""
        return self.json()["errors"][0]["message"]


class RunningHub:
    """`hpcimg hub serve` with these settings; use it as a context."""

    def __init__(
        self, folder: Path, text: str, *words: str, context=None, static: bool = True
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.settings = folder / "hub.yaml"
        self.settings.write_text(text)
        self.log = folder / "log"
        self.port = 0
        self.said = ""
        self._words = (*words, *(["--static-machines"] if static else []))
        self._context = context
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "hpcimg", "hub", "serve", "--settings", self.settings]
        environment = {
            **{k: v for k, v in os.environ.items() if "proxy" not in k.lower()},
            "PYTHONPATH": str(Path(hpcimg.__file__).parents[1]),
            "HOME": str(self.folder),
        }
        with self.log.open("a") as output:
            self._process = subprocess.Popen(
                [*command, *self._words],
                env=environment,
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
            )
        for line in self._process.stderr:
            self.said += line
            if found := _SERVING.search(line):
                self.port = int(found[2])
                return self
        self.__exit__()
        raise AssertionError(f"the hub did not start: {self.said}")

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """End it by a signal; its exit code, and what it said since it served."""
        if self._process is None:
            return 0, ""
        self._process.send_signal(number)
        _, said = self._process.communicate(timeout=60)
        code, self._process = self._process.returncode, None
        return code, said

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def name(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    def audit(self) -> list[dict]:
        """Read the audit log."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def connect(self) -> http.client.HTTPConnection:
        """Open a connection."""
        if self._context is not None:
            return http.client.HTTPSConnection(self.name, context=self._context, timeout=60)
        return http.client.HTTPConnection(self.name, timeout=60)

    def ask(
        self, path: str, login: str = "", method: str = "GET", body=None, **headers: str
    ) -> Answer:
        """Ask once; `login` is NAME:PASSWORD, or a bearer token."""
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        if login:
            sent["Authorization"] = authorization(login)
        if "/manifests/" in path and "Accept" not in sent:
            sent["Accept"] = ", ".join(MANIFESTS)
        connection = self.connect()
        try:
            connection.request(method, path, body=body, headers=sent)
            found = connection.getresponse()
            return Answer(found.status, found.headers, found.read())
        finally:
            connection.close()


def authorization(login: str) -> str:
    """Make the header of NAME:PASSWORD, or of a token."""
    if ":" in login:
        return f"Basic {base64.b64encode(login.encode()).decode()}"
    return f"Bearer {login}"


def trusting(authority: Path, certificate: Path | None = None, key: Path | None = None):
    """Make a client's TLS that trusts one authority, and may show a certificate."""
    context = ssl.create_default_context(cafile=str(authority))
    if certificate is not None:
        context.load_cert_chain(str(certificate), str(key))
    return context
