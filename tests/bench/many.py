"""The bench's group "many": a cold start of many at once, counted in the registry's own log.

One run of each: a cold start happens once. Knows how to measure and what was wanted; who runs it
and prints it is bench.py.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import table

HERE = Path(__file__).resolve().parent
CLUSTER = HERE.parent / "cluster" / "cluster"
CLIENTS = (HERE / "clients.sh").read_text("utf-8")
NODES = ("bdw1", "skx1", "zen1", "gpu1")
REGISTRY = "registry:5000"
BUILDS = ("qnib/plain-featuretest", ("generic", "cpu-skylake", "cpu-broadwell"))
ONE = f"{BUILDS[0]}:generic"
STORE = "/srv/hpcimg/store"
LOG = "/var/log/registry.log"
TASKS = ("srun", "--quiet", "-N4", "-O")

Results = dict[str, dict[str, list[float]]]


class ManyFault(Exception):
    """Something could not be measured, and why."""


def measure(tasks: int, clients: int) -> Results:
    """All series; of the `clients`, a multiple of 16, a quarter are in namespaces of their own."""
    start = (*TASKS, f"-n{tasks}")
    layers = {tag: _layers(f"{BUILDS[0]}:{tag}") for tag in BUILDS[1]}
    ours = _counted(lambda: _on(*start, "--container", ONE, "true"))
    theirs = _counted(lambda: _on(*start, *_apptainer(ONE), "true"))
    builds = _counted(lambda: _on(*start, "--container", "qnib/bench", "true"))
    converted = _entries()
    name = f"{BUILDS[0]}@{json.loads(_on('hpcimg', 'inspect', ONE, '--json'))['digest']}"
    alone = _counted(lambda: _on("hpcimg", "get", name, user="hpcimg"))
    many = _counted(lambda: _start_clients(name, clients))
    generic = layers["generic"]
    own = [found[-1] for found in layers.values()]
    return {
        "many-tasks": _series(ours, _most(ours, generic)),
        "many-tasks-apptainer": _series(theirs, _most(theirs, generic)),
        "many-builds": _series(builds, _most(builds, own)),
        "many-builds-shared": _series(builds, _most(builds, generic[:1])),
        "many-converted": _series(builds, converted / len(own)),
        "many-client": _series(alone, sum(alone[1].values())),
        "many-clients": _series(many, sum(many[1].values())),
        "many-clients-layers": _series(many, _most(many, generic)),
    }


def rows(results: Results) -> list[tuple[str, ...]]:
    """How long each took, and how often the registry was asked."""
    found: list[tuple[str, ...]] = [("many at once, nothing in the store", "seconds", "requests")]
    for title, name in (
        ("many tasks on 4 nodes, srun --container: of each layer", "many-tasks"),
        (
            "many tasks on 4 nodes, srun apptainer exec docker://: of each layer",
            "many-tasks-apptainer",
        ),
        ("many tasks on 4 nodes, three builds of one name: of each build's layer", "many-builds"),
        ("the same: of the layer that all three share", "many-builds-shared"),
        ("one client, named by digest: of all", "many-client"),
        ("many clients, one killed: of all", "many-clients"),
        ("many clients, one killed: of each layer", "many-clients-layers"),
    ):
        seconds = f"{table.median(results, name):.1f}"
        found.append((title, seconds, f"{table.median(results, name, 'rates'):.0f}"))
    return found


def targets(results: Results) -> list[table.Target]:
    """What issue 4 wants of a cold start of many."""
    if "many-client" not in results:
        return []
    alone = table.median(results, "many-client", "rates")
    ratio = table.median(results, "many-clients", "rates") / alone
    return [
        _once("cold tasks: fetches of each layer", results, "many-tasks"),
        _once("cold tasks, three builds: fetches of each build's layer", results, "many-builds"),
        _once("cold tasks: fetches of the layer they share", results, "many-builds-shared"),
        _once("cold tasks, three builds: conversions of each", results, "many-converted"),
        _once("cold clients: fetches of each layer", results, "many-clients-layers"),
        table.Target("cold clients: times the requests of one", "1", round(ratio, 3), ratio == 1),
    ]


def _once(what: str, results: Results, name: str) -> table.Target:
    value = table.median(results, name, "rates")
    return table.Target(what, "1", value, value == 1)


def _series(counted: tuple[float, Counter[str]], rate: float) -> dict[str, list[float]]:
    return {"seconds": [round(counted[0], 3)], "rates": [float(rate)]}


def _most(counted: tuple[float, Counter[str]], layers: list[str]) -> int:
    """How often the most wanted of these layers was asked for; 0 when one of them never was."""
    found = [sum(n for path, n in counted[1].items() if path.endswith(one)) for one in layers]
    return max(found) if min(found) else 0


def _counted(act: Callable[[], object]) -> tuple[float, Counter[str]]:
    """Empty the store, do it, and give the seconds and the requests by path."""
    _on("bash", "-c", f"cd {STORE}; rm -rf entries/* locks/* blobs documents jobs", user="root")
    before = int(_on("bash", "-c", f"wc -l <{LOG}", user="root"))
    start = time.perf_counter()
    act()
    seconds = time.perf_counter() - start
    # The registry's own words: "GET /v2/NAME HTTP/1.1".
    lines = _on("bash", "-c", f"tail -n +{before + 1} {LOG}", user="root").split('"GET ')[1:]
    return seconds, Counter(line.split()[0] for line in lines)


def _entries() -> int:
    return len(_on("bash", "-c", f"ls -d {STORE}/entries/*/*", user="root").split())


def _layers(name: str) -> list[str]:
    raw = _on("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{REGISTRY}/{name}")
    return [one["digest"] for one in json.loads(raw)["layers"]]


def _apptainer(name: str) -> list[str]:
    """What a user writes; without its cache, in which tasks that start at once break each other."""
    options = ("--silent", "exec", "--userns", "--disable-cache", "--no-https")
    return ["apptainer", *options, f"docker://{REGISTRY}/{name}"]


def _start_clients(name: str, count: int) -> None:
    """Start them on all nodes, and kill one that does not build while another does."""
    each = count // len(NODES)
    words = ["bash", "-c", CLIENTS, "_", name, str(each - each // 4), str(each // 4)]
    groups = {node: _start(node, words) for node in NODES}
    pids = {node: group.stdout.readline().split() for node, group in groups.items() if group.stdout}
    locks = f"{STORE}/locks/[0-9a-f][0-9a-f]*"  # those of entries, by their digests
    loop = f"until grep -qs host {locks}; do sleep 0.02; done; cat {locks}"
    builder = json.loads(_on("bash", "-c", loop, user="root"))["host"]
    other = next(node for node in NODES if node != builder)
    _on("kill", "-9", pids[other][-1], node=other, user="root")
    codes = [code for group in groups.values() for code in group.communicate()[0].split()]
    if sorted(codes) != ["0"] * (count - 1) + ["137"]:
        raise ManyFault(f"the clients ended with {Counter(codes)}")


def _start(node: str, words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [CLUSTER, "exec", "-n", node, "-u", "root", "--", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )


def _on(*words: str, node: str = "login", user: str = "alice") -> str:
    done = subprocess.run(
        [CLUSTER, "exec", "-n", node, "-u", user, "--", *words],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise ManyFault(f"{' '.join(words)[:60]}: {done.stderr.strip()[-1000:]}")
    return done.stdout
