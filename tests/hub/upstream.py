"""docker-registry in the room, with the posts' indexes as qnib/bench and qnib/cv-tf."""

from __future__ import annotations

import hashlib
import json
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
        """Push the images, and the two indexes from the YAML of their posts."""
        self.room.run("python3", TREE / "tests/hub/push_images.py", self.name, IMAGES)
        self.index = self._push("bench.yml")
        self._push("cv-tf.yml")
        for entry in self._document(f"qnib/bench@{self.index}")["manifests"]:
            words = ",".join(entry["platform"].get("features", ()))
            config = self._document(f"qnib/bench@{entry['digest']}")["config"]["digest"]
            self.builds[words] = Build(words, entry["digest"], config)

    def digest(self, name: str) -> str:
        """Say what a name of this registry stands for."""
        raw = self._raw(name).encode()
        return f"sha256:{hashlib.sha256(raw).hexdigest()}"

    def tag(self, build: Build, name: str) -> None:
        """Let a name of this registry stand for a build."""
        pair = (f"docker://{self.name}/qnib/bench@{build.digest}", f"docker://{self.name}/{name}")
        plain = ("--src-tls-verify=false", "--dest-tls-verify=false", "--preserve-digests")
        self.room.run("skopeo", "--insecure-policy", "copy", *plain, *pair)

    def _push(self, recipe: str) -> str:
        """Push an index with the project's own command; give its digest."""
        settings = self.room.folder / "settings.yaml"
        site = {"default_registry": self.name, "registries": {self.name: {"plain_http": True}}}
        settings.write_text(
            json.dumps({**site, "aliases": {"docker.io/qnib": f"{self.name}/qnib"}})
        )
        told = [f"PYTHONPATH={TREE}", f"HPCIMG_SETTINGS={settings}"]
        push = ("-m", "hpcimg", "index", "push", IMAGES / recipe)
        return self.room.run("env", *told, sys.executable, *push).stdout.strip()

    def _document(self, name: str) -> dict:
        return json.loads(self._raw(name))

    def _raw(self, name: str) -> str:
        inspect = ("skopeo", "inspect", "--tls-verify=false", "--raw")
        return self.room.run(*inspect, f"docker://{self.name}/{name}").stdout


def lacking_programs() -> list[str]:
    """List the programs that this machine has not where the room's are looked for."""
    folders = [Path(name) for name in ("/usr/sbin", "/usr/bin")]
    return [one for one in PROGRAMS if not any((folder / one).exists() for folder in folders)]


PROGRAMS = (
    *("docker", "dockerd", "containerd", "ctr", "runc", "podman", "buildah", "skopeo"),
    *("docker-registry", "busybox", "ip", "nsenter"),
)
