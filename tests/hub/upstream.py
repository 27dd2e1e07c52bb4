"""docker-registry in the room, with the announcement's index of four images as qnib/bench."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from room import Daemon, Room

TREE = Path(__file__).resolve().parents[2]
IMAGES = TREE / "tests/cluster/images"
ALICE = "alice:$2b$04$0SMMj0s1.RdKLiEA03OqIOanULONgnZ/.D4aLXzNNgSqoMsfh9z4W\n"
"""A htpasswd line for the password `hush`, with the cheapest cost."""


@dataclass(frozen=True)
class Build:
    """One image of the index: what it was made for, its manifest and its config by digest."""

    words: str
    digest: str
    config: str

    @property
    def line(self) -> str:
        """What its program prints."""
        made_for = f"optimized for: {self.words}" if self.words else NOT_OPTIMIZED
        return f">> This container is {made_for}"


NOT_OPTIMIZED = "not optimized for a specific microarchitecture"


class Upstream:
    """The registry; ``port`` names another one over the same content, as with a login."""

    def __init__(self, room: Room, port: int, *, login: str = "") -> None:
        self.room, self.port, self.login = room, port, login
        self.name = f"127.0.0.1:{port}"
        self.index = ""
        self.builds: dict[str, Build] = {}
        self._daemon: Daemon | None = None

    def start(self) -> Upstream:
        """Start it and wait until it answers."""
        config: dict[str, object] = {
            "version": "0.1",
            "log": {"accesslog": {"disabled": False}, "level": "info"},
            "storage": {"filesystem": {"rootdirectory": str(self.room.folder / "storage")}},
            "http": {"addr": self.name},
        }
        if self.login:
            users = self.room.folder / "htpasswd"
            users.write_text(self.login)
            config["auth"] = {"htpasswd": {"realm": "tests", "path": str(users)}}
        file = self.room.folder / f"registry-{self.port}.json"
        file.write_text(json.dumps(config))
        log = file.with_suffix(".log")
        self._daemon = self.room.start("docker-registry", "serve", file, log=log)
        self._daemon.wait_until(lambda: self.room.is_answering(self.port))
        return self

    def stop(self) -> None:
        """End it; its content stays."""
        if self._daemon:
            self._daemon.stop()

    def fill(self) -> None:
        """Push the four images, and their index from the announcement's YAML."""
        room = self.room
        room.run("python3", TREE / "tests/hub/push_bench.py", self.name, IMAGES)
        recipe, settings = room.folder / "bench.yml", room.folder / "settings.yaml"
        recipe.write_text((IMAGES / "bench.yml").read_text().replace("docker.io", self.name))
        settings.write_text(f'registries:\n  "{self.name}": {{plain_http: true}}\n')
        told = [f"PYTHONPATH={TREE}", f"HPCIMG_SETTINGS={settings}"]
        hpcimg = ["env", *told, sys.executable, "-m", "hpcimg"]
        self.index = room.run(*hpcimg, "index", "push", recipe).stdout.strip()
        for entry in self._document(self.index)["manifests"]:
            words = ",".join(entry["platform"].get("features", ()))
            config = self._document(entry["digest"])["config"]["digest"]
            self.builds[words] = Build(words, entry["digest"], config)

    def tag(self, build: Build, name: str) -> None:
        """Let a name of this registry stand for a build."""
        pair = (f"docker://{self.name}/qnib/bench@{build.digest}", f"docker://{self.name}/{name}")
        plain = ("--src-tls-verify=false", "--dest-tls-verify=false", "--preserve-digests")
        self.room.run("skopeo", "--insecure-policy", "copy", *plain, *pair)

    def _document(self, digest: str) -> dict:
        name = f"docker://{self.name}/qnib/bench@{digest}"
        return json.loads(
            self.room.run("skopeo", "inspect", "--tls-verify=false", "--raw", name).stdout
        )


def is_installed() -> bool:
    """Tell whether the tests run as root on a machine with all the programs (tests/prepare)."""
    folders = [Path(name) for name in ("/usr/sbin", "/usr/bin")]
    return os.geteuid() == 0 and all(
        any((folder / program).exists() for folder in folders) for program in PROGRAMS
    )


PROGRAMS = (
    *("docker", "dockerd", "containerd", "ctr", "runc", "podman", "buildah", "skopeo"),
    *("docker-registry", "busybox", "ip", "nsenter"),
)
