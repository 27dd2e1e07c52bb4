"""buildah with a store of its own: a working container is made, run and removed."""

from __future__ import annotations

import json
from pathlib import Path

from client import Client, Pulled
from room import Room


class Buildah(Client):
    """buildah as root."""

    def __init__(self, room: Room, folder: Path) -> None:
        super().__init__(room, folder)
        self._buildah = ("buildah", *(f"--{key}={folder / key}" for key in ("root", "runroot")))
        self._plain = ("--tls-verify=false", f"--authfile={folder / 'auth.json'}")
        (folder / "auth.json").write_text("{}")

    def login(self, registry: str, user: str, password: str) -> None:
        """Log in at the registry, which must answer."""
        words = ("--username", user, "--password-stdin", registry)
        self.room.run(*self._buildah, "login", *self._plain, *words, entered=password)

    def pull(self, name: str) -> Pulled:
        """Pull; the digest is the chosen manifest's, also out of an index."""
        said = self._pull(*self._buildah, "pull", "--policy=always", *self._plain, name)
        inspect = (*self._buildah, "inspect", "--type=image", name)
        found = json.loads(self.room.run(*inspect).stdout)
        return Pulled(found["FromImageDigest"], f"sha256:{found['FromImageID']}", said)

    def run(self, name: str) -> str:
        """Run the image's command, which buildah does not do by itself."""
        made = self.room.run(*self._buildah, "from", "--pull-never", name).stdout.strip()
        try:
            found = json.loads(self.room.run(*self._buildah, "inspect", made).stdout)
            command = found["OCIv1"]["config"]["Cmd"]
            run = ("run", "--runtime=runc", made, "--", *command)
            return self.room.run(*self._buildah, *run).stdout.strip()
        finally:
            self.room.run(*self._buildah, "rm", made)
