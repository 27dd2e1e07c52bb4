#!/usr/bin/env python3
"""`make bench`: hpcimg beside bare srun and `srun apptainer exec`, taking turns in one run.

Prints one table and writes build/bench.json. A missed target is said, and is no failure: speed is
no test. Exit code 1 means that something could not be measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import cold  # noqa: E402 - the modules lie beside this file
import hub  # noqa: E402
import inside  # noqa: E402
import many  # noqa: E402
import steps  # noqa: E402
import table  # noqa: E402

CHECKOUT = HERE.parent.parent
CLUSTER = CHECKOUT / "tests" / "cluster" / "cluster"
NODE = "bdw1"
IMAGE = "qnib/bench"
INDEX = "qnib/cv-tf:1.12.0-rev9"
SIZES = (1, 16, 64)
ROUNDS = (HERE / "rounds.py").read_text("utf-8")
THOUSAND = (HERE / "thousand.py").read_text("utf-8")
PYTHON = "/opt/hpcimg/bin/python"

Commands = list[tuple[str, str]]
Results = dict[str, dict[str, list[float]]]


class BenchFault(Exception):
    """Something could not be measured, and why."""


def main() -> int:
    """Measure, print, write."""
    arguments = _parser().parse_args()
    runs = 1 if arguments.quick else arguments.runs
    try:
        subprocess.run([CLUSTER, "up"], check=True)
        machine = describe_machine()
        results = measure(runs, arguments.only)
        machine["load_after"] = round(os.getloadavg()[0], 2)
    except (BenchFault, many.ManyFault, hub.HubFault, subprocess.CalledProcessError) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    place = arguments.output
    place.parent.mkdir(exist_ok=True)
    document = table.document(results, machine, runs, targets(results))
    place.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(report(results, machine, runs))
    sys.stdout.write(f"\nRaw times: {place}\n")
    return 0


def measure(runs: int, only: list[str] | None) -> Results:
    """All series, in groups that each take turns; `only` names those that are wanted."""
    results: Results = {}
    for name, group in GROUPS.items():
        if not only or name in only:
            results |= group(runs)
    return results


def _on_one_node(runs: int) -> Results:
    allocation = ["salloc", "--quiet", "-N1", "-n2", "-w", NODE]
    return take_turns("one node, warm", allocation, launch_commands(sif_in_the_store()), runs)


def _first_step(runs: int) -> Results:
    sif_in_the_store()
    return take_turns("first step of a new job", [], first_commands(), runs)


def _on_two_nodes(runs: int) -> Results:
    allocation = ["salloc", "--quiet", "-N2", "-n2", "-w", f"{NODE},skx1"]
    return take_turns("two nodes", allocation, hello_commands(), runs)


def _choosing(runs: int) -> Results:
    return take_turns("choosing", [], choosing_commands(), runs)


def _ping_pong(runs: int) -> Results:
    allocation = ["salloc", "--quiet", "-N1", "-n2", "-w", NODE]
    return take_turns("ping-pong", allocation, pingpong_commands(), runs)


def _cold(runs: int) -> Results:
    say(f"cold start: {len(cold.KINDS)} images in {len(cold.WAYS)} ways ...")
    return dict(cold.measure(lambda words, node: on_node(words, node, "root"), runs))


def _inside(runs: int) -> Results:
    say(f"inside: {len(inside.commands())} commands, {runs} runs each ...")
    return inside.results(on_login, NODE, ROUNDS, runs)


def _many(runs: int) -> Results:
    say("many: a cold start of many at once ...")
    return many.measure(*((64, 256) if runs > 1 else (4, 16)))


def _steps(runs: int) -> Results:
    say("steps: without the plugin and with it, and many with an image ...")
    return steps.measure(on_node, NODE, runs, 500 if runs > 1 else 5)


def _hub(runs: int) -> Results:
    say("hub: docker-registry and the hub, by turns ...")
    return hub.measure(runs)


GROUPS: dict[str, Callable[[int], Results]] = {
    "launch": _on_one_node,
    "first": _first_step,
    "nodes": _on_two_nodes,
    "choosing": _choosing,
    "pingpong": _ping_pong,
    "inside": _inside,
    "cold": _cold,
    "many": _many,
    "steps": _steps,
    "hub": _hub,
}


def launch_commands(sif: str) -> Commands:
    """`true` in 1, 16 and 64 tasks: bare, in the step's shared container, and one by one."""
    return [
        (f"{kind}-{size}", f"srun -O -n{size} {words} true")
        for size in SIZES
        for kind, words in (
            ("bare", ""),
            ("container", f"--container {IMAGE}"),
            ("apptainer", f"apptainer --silent exec --userns {sif}"),
        )
    ]


def first_commands() -> Commands:
    """A new job each time: with the prolog, without a ticket."""
    return [
        ("first-host", f"srun --quiet -w {NODE} true"),
        ("first-image", f"srun --quiet -w {NODE} --container {IMAGE} true"),
    ]


def hello_commands() -> Commands:
    """Two ranks on two nodes."""
    return [
        ("hello-host", "srun --mpi=pmix -n2 mpihello"),
        ("hello-image", "srun --mpi=pmix -n2 --container mpi mpihello"),
    ]


def choosing_commands() -> Commands:
    """Resolve a name whose index is cached, by digest and by tag; select from 1,000 entries."""
    pinned = json.loads(on_login(["hpcimg", "explain", INDEX, "--node", NODE, "--json"]))["index"]
    name = INDEX.partition(":")[0]
    return [
        ("choose-python", f"{PYTHON} -I -c pass"),
        ("choose-digest", f"hpcimg resolve {name}@{pinned} --node {NODE}"),
        ("choose-tag", f"hpcimg resolve {INDEX} --node {NODE}"),
        ("choose-thousand", shlex.join([PYTHON, "-I", "-c", THOUSAND])),
    ]


def pingpong_commands() -> Commands:
    """Two ranks on one node."""
    return [
        ("pingpong-host", "srun --mpi=pmix -n2 pingpong"),
        ("pingpong-image", "srun --mpi=pmix -n2 --container mpi pingpong"),
    ]


def take_turns(title: str, allocation: list[str], commands: Commands, runs: int) -> Results:
    """Run the commands in turn on the login node, within one allocation where it is given."""
    say(f"{title}: {len(commands)} commands, {runs} runs each ...")
    timer = ["python3", "-c", ROUNDS, json.dumps(commands), str(runs), str(int(runs > 1))]
    results: Results = json.loads(on_login([*allocation, *timer]))
    return results


def sif_in_the_store() -> str:
    """Have the image in the store; the SIF file that the node's job will run."""
    on_login(["srun", "--quiet", "-w", NODE, "--container", IMAGE, "true"])
    image = on_login(["hpcimg", "resolve", IMAGE, "--node", NODE]).strip()
    digest = image.partition("@")[2]
    entries = json.loads(on_login(["hpcimg", "cache", "ls", "--json"]))
    found = [entry["path"] for entry in entries if entry["digest"] == digest]
    if not found:
        raise BenchFault(f"the store has no entry for {image}")
    return f"{found[0]}/image.sif"


def on_login(command: Sequence[str], user: str = "alice", give: str = "") -> str:
    """Run a command on the login node; its output."""
    return on_node(command, "login", user, give)


def on_node(command: Sequence[str], node: str, user: str, give: str = "") -> str:
    """Run a command on a node; its output."""
    done = subprocess.run(
        [CLUSTER, "exec", "-n", node, "-u", user, "--", *command],
        check=False,
        input=give,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise BenchFault(f"{' '.join(command)[:60]}: {done.stderr.strip()[-1000:]}")
    return done.stdout


def describe_machine() -> dict[str, object]:
    """What the numbers were measured on."""
    cpuinfo = Path("/proc/cpuinfo").read_text("utf-8")
    models = [
        line.partition(":")[2].strip() for line in cpuinfo.splitlines() if "model name" in line
    ]
    commit = subprocess.run(
        ["git", "-C", CHECKOUT, "rev-parse", "--short", "HEAD"],
        check=False,
        capture_output=True,
        text=True,
    )
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "cpus": os.cpu_count(),
        "cpu": models[0] if models else os.uname().machine,
        "kernel": os.uname().release,
        "slurm": on_login(["srun", "--version"]).strip(),
        "apptainer": on_login(["apptainer", "--version"]).strip(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def targets(results: Results) -> list[table.Target]:
    """What was wanted of what was measured."""
    groups = (table, cold, inside, many, steps, hub)
    return [target for group in groups for target in group.targets(results)]


def report(results: Results, machine: dict[str, object], runs: int) -> str:
    """The one table, with what it was measured on and what was wanted."""
    load = f"load {machine['load_before']} before and {machine['load_after']} after"
    lines = [
        "",
        f"{machine['slurm']}, {machine['apptainer']}, {machine['cpus']} x {machine['cpu']}",
        f"The machine's {load}.",
        f"Medians of {runs} runs that took turns: whole processes, `true` as the command.",
        "",
    ]
    if "bare-1" in results:
        lines += [
            "One node, in one allocation: the job's ticket is on the node, the store is warm."
        ]
        lines += [table.text(table.launch_rows(results, SIZES)), ""]
    if len(pairs := table.pair_rows(results)) > 1:
        lines += [table.text(pairs), ""]
    if "choose-tag" in results:
        lines += [table.text(table.choosing_rows(results)), ""]
    if "cold-big-ours" in results:
        lines += [f"Cold starts: {cold.RUNS} runs at most, {cold.SLOW_RUNS} of Apptainer's."]
        lines += [table.text(cold.rows(results)), ""]
    if "inside-true-host" in results:
        lines += [table.text(inside.rows(lambda *which: table.median(results, *which))), ""]
    if "many-tasks" in results:
        lines += [table.text(many.rows(results)), ""]
    if "many-steps" in results:
        lines += [table.text(steps.rows(results)), ""]
    if "hub-manifest" in results:
        lines += [table.text(hub.rows(results)), ""]
    return "\n".join([*lines, *(target.line() for target in targets(results)), ""])


def say(text: str) -> None:
    """One line of talk on standard error."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description="the benchmarks, in one table")
    parser.add_argument("--runs", type=_count, default=10, metavar="N", help="runs of each (10)")
    parser.add_argument("--only", action="append", choices=GROUPS, help="this group alone")
    parser.add_argument("--quick", action="store_true", help="one cold run, to see that it works")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", default=CHECKOUT / "build" / "bench.json"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
