"""The cold start: from a registry to a file that can be run, in four ways that take turns.

Its own figures, rows and targets; bench.py runs it as one of its groups.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import table

HERE = Path(__file__).resolve().parent
MAKE_IMAGES = "/usr/local/lib/cluster/images/make_images.py"
NODE = "bdw1"
SLOW_RUNS, RUNS = 3, 5
"""`apptainer pull` takes minutes."""
KINDS = {"big": "1.1 GB, two layers", "small": "100,000 small files"}
WAYS = {
    "ours": "hpcimg run, empty store",
    "pull": "apptainer pull",
    "build": "apptainer build, zstd 3",
    "pipe": "a bare pipe: igzip | sqfstar",
}
Results = Mapping[str, Mapping[str, Sequence[float]]]
# (times faster than pull, times faster than build, most of the pipe's time)
WANTED = {"big": (12.0, 2.2, 1.3), "small": (3.0, 1.5, None)}
ROOM = 1.2
"""What may be taken of memory and disk, in the pipe's."""


def measure(run: Callable[[list[str], str], str], runs: int) -> Results:
    """Have the images, then measure; `run` runs a command as root on a node, and gives its output.

    A run takes as long as its ways need, whatever else is wanted of the benchmarks.
    """
    script = (HERE / "cold_images.py").read_text("utf-8")
    names = run(["python3", "-c", script, MAKE_IMAGES, "registry:5000"], "login").strip()
    rounds = (HERE / "cold_rounds.py").read_text("utf-8")
    counts = [str(min(runs, RUNS)), str(min(runs, SLOW_RUNS))]
    found: Results = json.loads(run(["python3", "-c", rounds, names, *counts], NODE))
    return found


def rows(results: Results) -> list[tuple[str, ...]]:
    """One row for each image and way."""
    head = ("cold start", "wall s", "CPU s", "peak memory MiB", "peak disk MiB", "result MiB")
    found: list[tuple[str, ...]] = [head]
    for kind, title in KINDS.items():
        for way, name in WAYS.items():
            values = [
                table.median(results, f"cold-{kind}-{way}", what)
                for what in ("seconds", "cpu", "memory", "disk", "result")
            ]
            numbers = (f"{value:.1f}" if value < 100 else f"{value:.0f}" for value in values)
            found.append((f"{title}: {name}", *numbers))
    return found


def targets(results: Results) -> list[table.Target]:
    """What issue 4 wants of these numbers."""
    found: list[table.Target] = []
    if f"cold-{next(iter(KINDS))}-ours" not in results:
        return found
    for kind, (than_pull, than_build, of_pipe) in WANTED.items():
        seconds, memory, disk = (
            {way: table.median(results, f"cold-{kind}-{way}", what) for way in WAYS}
            for what in ("seconds", "memory", "disk")
        )
        ours = seconds["ours"]
        for other, limit in (("pull", than_pull), ("build", than_build)):
            what = f"{KINDS[kind]}: times faster than {WAYS[other]}"
            found.append(table.least(what, seconds[other] / ours, limit))
        if of_pipe is None:
            continue
        found.append(table.most(f"{KINDS[kind]}: times the pipe", ours / seconds["pipe"], of_pipe))
        for name, values in (("memory", memory), ("disk", disk)):
            what = f"{KINDS[kind]}: peak {name}, times the pipe's"
            found.append(table.most(what, values["ours"] / values["pipe"], ROOM))
    return found
