"""ctr with a containerd of its own: its client, without the part that Kubernetes uses."""

from __future__ import annotations

import json
from pathlib import Path

from client import Client, Pulled
from containerd_daemon import Containerd
from room import Room


class Ctr(Client):
    """ctr; the login goes with each pull, nobody is asked before."""

    namespace = "default"

    def __init__(self, room: Room, folder: Path) -> None:
        super().__init__(room, folder)
        self.containerd = Containerd(room, folder)
        self._ctr = ("ctr", f"--address={self.containerd.socket}", f"--namespace={self.namespace}")
        self._logins: dict[str, str] = {}

    def start(self) -> None:
        """Start containerd."""
        self.containerd.start()

    def stop(self) -> None:
        """End containerd."""
        self.containerd.stop()

    def login(self, registry: str, user: str, password: str) -> None:
        """Remember the login."""
        self._logins[registry] = f"{user}:{password}"

    def pull(self, name: str) -> Pulled:
        """Pull; the digest is that of what the registry gave for the name, maybe an index."""
        registry = name.partition("/")[0]
        self.containerd.allow_plain_http(registry)
        known = [f"--user={self._logins[registry]}"] if registry in self._logins else []
        how = (f"--hosts-dir={self.containerd.hosts}", *known, name)
        said = self._pull(*self._ctr, "images", "pull", *how)
        listed = self.room.run(*self._ctr, "images", "ls", f"name=={name}").stdout
        digest = listed.splitlines()[1].split()[2]
        return Pulled(digest, self._config(digest), said)

    def run(self, name: str) -> str:
        """Run with runc, no network."""
        return self.room.run(*self._ctr, "run", "--rm", name, "once").stdout.strip()

    def _config(self, digest: str) -> str:
        """Find the config of the image: ctr fetches all amd64 ones and unpacks the first."""
        content = (*self._ctr, "content")
        document = json.loads(self.room.run(*content, "get", digest).stdout)
        if "manifests" in document:
            first = document["manifests"][0]["digest"]
            document = json.loads(self.room.run(*content, "get", first).stdout)
        return document["config"]["digest"]
