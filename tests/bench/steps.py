"""The bench's group "steps": what the plugin adds to jobs without a container, and many steps.

Plain steps take turns with Slurm's line for the plugin and without it. Then many steps with an
image run one after another, and slurmd's memory is read before and after.
"""

from __future__ import annotations

from collections.abc import Callable

import table

IMAGE = "qnib/bench"
AT_A_TIME = 10
PLUGSTACK = "/etc/slurm/plugstack.conf"

On = Callable[[list[str], str, str], str]
"""Run words on a node as a user; what they print."""
Results = dict[str, dict[str, list[float]]]


def measure(on: On, node: str, runs: int, many: int) -> Results:
    """All series of this group, within one allocation on the node."""
    said = on(["bash", "-c", f"salloc --no-shell -w {node} --mem=2000 2>&1"], "login", "alice")
    job = said.split("Granted job allocation ")[1].split()[0]
    step = f"srun --jobid={job} --overlap"
    try:
        plain = _plain(on, step, runs)
        return plain | _many(on, f"{step} --container-image={IMAGE}", node, many)
    finally:
        on(["scancel", job], "login", "alice")


def _plain(on: On, step: str, runs: int) -> Results:
    found: Results = {name: {"seconds": []} for name in ("plain-with", "plain-without")}
    line = on(["cat", PLUGSTACK], "login", "root")
    try:
        _loop(on, step, AT_A_TIME)
        for _ in range(runs):
            for name, text in (("plain-with", line), ("plain-without", "")):
                _write(on, text)
                found[name]["seconds"].append(_loop(on, step, AT_A_TIME))
    finally:
        _write(on, line)
    return found


def _many(on: On, step: str, node: str, count: int) -> Results:
    _loop(on, step, 1)
    before = _memory(on, node)
    seconds = _loop(on, step, count)
    grown = _memory(on, node) - before
    return {"many-steps": {"seconds": [seconds], "rates": [float(grown)]}}


def _write(on: On, text: str) -> None:
    on(["bash", "-c", f"cat >{PLUGSTACK} <<'END'\n{text}\nEND"], "login", "root")


def _loop(on: On, step: str, count: int) -> float:
    """Seconds of one of so many steps, timed where srun runs."""
    script = f"""
        start=$EPOCHREALTIME
        for i in $(seq {count}); do {step} true || exit; done
        echo $start $EPOCHREALTIME"""
    start, end = on(["bash", "-c", script], "login", "alice").split()
    return round((float(end) - float(start)) / count, 4)


def _memory(on: On, node: str) -> int:
    """What slurmd holds in memory there, in kB."""
    script = "sed -n 's/VmRSS:\\s*\\([0-9]*\\).*/\\1/p' /proc/$(cat /run/slurmd.pid)/status"
    return int(on(["bash", "-c", script], node, "root"))


def rows(results: Results) -> list[tuple[str, ...]]:
    """The group's part of the table."""
    with_it, without = (table.median(results, f"plain-{kind}") for kind in ("with", "without"))
    each = table.median(results, "many-steps")
    grown = table.median(results, "many-steps", "rates")
    return [
        ("steps in one job, each", "value"),
        ("without a container, no plugin in Slurm", f"{without * 1000:.0f} ms"),
        ("without a container, the plugin loaded", f"{with_it * 1000:.0f} ms"),
        ("many with an image, one after another", f"{each * 1000:.0f} ms"),
        ("what slurmd grew by with those", f"{grown:.0f} kB"),
    ]


def targets(results: Results) -> list[table.Target]:
    """What issue 5 wants: nothing measurable, and nothing that grows."""
    if "plain-with" not in results:
        return []
    ratio = table.median(results, "plain-with") / table.median(results, "plain-without")
    grown = table.median(results, "many-steps", "rates")
    return [
        table.most("plain steps: times those without the plugin", ratio, 1.05),
        table.most("many steps: kB that slurmd grew by", grown, 512),
    ]
