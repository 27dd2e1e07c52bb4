"""The verbs of the cluster in a folder: up, down, start, kill, status, exec, logs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cgroups
import entrance
import images
import kernel
import network
import node
import site_files
import tree
from fault import ClusterFault
from layout import NAMES, NODES, Layout, node_named
from screen import phase, say


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one command at a time change a folder; say so when it has to wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another command that holds {folder / 'lock'}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def up(layout: Layout, config: Path | None) -> None:
    """Build what is missing and start what is not running; idempotent."""
    with locked(layout.trees):
        layers = tree.build(layout)
    with locked(layout.cluster):
        running = [name for name in NAMES if node.find(layout, name)]
        if not running:
            shutil.rmtree(layout.shared, ignore_errors=True)
        elif _layers_in_use(layout) != layers:
            with phase("the project changed: switching all nodes off"):
                _stop(layout)
            running = []
        if not running:
            shutil.rmtree(layout.cluster / "nodes", ignore_errors=True)
            site_files.lay_out(layout, layers, config)
            (layout.cluster / "layers").write_text("".join(f"{p}\n" for p in layers))
        missing = [name for name in NAMES if name not in running]
        if missing:
            with phase(f"starting {' '.join(missing)}"):
                _start(layout, missing)
                _wait_until_idle(layout)
        images.ensure(layout, layers, lambda command: _run_as_root(layout, command))
    if not kernel.can_mount_images():
        say("this kernel lacks squashfs or loop devices: `mount: kernel` has no effect here")
    say("up: " + " ".join(NAMES))


def down(layout: Layout) -> None:
    """End every process, mount, link and control group of the cluster; idempotent."""
    with locked(layout.cluster):
        _stop(layout)
    say("down")


def start(layout: Layout, name: str) -> None:
    """Switch one node on again."""
    with locked(layout.cluster):
        if not node.find(layout, name):
            _start(layout, [name])
            _wait_until_idle(layout)


def kill(layout: Layout, name: str) -> None:
    """Pull one node's plug."""
    with locked(layout.cluster):
        node.kill(layout, name)


def status(layout: Layout) -> bool:
    """Print a line per node; whether all are up."""
    states = {name: bool(node.find(layout, name)) for name in NAMES}
    for one in NODES:
        sys.stdout.write(f"{one.name:6} {'up' if states[one.name] else 'down':5} {one.address}\n")
    return all(states.values())


def execute(layout: Layout, name: str, user: str, command: Sequence[str]) -> int:
    """Run a command on a node; its exit code."""
    init = node.find(layout, name)
    if not init:
        raise ClusterFault(
            f"node {name} is not up; `cluster up` or `cluster start {name}` starts it"
        )
    return entrance.run(layout.mark, name, init.pid, user, command)


def logs(layout: Layout, name: str) -> None:
    """Print what a node (or ``registry``) has logged."""
    host = "login" if name == "registry" else name
    places = ("var/log/registry.log",) if name == "registry" else _LOGS
    folder = layout.node(host)
    paths = [folder / "disk" / place for place in places]
    if name != "registry":
        paths.insert(0, folder / "console.log")
    for path in paths:
        if path.is_file():
            sys.stdout.write(f"==> {path.name} <==\n" if name != "registry" else "")
            sys.stdout.write(path.read_text("utf-8", "replace"))


_LOGS = (
    "var/log/syslog",
    "var/log/publish.log",
    "var/log/slurmctld.log",
    "var/log/slurmd.log",
)


def _layers_in_use(layout: Layout) -> tuple[Path, ...]:
    with contextlib.suppress(FileNotFoundError):
        return tuple(map(Path, (layout.cluster / "layers").read_text("utf-8").split("\n")[:-1]))
    return ()


def _start(layout: Layout, names: Sequence[str]) -> None:
    layers = _layers_in_use(layout)
    if not layers:
        raise ClusterFault("there is no cluster yet; `cluster up` makes one")
    for name in names:
        node.start(layout, node_named(name), layers)
    for name in names:
        node.wait_until_ready(layout, name)


def _stop(layout: Layout) -> None:
    for name in NAMES:
        node.kill(layout, name)
    switch = network.find_switch(layout)
    if switch:
        switch.kill()
    cgroups.remove(layout.mark)


def _wait_until_idle(layout: Layout, seconds: float = 60) -> None:
    """Return when Slurm's controller has heard from every running node."""
    wanted = {name for name in NAMES if name != "login" and node.find(layout, name)}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if wanted <= _usable_nodes(layout):
            return
        time.sleep(0.1)
    raise ClusterFault("Slurm's nodes did not become idle; `cluster logs login` tells more")


def _usable_nodes(layout: Layout) -> set[str]:
    done = _run_as_root(layout, ["sinfo", "-hN", "-p", "debug", "-o", "%N %t"])
    rows = [line.split() for line in done.output.splitlines()]
    return {row[0] for row in rows if len(row) == 2 and row[1] in {"idle", "mix", "alloc", "comp"}}


def _run_as_root(layout: Layout, command: Sequence[str]) -> images.Done:
    """Run a command on the login node in a child of its own; its code and all it said."""
    with tempfile.TemporaryFile("w+") as output:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                code = execute(layout, "login", "root", command)
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        output.seek(0)
        return images.Done(os.waitstatus_to_exitcode(status), output.read())
