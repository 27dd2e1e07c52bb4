"""Runs on the login node as root: has the images of the cold start in the registry.

Usage: cold_images.py MAKE_IMAGES REGISTRY. They are made once of the node's own files, and again
when the packages or FORM change; prints their names as a JSON object.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

# A Debian root with Slurm and Python, and above it what compiles and runs MPI programs.
UPPER = ("usr/lib/x86_64-linux-gnu", "usr/lib/gcc", "usr/libexec", "usr/include", "opt")
# What a checkout installs changes with each edit.
LEFT_OUT = ("usr/local", "opt/hpcimg/bin", "opt/hpcimg/lib/python*/site-packages/hpcimg", "var/lib")
ROOT = ("bin", "etc", "lib", "lib64", "sbin", "usr", "opt", "var")
SMALL_FILES = 100_000
FORM = b"1"  # raise it when other images come of this script
TEXT = b"".join(b"def f%d(x):\n    return x * %d\n" % (at, at * at) for at in range(150))


def main() -> None:
    """Make what is missing, and name it."""
    place, registry = sys.argv[1:]
    spec = importlib.util.spec_from_file_location("make_images", place)
    images = importlib.util.module_from_spec(spec)
    sys.modules["make_images"] = images
    spec.loader.exec_module(images)
    inputs = Path("/var/lib/dpkg/status").read_bytes() + FORM
    tag = hashlib.sha256(inputs).hexdigest()[:12]
    names = {}
    for kind, make in (("big", debian), ("small", small_files)):
        names[kind] = f"{registry}/cold/{kind}:{tag}"
        if not has(registry, kind, tag):
            images.push(names[kind], make(images), {"Cmd": ["true"]})
    json.dump(names, sys.stdout)


def has(registry, kind, tag) -> bool:
    """Whether the registry has it."""
    url = f"http://{registry}/v2/cold/{kind}/manifests/{tag}"
    accept = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=accept)):
            return True
    except urllib.error.HTTPError:
        return False


def debian(images):
    """About 1.1 GB in two layers, compressed as most images are."""
    upper = [path for path in UPPER if Path("/", path).exists()]
    lower = [path for path in ROOT if Path("/", path).exists() and path not in upper]
    archives = [("--exclude=" + " --exclude=".join(UPPER), lower), ("", upper)]
    with_gzip = [archive(excluded.split(), paths) for excluded, paths in archives]
    return [
        (images.Blob(blob, images._LAYER_TYPE), diff_id)
        for blob, diff_id in [finish(one) for one in with_gzip]
    ]


def archive(more, paths):
    """Start tar and gzip; both layers are made at once."""
    left_out = [f"--exclude={path}" for path in LEFT_OUT]
    no_other_times = "--pax-option=delete=atime,delete=ctime"
    tar = ["tar", "--sort=name", "--numeric-owner", "--format=pax", no_other_times]
    tar += [*left_out, *more, "-C", "/", "-cf"]
    place = Path(f"/run/cold-{len(paths)}.tar")
    return place, subprocess.Popen([*tar, str(place), *paths])


def finish(one):
    """Compress a layer when tar has ended."""
    place, tar = one
    if tar.wait() != 0:
        sys.exit("tar failed")
    diff_id = subprocess.run(["sha256sum", place], check=True, capture_output=True).stdout[:64]
    done = subprocess.run(["gzip", "-6", "-n", "-c", place], check=True, capture_output=True)
    place.unlink()
    return done.stdout, f"sha256:{diff_id.decode()}"


def small_files(images):
    """100,000 files of up to 2 KB in two layers, a hundred in each directory."""
    half = SMALL_FILES // 2
    return [
        images.pack(entries(images, "lower", half)),
        images.pack(entries(images, "upper", half)),
    ]


def entries(images, top, count):
    """Give files that all differ, as those of Python packages do."""
    for at in range(count):
        size = 100 + at * 7919 % 1900
        content = b"# %s %d\n" % (top.encode(), at) + TEXT[at % 400 : at % 400 + size]
        yield images.Entry(f"{top}/{at // 100}/{at}.py", 0o644, content=content)


if __name__ == "__main__":
    main()
