"""What `hpcimg doctor` says of the cluster, and ways to break it that only a doctor looks for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from conftest import Cluster
from mishaps import do

PLUGSTACK = "/etc/slurm/plugstack.conf"
PLUGIN = "/usr/local/lib/hpcimg/hpcimg.so"
HEALTHY = 0
SICK = 73


@dataclass(frozen=True)
class Said:
    """One run: its exit code, and the findings as programs read them."""

    code: int
    checks: list[dict[str, Any]]

    def find(self, check: str, state: str, text: str) -> dict[str, Any]:
        """The one finding of this check and state whose sentence has `text`."""
        found = [
            one
            for one in self.checks
            if (one["check"], one["state"]) == (check, state) and text in one["what"]
        ]
        bad = [one for one in self.checks if one["state"] != "ok"]
        assert len(found) == 1, f"{check} {state} {text!r} is not among {bad}"
        return found[0]

    def failed(self) -> set[str]:
        """The checks that failed."""
        return {one["check"] for one in self.checks if one["state"] == "fail"}


def examine(cluster: Cluster, *words: str, node: str = "login", user: str = "root") -> Said:
    """Run the doctor on a machine."""
    done = cluster.run("hpcimg", "doctor", "--json", *words, node=node, user=user)
    assert done.returncode in {HEALTHY, SICK}, done.stderr
    return Said(done.returncode, json.loads(done.stdout)["checks"])


@contextmanager
def spoiled(cluster: Cluster, node: str, spoil: str, mend: str) -> Iterator[None]:
    """A node on which a script of root's has changed something, and another one mends it."""
    do(cluster, spoil, node)
    try:
        yield
    finally:
        do(cluster, mend, node)


def hidden_by(cluster: Cluster, node: str, path: str, text: str):
    """A node that has other text in a file, also where all nodes share that file."""
    copy = f"/run/spoiled-{path.strip('/').replace('/', '-')}"
    write = f"cat >{copy} <<'END'\n{text}\nEND\nmount --bind {copy} {path}"
    return spoiled(cluster, node, write, f"umount {path}; rm {copy}")


def other_plugin(cluster: Cluster, node: str, path: str, version: str):
    """A node with a plugin that was built with the headers of another Slurm."""
    source = (
        "#include <slurm/slurm.h>\n#undef SLURM_VERSION_NUMBER\n"
        f"#define SLURM_VERSION_NUMBER SLURM_VERSION_NUM({version})\n"
        "#include <slurm/spank.h>\nSPANK_PLUGIN(hpcimg, 1)\n"
    )
    build = f"printf '%s' '{source}' | gcc -shared -fPIC -x c -o {path}.new -; chmod 755 {path}.new"
    swap = f"mv {path} {path}.away; mv {path}.new {path}"
    return spoiled(cluster, node, f"{build}; {swap}", f"mv {path}.away {path}")
