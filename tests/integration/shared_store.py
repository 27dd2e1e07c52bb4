"""A store of one test on the file system that all nodes see, and the processes that ask it."""

from __future__ import annotations

import json
import secrets
import subprocess
from pathlib import Path

import mishaps
from conftest import COMMAND, Cluster

ASK = (Path(__file__).parent / "ask_store.py").read_text()
IMAGE = "qnib/plain-featuretest:generic"
OTHER = "qnib/plain-featuretest:cpu-broadwell"


class Asking:
    """One process on a node that asks for an image; its lines are events to wait for."""

    def __init__(self, node: str, options: dict[str, object]) -> None:
        self.node = node
        self.process = subprocess.Popen(
            [
                *(str(COMMAND), "exec", "-n", node, "-u", "hpcimg", "--"),
                *(mishaps.PYTHON, "-I", "-c", ASK, json.dumps(options)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.pid = self.process.stdout.readline().strip()
        self.heard: list[str] = []

    def hear(self, word: str) -> None:
        """Read until it says this word."""
        for line in iter(self.process.stdout.readline, ""):
            self.heard.append(line.strip())
            if line.strip() == word:
                return
        raise AssertionError(f"it never said {word!r}: {self.heard}")

    def end(self) -> list[str]:
        """Wait until it ends; all lines that it said."""
        self.heard += self.process.communicate(timeout=120)[0].splitlines()
        return self.heard

    def image(self) -> str:
        """Wait until it has the image; its path."""
        said = self.end()
        assert self.process.returncode == 0, said
        return said[-1]

    def error(self) -> str:
        """Wait until it fails; the error's message."""
        said = self.end()
        assert self.process.returncode == 1, said
        assert said[-1].startswith("error: "), said
        return said[-1].removeprefix("error: ")


class SharedStore:
    """The store, which node `home` sees; remove it when the test is over."""

    def __init__(self, cluster: Cluster, root: str = "", home: str = "login") -> None:
        self.cluster = cluster
        self.home = home
        self.root = root or f"/srv/hpcimg/test-{secrets.token_hex(4)}/store"
        self.asking: list[Asking] = []

    def ask(self, node: str, name: str = IMAGE, **options: object) -> Asking:
        """Ask for an image on a node; for the options see ask_store.py."""
        asking = Asking(node, {"root": self.root, "name": name, **options})
        self.asking.append(asking)
        return asking

    def kill(self, asking: Asking) -> None:
        """Kill -9 of that very process."""
        mishaps.do(self.cluster, f"kill -9 {asking.pid}", asking.node)
        asking.process.wait(60)

    def run(self, command: str, node: str = "", user: str = "hpcimg"):
        """Run a shell command on a node; STORE is this store's path."""
        return self.cluster.shell(f"STORE={self.root}; {command}", node or self.home, user)

    def temporaries(self) -> list[str]:
        """List the workspaces in the store, by their node."""
        left = self.run('ls "$STORE/tmp"').stdout.split()
        return [name.partition(".")[0] for name in left]

    def check(self) -> int:
        """Check that each entry is whole, byte by byte; how many there are."""
        script = """
import hashlib, json, pathlib, sys
for record in pathlib.Path(sys.argv[1]).glob("entries/*/*/record.json"):
    image = record.with_name("image.sif").read_bytes()
    known = json.loads(record.read_text())
    assert known["sha256"] == hashlib.sha256(image).hexdigest(), record
    print(record)
"""
        done = self.cluster.run("python3", "-c", script, self.root, node=self.home, user="hpcimg")
        assert done.returncode == 0, done.stderr
        return len(done.stdout.splitlines())

    def close(self) -> None:
        """End what still asks and remove the store."""
        for asking in self.asking:
            asking.process.kill()
            asking.process.communicate()
        self.run('rm -rf "${STORE%/store}"')
