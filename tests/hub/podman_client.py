"""podman with a store of its own; runc starts its images, since crun needs one kind of cgroups."""

from __future__ import annotations

import json
from pathlib import Path

from client import Client, Pulled
from room import Room


class Podman(Client):
    """podman as root."""

    def __init__(self, room: Room, folder: Path) -> None:
        super().__init__(room, folder)
        roots = [f"--{key}={folder / key}" for key in ("root", "runroot", "tmpdir")]
        how = ("--runtime=runc", "--cgroup-manager=cgroupfs", "--events-backend=file")
        self._podman = ("podman", *roots, *how)
        self._plain = ("--tls-verify=false", f"--authfile={folder / 'auth.json'}")
        (folder / "auth.json").write_text("{}")

    def login(self, registry: str, user: str, password: str) -> None:
        """Log in at the registry, which must answer."""
        words = ("--username", user, "--password-stdin", registry)
        self.room.run(*self._podman, "login", *self._plain, *words, entered=password)

    def pull(self, name: str) -> Pulled:
        """Pull; the digest is the chosen manifest's, also out of an index."""
        said = self._pull(*self._podman, "pull", *self._plain, name)
        found = json.loads(self.room.run(*self._podman, "image", "inspect", name).stdout)[0]
        return Pulled(found["Digest"], f"sha256:{found['Id']}", said)

    def run(self, name: str) -> str:
        """Run with the room's network."""
        run = ("run", "--rm", "--pull=never", "--network=host", name)
        return self.room.run(*self._podman, *run).stdout.strip()
