"""The bench's group "hub": the hub beside docker-registry itself, on this machine, by wrk.

Knows how to measure and what was wanted; who runs it and prints it is bench.py.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread

import hub_content
import table

CHECKOUT = Path(__file__).resolve().parents[2]
TYPES, TAGS, PAIRS = 1000, 10_000, 10_000
BLOB_BYTES, LARGE_BYTES, READERS = 256 << 20, 2 << 30, 50
WORDS = ("cpu:broadwell", "cpu:skylake", "cpu:skylake_avx512", "cpu:zen3")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

Results = dict[str, dict[str, list[float]]]


class HubFault(Exception):
    """Something could not be measured, and why."""


def measure(runs: int) -> Results:
    """All series; docker-registry and the hub take turns."""
    seconds = 4 if runs > 1 else 1
    large = LARGE_BYTES if runs > 1 else 64 << 20
    results: Results = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hpcimg-bench-")))
        registry = stack.enter_context(docker_registry(folder))
        content = hub_content.fill(registry, folder / "storage", BLOB_BYTES, large, TAGS)
        small = stack.enter_context(hub(folder / "small", registry, 4))
        many = stack.enter_context(hub(folder / "many", registry, TYPES))
        logins = hub_content.logins(folder / "small"), hub_content.logins(folder / "many")
        name = f"/v2/qnib/bench/manifests/{content.tags[0]}"
        pairs = list(itertools.islice(zip(itertools.cycle(logins[1]), content.tags), PAIRS))
        hub_content.warm(many, [(f"/v2/qnib/bench/manifests/{tag}", one) for one, tag in pairs])
        blob = f"/v2/qnib/bench/blobs/{content.blob}"
        hub_content.warm(small, [(name, logins[0][0]), (blob, logins[0][0])])
        script = hub_content.wrk_script(folder / "many.lua", pairs)
        ways: dict[str, Callable[[], float]] = {
            "hub-manifest-registry": lambda: wrk(registry, name, seconds),
            "hub-manifest": lambda: wrk(small, name, seconds, logins[0][0]),
            "hub-manifest-many": lambda: wrk(many, name, seconds, script=script),
            "hub-manifest-one": lambda: wrk(small, name, seconds, script=_same(script, logins[0])),
            "hub-blob-registry": lambda: wrk(registry, blob, seconds, what="Transfer/sec", wide=4),
            "hub-blob": lambda: wrk(small, blob, seconds, logins[0][0], "Transfer/sec", 4),
        }
        for _ in range(runs):
            for key, way in ways.items():
                series = results.setdefault(key, {"seconds": [], "rates": []})
                series["rates"].append(way())
                series["seconds"].append(float(seconds))
        results |= memory(small, f"/v2/qnib/bench/blobs/{content.large}", logins[0][0])
    return results


def rows(results: Results) -> list[tuple[str, ...]]:
    """What each answers in a second."""
    found: list[tuple[str, ...]] = [("the hub", "docker-registry", "hub", "hub/registry")]
    for title, name, unit, scale in (
        ("manifest answers from cache, a second", "hub-manifest", "", 1.0),
        ("256 MB blobs from cache, MB/s", "hub-blob", "", float(1 << 20)),
    ):
        theirs = table.median(results, f"{name}-registry", "rates") / scale
        ours = table.median(results, name, "rates") / scale
        found.append((title, f"{theirs:.0f}{unit}", f"{ours:.0f}{unit}", f"{ours / theirs:.2f}x"))
    slower = _slower(results)
    found.append((f"{TYPES} types, {TAGS} tags: one answer's time", "", "", f"{slower:.2f}x"))
    grown = table.median(results, "hub-memory", "rates")
    found.append((f"a blob to {READERS} clients: memory grows by, MB", "", f"{grown:.0f}", ""))
    return found


def targets(results: Results) -> list[table.Target]:
    """What issue 6 wants."""
    if "hub-manifest" not in results:
        return []
    ratios = {
        name: table.median(results, name, "rates")
        / table.median(results, f"{name}-registry", "rates")
        for name in ("hub-manifest", "hub-blob")
    }
    slower, grown = _slower(results), table.median(results, "hub-memory", "rates")
    manifests, blobs = ratios["hub-manifest"], ratios["hub-blob"]
    what = f"hub: {TYPES} types and {TAGS} tags, time of an answer"
    return [
        table.Target("hub: manifests, of docker-registry's", ">= 0.5", manifests, manifests >= 0.5),
        table.Target("hub: blobs, of docker-registry's", ">= 0.8", blobs, blobs >= 0.8),
        table.Target(what, "<= 1.2", slower, slower <= 1.2),
        table.Target("hub: MB of memory for a blob to 50 clients", "<= 64", grown, grown <= 64),
    ]


def _slower(results: Results) -> float:
    one = table.median(results, "hub-manifest-one", "rates")
    return one / table.median(results, "hub-manifest-many", "rates")


def wrk(
    port: int, path: str, seconds: int, login: str = "", what: str = "Requests/sec", wide: int = 16,
    *, script: Path | None = None,
) -> float:  # fmt: skip
    """Ask for one path on so many connections, or for those of a script; give the rate."""
    words = ["wrk", "-t1", f"-c{wide}", f"-d{seconds}s", "--timeout", "60s"]
    words += ["-H", f"Accept: {', '.join(hub_content.ACCEPT)}"]
    words += ["-H", f"Authorization: Bearer {login}"] if login else []
    words += ["-s", str(script)] if script else []
    done = subprocess.run(
        [*words, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=False
    )
    found = re.search(rf"{what}: +([0-9.]+)([KMG]?)B?", done.stdout)
    if done.returncode or not found or "Non-2xx" in done.stdout:
        raise HubFault(f"wrk of {path}: {done.stdout}{done.stderr}")
    return float(found[1]) * _UNITS[found[2]]


def _same(script: Path, logins: list[str]) -> Path:
    """The same script of one pair: what it costs wrk to take turns must not count."""
    text = script.read_text()
    pair = re.search(r'\{"([^"]+)", "([^"]+)"\}', text)
    one = script.with_name("one.lua")
    one.write_text(re.sub(r'\{"[^"]+", "([^"]+)"\}', rf'{{"{logins[0]}", "{pair[2]}"}}', text))
    return one


def memory(port: int, path: str, login: str) -> Results:
    """Send a blob that is not cached yet to many clients at once; by how much the hub grows."""
    pid = hub_content.pid_of(port)
    before = _peak(pid)
    begin = time.perf_counter()
    sizes: list[int] = []
    readers = [
        Thread(target=lambda: sizes.append(_read(port, path, login))) for _ in range(READERS)
    ]
    for one in readers:
        one.start()
    for one in readers:
        one.join()
    if len(set(sizes)) != 1 or len(sizes) != READERS:
        raise HubFault(f"the readers of {path} got {sorted(set(sizes))} bytes")
    grown = (_peak(pid) - before) / 1024
    return {"hub-memory": {"seconds": [time.perf_counter() - begin], "rates": [grown]}}


def _read(port: int, path: str, login: str) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("GET", path, headers={"Authorization": f"Bearer {login}"})
    answer, got = connection.getresponse(), 0
    room = bytearray(1 << 20)
    while count := answer.readinto(room):
        got += count
    connection.close()
    return got


def _peak(pid: int) -> int:
    """The most that a process had in memory, in kB."""
    found = re.search(r"VmHWM:\s+([0-9]+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1])


@contextmanager
def docker_registry(folder: Path) -> Iterator[int]:
    """docker-registry on a free port."""
    port = free_port()
    config = {
        "version": "0.1",
        "log": {"accesslog": {"disabled": True}, "level": "error"},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "storage")},
            "cache": {"blobdescriptor": "inmemory"},
        },
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    file = folder / "registry.json"
    file.write_text(json.dumps(config))
    with started(["docker-registry", "serve", str(file)], folder / "registry.log", port):
        yield port


@contextmanager
def hub(folder: Path, registry: int, types: int) -> Iterator[int]:
    """A hub with so many machine types."""
    port = free_port()
    folder.mkdir()
    upstream = f"127.0.0.1:{registry}"
    hub_content.make_types(folder, types, WORDS)
    settings: Mapping[str, object] = {
        "listen": f"127.0.0.1:{port}",
        "database": f"sqlite:///{folder}/hub.sqlite",
        "cache": {"path": str(folder / "blobs")},
        "upstreams": {"own": {"registry": upstream}},
        "registries": {upstream: {"plain_http": True}},
        "tag_seconds": 3600,
        "audit": str(folder / "audit.log"),
    }
    file = folder / "hub.yaml"
    file.write_text(json.dumps(settings))
    words = [sys.executable, "-m", "hpcimg", "hub", "serve", "--settings", str(file)]
    with started(words, folder / "log", port):
        yield port


@contextmanager
def started(words: list[str], log: Path, port: int) -> Iterator[None]:
    """Run a server until the block ends, from when it listens."""
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    with log.open("w") as output:
        process = subprocess.Popen(
            words, stdout=output, stderr=output, env={**environment, "PYTHONPATH": str(CHECKOUT)}
        )
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise HubFault(f"{words[0]} ended: {log.read_text()[-500:]}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def free_port() -> int:
    """A port that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
