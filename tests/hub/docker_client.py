"""docker with a dockerd and a containerd of its own."""

from __future__ import annotations

import re
from pathlib import Path

from client import Client, Pulled
from containerd_daemon import Containerd
from room import Daemon, Room


class Docker(Client):
    """docker; loopback addresses may speak plain http without a setting."""

    def __init__(self, room: Room, folder: Path) -> None:
        super().__init__(room, folder)
        self._containerd = Containerd(room, folder / "containerd")
        self._daemon: Daemon | None = None
        self._docker = ("docker", "--config", folder, "--host", f"unix://{folder}/docker.sock")

    def start(self) -> None:
        """Start dockerd, which makes no bridge and no rule of a firewall."""
        self._containerd.start()
        folder = self.folder
        self._daemon = self.room.start(
            *("dockerd", "--host", f"unix://{folder}/docker.sock"),
            *("--data-root", folder / "data", "--exec-root", folder / "exec"),
            *("--pidfile", folder / "docker.pid", "--containerd", self._containerd.socket),
            *("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"),
            log=folder / "dockerd.log",
        )
        is_ready = (*self._docker, "version")
        self._daemon.wait_until(lambda: self.room.run(*is_ready, check=False).returncode == 0)

    def stop(self) -> None:
        """End both daemons."""
        if self._daemon:
            self._daemon.stop()
        self._containerd.stop()

    def login(self, registry: str, user: str, password: str) -> None:
        """Log in at the registry, which must answer."""
        words = ("login", "--username", user, "--password-stdin", registry)
        self.room.run(*self._docker, *words, entered=password)

    def pull(self, name: str) -> Pulled:
        """Pull; the digest is the one that docker prints."""
        said = self._pull(*self._docker, "pull", name)
        inspect = (*self._docker, "image", "inspect", "--format", "{{.Id}}", name)
        digest = re.search(r"^Digest: (\S+)$", said, re.MULTILINE)[1]
        return Pulled(digest, self.room.run(*inspect).stdout.strip(), said)

    def run(self, name: str) -> str:
        """Run with the room's network."""
        run = (*self._docker, "run", "--rm", "--pull", "never", "--network", "host", name)
        return self.room.run(*run).stdout.strip()
