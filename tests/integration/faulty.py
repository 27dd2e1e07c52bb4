"""The registry front of tests/cluster/front.py on the login node, as registry:5002."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mishaps
from conftest import Cluster

FRONT = (Path(__file__).resolve().parents[1] / "cluster" / "front.py").read_text("utf-8")
PORT = 5002
REGISTRY = f"registry:{PORT}"
PLACE = "/run/front"


class Front:
    """The front as a test sees it: what it shall do, and what it was asked."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def obey(self, *rules: dict[str, object]) -> None:
        """Follow these rules from now on, and forget what was asked."""
        text = shlex.quote(json.dumps(rules))
        mishaps.do(
            self.cluster,
            f"cd {PLACE}; rm -f release; : >log; echo {text} >new; mv new rules.json",
        )

    def events(self) -> list[dict[str, object]]:
        """List the log's lines, in order."""
        return [
            json.loads(line) for line in mishaps.do(self.cluster, f"cat {PLACE}/log").splitlines()
        ]

    def requests(self, part: str = "") -> list[dict[str, object]]:
        """List the requests whose path holds `part`, in order."""
        return [one for one in self.events() if "method" in one and part in str(one["path"])]

    def counts(self, part: str = "/blobs/") -> Counter[str]:
        """Count the requests of each path that holds `part`."""
        return Counter(str(one["path"]).rpartition("/")[2] for one in self.requests(part))

    def wait_until_held(self, times: int = 1) -> None:
        """Wait until so many answers are held back."""
        loop = f"until [ $(grep -c held {PLACE}/log) -ge {times} ]; do sleep 0.02; done"
        mishaps.do(self.cluster, f"timeout 60 bash -c '{loop}'")

    def release(self) -> None:
        """Let what is held back go on."""
        mishaps.do(self.cluster, f": >{PLACE}/release")


@contextmanager
def running_front(cluster: Cluster, **changes: object) -> Iterator[Front]:
    """Run the front and list it in the site's settings, which may have other changes too."""
    start = (
        f"setsid python3 {PLACE}/front.py {PORT} registry:5000 {PLACE} >{PLACE}/out 2>&1 </dev/null"
    )
    listens = f"until (: >/dev/tcp/registry/{PORT}) 2>/dev/null; do sleep 0.02; done"
    pid = mishaps.do(
        cluster,
        f"mkdir -p {PLACE}; cd {PLACE}; : >log; echo [] >rules.json\n"
        f"printf %s {shlex.quote(FRONT)} >front.py\n{start} & echo $!\n"
        f"timeout 10 bash -c '{listens}'",
    ).strip()
    try:
        registries = {REGISTRY: {"plain_http": True}}
        with mishaps.settings(cluster, registries=registries, **changes):
            yield Front(cluster)
    finally:
        mishaps.do(cluster, f"kill {pid}; rm -r {PLACE}")
