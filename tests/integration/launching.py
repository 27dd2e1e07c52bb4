"""One allocation on one node, in which the launch tests start steps: bare, and in a container."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import COMMAND, Cluster

IMAGE = "qnib/bench"
NODE = "bdw1"

needs_kernel_mount = pytest.mark.skipif(
    "squashfs" not in Path("/proc/filesystems").read_text("ascii")
    or not Path("/dev/loop-control").exists(),
    reason="this machine's kernel cannot mount images, and `cluster up` says so",
)

# The newest Slurm that Debian has is in its unstable suite, and built without PMIx.
_IS_NEWEST = os.environ.get("HPCIMG_SUITE") == "sid"
newest_only = pytest.mark.skipif(not _IS_NEWEST, reason="only the newest Slurm has this")
needs_pmix = pytest.mark.skipif(_IS_NEWEST, reason="Debian's Slurm 26.05 has no PMIx")

# Linked statically, so that it runs the same on the host and in any image.
_PROBE = Path(__file__).with_name("probe.c")


@dataclass(frozen=True)
class Ended:
    """How a step ended."""

    code: int
    output: str
    errors: str


@dataclass(frozen=True)
class Allocation:
    """A job that sleeps; its steps start at once."""

    cluster: Cluster
    job: str
    node: str = NODE

    def command(self, *words: str, image: str | None = None) -> list[str]:
        """The words of a step: options, then the command."""
        asked = [f"--container-image={image}"] if image else []
        # One step of this job at a time may hold the processors; these do not need any.
        return ["srun", f"--jobid={self.job}", "--overlap", "--overcommit", *asked, *words]

    def step(
        self, *words: str, image: str | None = IMAGE, environment: str = "", give: str = ""
    ) -> Ended:
        """Run one step; ``environment`` is shell text that goes before it, ``give`` its input."""
        line = shlex.join(self.command(*words, image=image))
        feed = f"printf %s {shlex.quote(give)} | " if give else ""
        done = self.cluster.shell(f"cd ~; {environment}\n{feed}{line}")
        return Ended(done.returncode, done.stdout, done.stderr)

    def both(self, *words: str, environment: str = "", give: str = "") -> tuple[Ended, Ended]:
        """The same step without and with an image."""
        return (
            self.step(*words, image=None, environment=environment, give=give),
            self.step(*words, environment=environment, give=give),
        )

    def start(self, *words: str, image: str | None = IMAGE) -> subprocess.Popen[str]:
        """Start a step and return while it runs."""
        return subprocess.Popen(
            [str(COMMAND), "exec", "--", *self.command(*words, image=image)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def on_node(self, script: str) -> str:
        """What a shell script says as root on the job's node."""
        return self.cluster.shell(script, node=self.node, user="root").stdout


def build_probe(cluster: Cluster) -> None:
    """Leave the probe in alice's home, which every step sees."""
    source = shlex.quote(_PROBE.read_text("utf-8"))
    made = cluster.shell(f"printf %s {source} | gcc -static -O1 -x c -o ~/probe -")
    assert made.returncode == 0, made.stderr


def allocate(cluster: Cluster, *words: str) -> Iterator[Allocation]:
    """Hold a job on the node for the tests of a module."""
    # A node that has not told slurmctld that it is up may miss its first prolog.
    ready = (
        f'for i in $(seq 300); do [ "$(sinfo -hn {NODE} -o %T)" = idle ] && exit; sleep 0.1; done'
    )
    cluster.shell(ready)
    granted = cluster.run("salloc", "--no-shell", "-w", NODE, "--mem=2000", *words)
    assert "Granted job allocation" in granted.stderr, granted.stderr
    job = granted.stderr.split("Granted job allocation ")[1].split()[0]
    try:
        yield Allocation(cluster, job)
    finally:
        cluster.run("scancel", job)
