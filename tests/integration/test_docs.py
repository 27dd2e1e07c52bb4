"""Every command that the README and docs/ show is run here, and prints what they show."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from conftest import COMMAND, Cluster
from console import Command, read_commands
from newcluster import NODES as NEW_NODES
from newcluster import make_new_cluster

pytestmark = pytest.mark.integration

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
COMMANDS = [command for page in PAGES for command in read_commands(page)]
NODES = {"bdw1", "skx1", "zen1", "gpu1"}


@pytest.fixture(scope="module")
def ready(cluster: Cluster) -> Cluster:
    """The cluster, with the examples in alice's home as a checkout would have them."""
    pack = subprocess.run(
        ["tar", "-C", CHECKOUT, "-c", "examples"], check=True, capture_output=True
    ).stdout
    unpack = "rm -rf examples && tar -x --no-same-owner"
    subprocess.run([COMMAND, "exec", "--", "sh", "-c", unpack], input=pack, check=True)
    return cluster


@pytest.fixture(scope="module")
def new_cluster(cluster: Cluster, tmp_path_factory):
    """A second cluster on which nobody has installed hpcimg."""
    new = Cluster(str(tmp_path_factory.mktemp("new-cluster")))
    try:
        make_new_cluster(new, CHECKOUT)
        yield new
    finally:
        new.verb("down")


def check(command: Command, done: subprocess.CompletedProcess[str]) -> None:
    """Compare how a command ended and what it said with the page."""
    output = done.stdout + done.stderr
    assert (done.returncode != 0) == ("fails" in command.words), f"{command}: {output}"
    assert command.agrees(output), f"{command}: {command.text}\nprinted:\n{output}"


def those(place: str) -> list[Command]:
    """The commands of one place; an empty place is the running cluster."""
    places = {"checkout", "new-cluster"}
    return [c for c in COMMANDS if place in c.words or (not place and not places & {*c.words})]


@pytest.mark.parametrize("command", those(""), ids=str)
def test_command_does_what_the_page_says(ready: Cluster, command: Command) -> None:
    """A user's command prints on the cluster what the page shows."""
    node = next(iter(NODES & {*command.words}), "login")
    check(command, ready.shell(f"exec 2>&1; {command.text}", node=node, user=command.user))


@pytest.mark.parametrize("command", those("checkout"), ids=str)
def test_command_on_this_machine(cluster: Cluster, command: Command) -> None:
    """A command that is typed in a checkout works in this one."""
    done = subprocess.run(
        ["bash", "-c", f"exec 2>&1; {command.text}"],
        cwd=CHECKOUT,
        env=dict(os.environ),
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    check(command, done)


def test_installation_on_a_new_cluster(new_cluster: Cluster) -> None:
    """The pages' installation, command by command on every node, ends with a job that runs."""
    commands = those("new-cluster")
    assert len(commands) > 5
    for command in commands:
        where = "cd /root/hpcimg; " if command.user == "root" else ""
        text = f"exec 2>&1; {where}{command.text}"
        # One after the other: /etc/hpcimg is one folder here, and two `install` at once collide.
        for node in ["login"] if "login" in command.words else NEW_NODES:
            check(command, new_cluster.shell(text, node=node, user=command.user, timeout=300))


def test_every_page_is_read() -> None:
    """The reader finds the blocks: a page that shows no command any more is noticed."""
    pages = {command.page.name for command in COMMANDS}
    assert {"README.md", "tutorial.md", "user.md", "site.md"} <= pages
