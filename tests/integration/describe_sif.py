"""Run on a node as a user: say what the tree in a SIF's file system holds, as JSON, path by path.

Usage: python3 describe_sif.py SIF. What differs between any two conversions is left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

OURS = re.compile(r"\.singularity\.d/.*|\.singularity\.d")


def describe(path: str, first: dict[int, str], name: str) -> list[object]:
    """Give one path's kind, mode, content or target, its first hard link, and attributes."""
    found = os.lstat(path)
    kind = stat.S_IFMT(found.st_mode)
    content = ""
    if kind == stat.S_IFREG:
        content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    elif kind == stat.S_IFLNK:
        content = str(Path(path).readlink())
    same = first.setdefault(found.st_ino, name) if kind == stat.S_IFREG else name
    names = os.listxattr(path, follow_symlinks=False)
    attributes = [one for one in names if not one.startswith("user.rootlesscontainers")]
    time = int(found.st_mtime) if kind == stat.S_IFREG and found.st_size else 0
    return [oct(found.st_mode), content, same, attributes, time]


with tempfile.TemporaryDirectory() as folder:
    listing = subprocess.run(
        ["apptainer", "sif", "list", sys.argv[1]], check=True, capture_output=True, text=True
    )
    offset = re.findall(r"\|(\d+)-\d+\s+\|FS ", listing.stdout)[-1]
    root = f"{folder}/root"
    unpack = ["unsquashfs", "-q", "-n", "-o", offset, "-d", root, sys.argv[1]]
    subprocess.run(unpack, check=True, stdout=subprocess.DEVNULL)
    tree: dict[str, list[object]] = {}
    inodes: dict[int, str] = {}
    for directory, folders, files in os.walk(root):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = f"{directory}/{name}"
            inside = os.path.relpath(path, root)
            if not OURS.fullmatch(inside):
                tree[inside] = describe(path, inodes, inside)
    print(json.dumps(tree))  # noqa: T201 - the answer
    subprocess.run(["chmod", "-R", "u+rwX", folder], check=True)
