"""skopeo, which copies an image into a folder and runs nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from client import Client, Pulled
from room import Room


class Skopeo(Client):
    """skopeo; what it copied lies in ``folder``/image."""

    can_run = False

    def __init__(self, room: Room, folder: Path) -> None:
        super().__init__(room, folder)
        self._authfile = folder / "auth.json"

    def login(self, registry: str, user: str, password: str) -> None:
        """Log in at the registry, which must answer."""
        how = ("--tls-verify=false", f"--authfile={self._authfile}")
        words = ("--username", user, "--password-stdin", registry)
        self.room.run("skopeo", "login", *how, *words, entered=password)

    def pull(self, name: str) -> Pulled:
        """Copy; the digest is the chosen manifest's, also out of an index."""
        image = self.folder / "image"
        shutil.rmtree(image, ignore_errors=True)
        known = [f"--src-authfile={self._authfile}"] if self._authfile.exists() else []
        how = ("--src-tls-verify=false", *known, f"docker://{name}", f"dir:{image}")
        said = self._pull("skopeo", "--insecure-policy", "copy", *how)
        manifest = (image / "manifest.json").read_bytes()
        config = json.loads(manifest)["config"]["digest"]
        return Pulled(f"sha256:{hashlib.sha256(manifest).hexdigest()}", config, said)
