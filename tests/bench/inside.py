"""What it costs to run inside: starts of steps and of Python, and Python's imports.

On the host, with the image mounted by the kernel, by FUSE, and in Apptainer with its own SIF.
One job measures all four in turn: it has one name of the image from the time when the site's
setting was FUSE, another from that when it was the kernel, and a ticket keeps what it says.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import table

HERE = Path(__file__).resolve().parent
IMAGE = "bench/python"
SIF = "/home/alice/bench-python.sif"
SETTINGS = "/etc/hpcimg/settings.yaml"
KINDS = ("host", "kernel", "fuse", "apptainer")
TASKS = 64

# From before the interpreter's start: `date` is the same program on the host and inside.
CLOCK = 'exec python3 -I -c "$0" "$(/usr/bin/date +%s%N)"'
UNTIL = "; import sys, time; print((time.time_ns() - int(sys.argv[1])) / 1e6, 'ms')"
# Five in one step: the first ones still share the processors with the end of the step's launch.
STARTS = (
    "import subprocess, sys, time; clock = lambda: time.time_ns() / 1e6; took = []\n"
    "for _ in range(5):\n"
    "    began = clock(); subprocess.run([sys.executable, '-I', '-c', sys.argv[1]], check=True)\n"
    "    took.append(clock() - began)\n"
    "print(sorted(took)[2], 'ms')"
)
MODULES = (
    "argparse, ast, asyncio, calendar, concurrent.futures, csv, ctypes, dataclasses, decimal,"
    " difflib, email.message, email.parser, fractions, ftplib, gzip, html.parser, http.client,"
    " http.server, imaplib, inspect, ipaddress, json, logging.config, lzma, multiprocessing.pool,"
    " pdb, pickle, plistlib, pydoc, random, smtplib, socketserver, sqlite3, ssl, statistics,"
    " tarfile, tempfile, tomllib, typing, unittest.mock, urllib.request, uuid,"
    " wsgiref.simple_server, xml.dom.minidom, xml.etree.ElementTree, xmlrpc.client, zipfile"
)

Run = Callable[[Sequence[str], str, str], str]
"""Run a command as a user on the login node, with some text as its input; its output."""


@contextmanager
def prepared(run: Run, node: str) -> Iterator[str]:
    """Have both images and a job whose tickets say how each name is mounted; the job's number."""
    names = [f"registry:5000/{IMAGE}:{kind}" for kind in ("kernel", "fuse")]
    run(["python3", "-", *names], "root", (HERE / "python_image.py").read_text("utf-8"))
    pull = ["apptainer", "--silent", "pull", "--no-https", "--force", SIF, f"docker://{names[0]}"]
    run(pull, "alice", "")
    salloc = ["sh", "-c", f"salloc --no-shell -N1 -n2 -w {node} 2>&1"]
    job = re.findall(r"Granted job allocation (\d+)", run(salloc, "alice", ""))[0]
    try:
        for kind in ("kernel", "fuse"):
            _settle(run, job, kind)
        yield job
    finally:
        run(["scancel", job], "alice", "")
        run(["rm", "-f", SIF], "alice", "")


def _settle(run: Run, job: str, kind: str) -> None:
    """Let the job ask for one name while the setting is that kind."""
    before = run(["cat", SETTINGS], "root", "")
    run(["sh", "-c", f"cat >>{SETTINGS}"], "root", f"\nmount: {kind}\n")
    step = ["srun", f"--jobid={job}", f"--container-image={IMAGE}:{kind}"]
    try:
        where = run([*step, "sh", "-c", 'echo "$APPTAINER_CONTAINER"'], "alice", "")
    finally:
        run(["sh", "-c", f"cat >{SETTINGS}"], "root", before)
    if where.startswith("/run/hpcimg/mounts/") is not (kind == "kernel"):
        raise RuntimeError(f"the image is not mounted by {kind}: {where}")


def commands() -> list[tuple[str, str]]:
    """Starts of a step, starts of Python in it, and imports, one at a time and eight at once."""
    start, warm = (
        shlex.join(["python3", "-I", "-c", STARTS, text]) for text in ("pass", f"import {MODULES}")
    )
    first = shlex.join(["sh", "-c", CLOCK, f"import {MODULES}" + UNTIL])
    rows = [
        ("true", 1, "true"),
        ("many", TASKS, "true"),
        ("python", 1, start),
        ("import", 1, warm),
        ("imports", 8, first),
    ]
    return [
        (f"inside-{row}-{kind}", f"srun -O -n{tasks} {_words(kind)} {command}")
        for row, tasks, command in rows
        for kind in KINDS
        # 64 starts of Apptainer are measured elsewhere, and take long.
        if (row, kind) != ("many", "apptainer")
    ]


def _words(kind: str) -> str:
    return {
        "host": "",
        "kernel": f"--container-image={IMAGE}:kernel",
        "fuse": f"--container-image={IMAGE}:fuse",
        "apptainer": f"apptainer --silent exec --userns {SIF}",
    }[kind]


def rows(median: Callable[[str, str], float]) -> list[tuple[str, ...]]:
    """One row for each thing measured, in milliseconds, with the host's first."""
    found: list[tuple[str, ...]] = [
        ("inside, milliseconds", "host", "kernel mount", "FUSE", "apptainer, own SIF")
    ]
    for title, row, kind in (
        ("a step of 1 task, whole", "true", "seconds"),
        (f"a step of {TASKS} tasks, whole", "many", "seconds"),
        ("Python's start and end, once the step runs", "python", "rates"),
        ("the same and 47 imports", "import", "rates"),
        ("a step of 8 tasks that import them, whole", "imports", "seconds"),
    ):
        scale = 1000 if kind == "seconds" else 1
        found.append(
            (
                title,
                *(
                    f"{median(f'inside-{row}-{one}', kind) * scale:.0f}"
                    if (row, one) != ("many", "apptainer")
                    else "-"
                    for one in KINDS
                ),
            )
        )
    return found


def results(run: Run, node: str, rounds: str, runs: int) -> dict[str, dict[str, list[float]]]:
    """Measure, in one job."""
    with prepared(run, node) as job:
        timer = ["python3", "-c", rounds, json.dumps(commands()), str(runs), str(int(runs > 1))]
        found: dict[str, dict[str, list[float]]] = json.loads(
            run(["env", f"SLURM_JOB_ID={job}", *timer], "alice", "")
        )
    return found


def targets(results: table.Results) -> list[table.Target]:
    """What issue 4 wants of a program's start and of Python's imports."""
    found: list[table.Target] = []
    if "inside-true-host" not in results:
        return found
    for row, what in (("python", "Python's start"), ("import", "Python's imports")):
        host, kernel, fuse, theirs = (
            table.median(results, f"inside-{row}-{kind}", "rates")
            for kind in ("host", "kernel", "fuse", "apptainer")
        )
        ours = f"{what}, kernel mount: times the host's"
        found.append(table.most(ours, kernel / host, 1.2))
        other = f"{what}, FUSE: times Apptainer's with its own SIF"
        found.append(table.most(other, fuse / theirs, 1))
    for row, what in (("true", "1 task"), ("many", "64 tasks")):
        kernel, host = (
            table.median(results, f"inside-{row}-{kind}") for kind in ("kernel", "host")
        )
        title = f"{what}, kernel mount: seconds more than bare srun"
        found.append(table.most(title, kernel - host, 0.1))
    return found
