"""Runs on a node as root: cold starts as a user in an empty home, which take turns.

Usage: cold_rounds.py NAMES RUNS SLOW_RUNS, with NAMES as cold_images.py prints them. Prints a JSON
object of name to raw results: wall and CPU seconds, and in MiB the peak memory of the whole process
tree (shared pages parted among those that share them), the peak of the disk, and the result's size.
"""

import json
import os
import resource
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

USER = "alice"
HOME = Path("/home") / USER
MIB = 1 << 20
ZSTD = "-comp zstd -Xcompression-level 3"
ACCEPT = "application/vnd.docker.distribution.manifest.v2+json"
# In curl's place, which the nodes do not have.
GET = (
    "import shutil, sys, urllib.request as u; "
    "shutil.copyfileobj(u.urlopen(sys.argv[1]), sys.stdout.buffer, 1 << 20)"
)


def layers_of(name):
    """Give the URLs of an image's layers, and read each once: the registry's disk is no part."""
    registry, _, rest = name.partition("/")
    repository, _, tag = rest.partition(":")
    base = f"http://{registry}/v2/{repository}"
    request = urllib.request.Request(f"{base}/manifests/{tag}", headers={"Accept": ACCEPT})
    with urllib.request.urlopen(request) as answer:
        layers = [f"{base}/blobs/{layer['digest']}" for layer in json.load(answer)["layers"]]
    for layer in layers:
        with urllib.request.urlopen(layer) as answer:
            while answer.read(MIB):
                pass
    return layers


def ways(name):
    """Ways from a registry to a file that can be run, as commands; all leave it in the home."""
    image = f"docker://{name}"
    plain = "--no-https --disable-cache --force"
    short = name.partition("/")[2]
    blobs = "; ".join(
        f"python3 -Ic '{GET}' {layer} | tee >(sha256sum >/dev/null) | igzip -dc"
        for layer in layers_of(name)
    )
    return {
        "ours": f"hpcimg run --dry-run {short} -- true",
        "pull": f"apptainer -q pull {plain} image.sif {image}",
        "build": f"apptainer -q build {plain} --mksquashfs-args '{ZSTD}' image.sif {image}",
        # One pipe for all layers, the lowest first, and no rules.
        "pipe": f"{{ {blobs}; }} | sqfstar -ignore-zeros {ZSTD} image.sif >/dev/null",
    }


class Watch(threading.Thread):
    """Looks at what a process tree takes, until it is told to stop."""

    def __init__(self, pid):
        super().__init__()
        self._pid = pid
        self._ended = threading.Event()
        self.memory = self.disk = 0

    def run(self):
        """Look ten times a second."""
        while not self._ended.wait(0.1):
            self.memory = max(self.memory, sum(map(memory_of, tree_of(self._pid))))
            self.disk = max(self.disk, used())

    def stop(self):
        """Look no more."""
        self._ended.set()
        self.join()
        self.disk = max(self.disk, used())


def tree_of(root):
    """Give a process and all below it."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            text = (place / "stat").read_text()
        except OSError:
            continue
        parents.setdefault(int(text[text.rindex(")") + 2 :].split()[1]), []).append(place.name)
    found = [root]
    for pid in found:
        found += map(int, parents.get(pid, ()))
    return found


def memory_of(pid):
    """Give a process's proportional memory in bytes."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in text.splitlines() if line[:4] == "Pss:")


def used():
    """Give the bytes that the home takes."""
    found = os.statvfs(HOME)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def once(command):
    """Run one command in an empty home; its figures."""
    run = ["find", HOME, "-mindepth", "1", "-delete"]
    subprocess.run(run, check=True)
    (HOME / "tmp").mkdir()
    os.chown(HOME / "tmp", *owner())
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    child = subprocess.Popen(
        ["runuser", "-u", USER, "--", "bash", "-o", "pipefail", "-c", command],
        cwd=HOME, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "HOME": str(HOME), "TMPDIR": f"{HOME}/tmp"},
    )  # fmt: skip
    watch = Watch(child.pid)
    watch.start()
    said = child.communicate()[0]
    seconds = time.perf_counter() - start
    watch.stop()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if child.returncode != 0:
        sys.exit(f"`{command}` ended with {child.returncode}: {said[-800:].decode()}")
    (result,) = HOME.rglob("image.sif")
    return {
        "seconds": round(seconds, 3),
        "cpu": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
        "memory": round(watch.memory / MIB, 1),
        "disk": round(watch.disk / MIB, 1),
        "result": round(result.stat().st_size / MIB, 1),
    }


def owner():
    """Give the user's numbers."""
    found = subprocess.run(
        ["sh", "-c", f"id -u {USER}; id -g {USER}"], check=True, capture_output=True, text=True
    )
    return map(int, found.stdout.split())


def main():
    """Let the ways take turns, the slow ones less often."""
    names, runs, slow_runs = json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    os.unshare(os.CLONE_NEWNS)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    uid, gid = owner()
    options = f"size=8g,mode=700,uid={uid},gid={gid}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "cold", HOME], check=True)
    results = {}
    for kind, name in names.items():
        commands = ways(name)
        for number in range(runs):
            for way, command in commands.items():
                if number >= slow_runs and way in {"pull", "build"}:
                    continue
                sys.stderr.write(f"bench: cold: {kind}, {way}, run {number + 1}\n")
                for what, value in once(command).items():
                    series = results.setdefault(f"cold-{kind}-{way}", {})
                    series.setdefault(what, []).append(value)
    json.dump(results, sys.stdout)


main()
