"""What users see of a cold start: a slow registry, several nodes, one srun."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import mishaps
import pytest

pytestmark = pytest.mark.integration

FRONT = Path(__file__).with_name("slow_front.py")
NAME = "registry:5002/mpi"
NODES = "bdw1,skx1,zen1"
SIZE = r"[0-9.]+ [MG]B"
SAID = re.compile(
    rf"hpcimg: (?P<node>\w+): (?:waiting for|fetching|converting|compressing|storing) {NAME}"
    rf"(?:: [0-9]+% of {SIZE}(?:, [0-9.]+ [kMG]B/s)?(?:, [0-9a-z ]+ left)?)?(?: \(.*\))?"
)
READY = re.compile(
    rf"hpcimg: (?P<node>\w+): {NAME} is ready after [0-9.]+ s: {SIZE}(?:, .* build)?"
)


@pytest.fixture(autouse=True)
def slow_registry(cluster):
    """A registry that gives a megabyte a second, and a store without images."""
    mishaps.forget_images(cluster)
    script = f"printf %s {shlex.quote(FRONT.read_text())} >/run/slow_front.py"
    start = "/opt/hpcimg/bin/python /run/slow_front.py 5002 registry:5000 1000000"
    mishaps.do(cluster, script)
    pid = mishaps.do(cluster, f"setsid {start} >/run/slow.log 2>&1 </dev/null & echo $!").strip()
    try:
        connect = "(exec 3<>/dev/tcp/registry/5002) 2>/dev/null"
        mishaps.do(cluster, f"timeout 30 bash -c 'until {connect}; do sleep 0.05; done'")
        with mishaps.settings(cluster, registries={"registry:5002": {"plain_http": True}}):
            yield
    finally:
        mishaps.do(cluster, f"kill {pid}")


def test_a_cold_start_says_little_and_a_warm_one_nothing(cluster):
    """Who waits says whom for, how far it is and when it is ready; the second srun is silent."""
    command = ("srun", "-w", NODES, "--container", NAME, "true")
    done = cluster.run(*command)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    said = [match for line in lines if (match := SAID.fullmatch(line))]
    ready = [match for line in lines if (match := READY.fullmatch(line))]
    assert len(said) + len(ready) == len(lines), done.stderr
    assert said[0]["node"] == "bdw1", "the first node of a step speaks first"
    assert any("builds it since" in match[0] for match in said)
    assert any(re.search("% of [0-9]", match[0]) for match in said)
    # Those who spoke, and nobody else; each once.
    assert sorted(match["node"] for match in ready) == sorted({match["node"] for match in said})
    again = cluster.run(*command)
    assert (again.returncode, again.stderr) == (0, "")


def test_a_users_warming_shows_the_nodes_progress(cluster):
    """The job's node tells how far it is, in a form that the user's bars and lines are made of."""
    done = cluster.run("hpcimg", "cache", "warm", NAME, "--nodes", "zen1")
    assert done.returncode == 0, done.stderr
    *lines, end = done.stderr.splitlines()
    assert end.startswith(f"hpcimg: {NAME} generic: fetched in ")
    assert any(re.search(rf"{NAME} generic: [0-9]+% of [0-9.]+ MB", line) for line in lines), lines
    assert not [line for line in lines if "{" in line], lines
