"""The hub in the room: its settings, its start and stop, what it says, and its command line."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import yaml
from room import Daemon, Room
from upstream import TREE, Upstream


class Hub:
    """One hub before ``upstream``, with the types of `--static-machines`; use it as a context.

    ``settings`` are added to those that every hub of the tests has.
    """

    def __init__(self, room: Room, upstream: Upstream, port: int, **settings: object) -> None:
        self.room, self.port = room, port
        # Not the loopback's address where a certificate counts: docker trusts that one anyway.
        self.name = f"{'192.0.2.1' if 'tls' in settings else '127.0.0.1'}:{port}"
        self.folder = room.folder / f"hub-{port}"
        self.log = self.folder / "log"
        self._daemon: Daemon | None = None
        self._settings = {
            "listen": self.name,
            "database": f"sqlite:///{self.folder}/hub.sqlite",
            "cache": {"path": str(self.folder / "blobs"), "bytes": "100M"},
            "upstreams": {"main": {"registry": upstream.name}},
            "registries": {upstream.name: {"plain_http": True}},
            # All clients have one address, and some tests fail to log in.
            "limits": {"logins": 1000},
            **settings,
        }

    def __enter__(self):
        self.folder.mkdir()
        self._file.write_text(yaml.safe_dump(self._settings))
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        how = ("serve", "--settings", self._file, "--static-machines")
        self._daemon = self.room.start(*self._hpcimg, *how, log=self.log)
        self._daemon.wait_until(lambda: self.get("/health/ready") is not None)

    def stop(self) -> int:
        """Ask it to end, and give the code that it ended with."""
        daemon, self._daemon = self._daemon, None
        return daemon.stop() if daemon else 0

    def restart(self) -> None:
        """Stop it, which has to end well, and start it anew over the same files."""
        assert self.stop() == 0, self.log.read_text("utf-8")[-1000:]
        self.start()

    def add_type(self, name: str, *words: str) -> None:
        """Add a machine type, whose login is its own password, and wait until the hub knows it."""
        login = name.replace("/", "-")
        self.tell("type", "add", name, *words, "--password-stdin", entered=login)
        self._daemon.wait_until(lambda: self.get("/v2/", login) is not None)

    def tell(self, *words: str, entered: str = "") -> str:
        """Run a verb of `hpcimg hub` with the same settings; give what it printed."""
        verb = (*self._hpcimg, *words, "--settings", self._file)
        return self.room.run(*verb, entered=entered).stdout

    def get(self, path: str, login: str = "") -> str | None:
        """Get a document; None if it is refused or nobody answers."""
        header = ("--header", f"Authorization: {basic(login)}") if login else ()
        url = f"{'https' if 'tls' in self._settings else 'http'}://{self.name}{path}"
        trust = ("--no-check-certificate",) if "tls" in self._settings else ()
        command = ("busybox", "wget", "-q", "-O", "-", *trust, *header, url)
        done = self.room.run(*command, check=False)
        return done.stdout if done.returncode == 0 else None

    def audit(self) -> list[dict[str, Any]]:
        """Read the audit log: one object for each request, in order."""
        lines = self.log.read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    @property
    def _file(self) -> Path:
        return self.folder / "hub.yaml"

    @property
    def _hpcimg(self) -> tuple[str, ...]:
        return ("env", f"PYTHONPATH={TREE}", sys.executable, "-m", "hpcimg", "hub")


def basic(login: str) -> str:
    """Make the header of a login that is its own password, as those of the tests are."""
    return f"Basic {base64.b64encode(f'{login}:{login}'.encode()).decode()}"
