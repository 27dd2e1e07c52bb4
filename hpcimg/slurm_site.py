"""What a doctor asks of Slurm: its configuration, where its files are, and a step on each node.

Beside `slurm`, the only file that knows Slurm's command lines; it must not know what is judged.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from hpcimg.errors import RuntimeFailure
from hpcimg.process import run

_SECONDS = 20.0
_PLACES = ("/etc/slurm", "/run/slurm/conf", "/etc/slurm-llnl", "/usr/local/etc")
"""Where slurm.conf is: by packages, fetched by a node without one, and by `make install`."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VERSION = re.compile(r"\d+\.\d+(?:\.\d+)?")
_ASKED = ("SRUN_CONTAINER", "SLURM_CONTAINER", "SLURM_HPCIMG_", "HPCIMG_CONTAINER_", "PYXIS_")
_MEMORY = 512


def config_folder(environment: Mapping[str, str]) -> Path | None:
    """Find the directory that slurm.conf is in; None where there is none."""
    named = environment.get("SLURM_CONF")
    places = [Path(named).parent] if named else map(Path, _PLACES)
    return next((place for place in places if (place / "slurm.conf").is_file()), None)


def plugstack_path(folder: Path) -> Path:
    """Name plugstack.conf, which slurm.conf may put elsewhere."""
    text = (folder / "slurm.conf").read_text(encoding="utf-8", errors="replace")
    found = re.findall(r"^\s*PlugStackConfig\s*=\s*(\S+)", text, re.IGNORECASE | re.MULTILINE)
    return Path(found[-1]) if found else folder / "plugstack.conf"


def included(pattern: str, folder: Path) -> list[Path]:
    """List the files that a line `include PATTERN` of a file in `folder` names."""
    # Unlike a path's own, it takes absolute names and leaves dot-files out, as Slurm does.
    return sorted(folder / name for name in glob(pattern, root_dir=folder))  # noqa: PTH207


def slurm_version() -> str:
    """Ask this machine's Slurm for its version, as 24.11.5; empty where there is none."""
    for name in ("slurmd", "scontrol", "srun"):
        program = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_PATH}")
        if program is None:
            continue
        try:
            said = run([program, "-V"], timeout=_SECONDS).stdout.decode(errors="replace")
        except RuntimeFailure:
            continue
        found = _VERSION.search(said)
        if found:
            return found[0]
    return ""


def config_text() -> str:
    """Ask the controller for its configuration; raises RuntimeFailure where it does not answer."""
    return run(["scontrol", "show", "config"], timeout=_SECONDS).stdout.decode(errors="replace")


@dataclass(frozen=True)
class NodeState:
    """A node's state, as `idle` or `down*`, and a partition of it, the default one if possible."""

    state: str
    partition: str


def node_states() -> dict[str, NodeState]:
    """Ask for all nodes that there are."""
    argv = ["sinfo", "--noheader", "--Node", "--format=%N %t %P"]
    return parse_states(run(argv, timeout=_SECONDS).stdout.decode(errors="replace"))


def parse_states(text: str) -> dict[str, NodeState]:
    """Parse lines of a node, its state and a partition; a star marks the default partition."""
    found: dict[str, NodeState] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and (words[0] not in found or words[2].endswith("*")):
            found[words[0]] = NodeState(words[1], words[2].rstrip("*"))
    return found


def each_node_argv(
    nodes: Sequence[str], words: Sequence[str], *, listed: str, partition: str, wait: int
) -> list[str]:
    """Make the command line that runs `words` once on each of these nodes.

    It ends when they are not free within `wait` seconds; one that fails does not end the others.
    """
    count = len(nodes)
    return [
        "srun",
        "--quiet",
        "--job-name=hpcimg-doctor",
        f"--nodes={count}",
        f"--ntasks={count}",
        "--ntasks-per-node=1",
        f"--nodelist={listed}",
        f"--partition={partition}",
        f"--immediate={wait}",
        f"--mem={_MEMORY}M",
        "--time=5",
        "--kill-on-bad-exit=0",
        "--chdir=/",
        *words,
    ]


def step_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Give what such an srun may know: it makes a job of its own, without any image."""
    in_job = "SLURM_JOB_ID" in environment
    return dict(_kept(environment, in_job=in_job))


def _kept(environment: Mapping[str, str], *, in_job: bool) -> Iterator[tuple[str, str]]:
    for name, value in environment.items():
        ours = name.startswith(_ASKED)
        jobs = in_job and name.startswith("SLURM_") and name != "SLURM_CONF"
        if not ours and not jobs:
            yield name, value
