"""containerd in the room: for ctr, for its CRI socket, and below dockerd."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from room import Daemon, Room


class Containerd:
    """One containerd with all its files in ``folder``; hosts.toml lies in ``hosts``/HOST:PORT."""

    def __init__(self, room: Room, folder: Path) -> None:
        self.room, self.folder = room, folder
        self.hosts = folder / "hosts"
        self.socket = folder / "containerd.sock"
        self._daemon: Daemon | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.hosts.mkdir(parents=True)
        file = self.folder / "config.toml"
        file.write_text(
            dedent(f"""\
                version = 2
                root = "{self.folder}/root"
                state = "{self.folder}/state"
                [grpc]
                  address = "{self.socket}"
                [plugins."io.containerd.internal.v1.opt"]
                  path = "{self.folder}/opt"
                [plugins."io.containerd.grpc.v1.cri".registry]
                  config_path = "{self.hosts}"
                """)
        )
        log = self.folder / "containerd.log"
        self._daemon = self.room.start("containerd", "--config", file, log=log)
        self._daemon.wait_until(self._is_ready)

    def stop(self) -> None:
        """End it."""
        if self._daemon:
            self._daemon.stop()

    def allow_plain_http(self, registry: str) -> None:
        """Write the hosts.toml of a registry that speaks plain http, if it has none."""
        if not (self.hosts / registry).exists():
            self.write_hosts(
                registry, f'server = "http://{registry}"\n[host."http://{registry}"]\n'
            )

    def write_hosts(self, registry: str, text: str) -> None:
        """Write the hosts.toml of a registry: where its images are asked for, and how."""
        folder = self.hosts / registry
        folder.mkdir(exist_ok=True)
        (folder / "hosts.toml").write_text(text)

    def _is_ready(self) -> bool:
        version = ("ctr", "--address", self.socket, "version")
        return self.room.run(*version, check=False).returncode == 0
