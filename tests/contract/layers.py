"""Layers for tests: written from short tables, merged by the program, and by a model of the rules.

The model unpacks from the bottom up into a dictionary, as a tool does that has a disk; the program
streams from the top down. Both must come to the same tree.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

AGAIN = 75
KINDS = {"d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE, "h": tarfile.LNKTYPE, "p": tarfile.FIFOTYPE,
         "c": tarfile.CHRTYPE, "f": tarfile.REGTYPE}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One member: its path, its kind's letter, a file's content or a link's target."""

    path: str
    kind: str = "f"
    text: str = ""


def tar_of(rows: list[Row], form: int = tarfile.PAX_FORMAT) -> bytes:
    """Write a layer's archive."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form) as archive:
        for row in rows:
            member = tarfile.TarInfo(row.path)
            member.type = KINDS[row.kind]
            member.mode = 0o755 if row.kind == "d" else 0o644
            content = row.text.encode() if row.kind == "f" else b""
            member.size = len(content)
            member.linkname = row.text if row.kind in "lh" else ""
            archive.addfile(member, io.BytesIO(content))
    return raw.getvalue()


def run_merger(
    program: Path,
    blobs: list[bytes],
    diff_ids: list[str],
    limits: tuple[int, int, int],
    **environment: str,
) -> subprocess.CompletedProcess[bytes]:
    """Merge blobs, given from the bottom up, as often as the program asks for it."""
    notes = os.memfd_create("notes")
    try:
        for _ in range(8):
            done = _run_once(program, notes, blobs[::-1], diff_ids[::-1], limits, environment)
            if done.returncode != AGAIN:
                break
        return done
    finally:
        os.close(notes)


def _run_once(program, notes, blobs, diff_ids, limits, environment):
    descriptors = []
    for blob in blobs:
        descriptors.append(os.memfd_create("blob"))
        with os.fdopen(os.dup(descriptors[-1]), "wb") as file:
            file.write(blob)
        os.lseek(descriptors[-1], 0, os.SEEK_SET)
    words = [f"{one}={diff}" for one, diff in zip(descriptors, diff_ids, strict=True)]
    numbers = [str(number) for number in (notes, *limits)]
    try:
        return subprocess.run(
            [program, *numbers, *words],
            pass_fds=(notes, *descriptors),
            env={"ASAN_OPTIONS": "detect_leaks=0", **environment},
            capture_output=True,
            check=False,
            timeout=60,
        )
    finally:
        for one in descriptors:
            os.close(one)


def diff_id(raw: bytes) -> str:
    """Name uncompressed bytes."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def merged(program: Path, layers: list[bytes], pack=gzip.compress) -> dict[str, tuple[str, str]]:
    """Merge whole archives; the tree as path to kind and content, links of files as contents."""
    ids = [diff_id(raw) for raw in layers]
    done = run_merger(program, [pack(raw) for raw in layers], ids, (10**6, 10**9, 1000))
    assert done.returncode == 0, done.stderr
    return tree_of(done.stdout)


def tree_of(stream: bytes) -> dict[str, tuple[str, str]]:
    """Read the program's output as sqfstar does: no path may come twice, links lead to files."""
    tree: dict[str, tuple[str, str]] = {}
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        for member in archive:
            assert member.name not in tree, f"{member.name} comes twice"
            if member.isdir():
                tree[member.name] = ("d", "")
            elif member.issym():
                tree[member.name] = ("l", member.linkname)
            elif member.islnk():
                tree[member.name] = tree[member.linkname]
            elif member.isfifo():
                tree[member.name] = ("p", "")
            else:
                content = archive.extractfile(member)
                assert content is not None
                tree[member.name] = ("f", content.read().decode())
    for path in tree:
        parent = os.path.dirname(path)  # noqa: PTH120 - an archive's path
        assert not parent or tree[parent][0] == "d", f"{path} has no parent"
    return tree


class ModelRefusesError(Exception):
    """The layers do what no tree can hold."""


class Model:
    """The rules on a tree in memory, layer by layer from the bottom."""

    def __init__(self) -> None:
        self.tree: dict[str, tuple[str, str]] = {}

    def apply(self, rows: list[Row]) -> None:
        """Unpack one layer."""
        touched: set[str] = set()
        for row in rows:
            parts = self._inside(row.path)
            if not parts:
                continue
            parent = self._resolve(parts[:-1])
            path = "/".join([*parent, parts[-1]])
            if parts[-1].startswith(".wh."):
                self._whiteout(parent, parts[-1], touched)
                continue
            self._make_parents(parent, touched)
            self._place(path, row, touched)

    @staticmethod
    def _inside(path: str) -> list[str]:
        parts: list[str] = []
        for part in path.split("/"):
            if part == "..":
                parts = parts[:-1]
            elif part not in {"", "."}:
                parts.append(part)
        return parts

    def _resolve(self, parts: list[str]) -> list[str]:
        done: list[str] = []
        todo, budget = list(parts), 40
        while todo:
            part = todo.pop(0)
            if part in {"", "."}:
                continue
            if part == "..":
                done = done[:-1]
                continue
            kind, target = self.tree.get("/".join([*done, part]), ("", ""))
            if kind != "l":
                done.append(part)
                continue
            budget -= 1
            if budget < 0:
                raise ModelRefusesError("too many links")
            todo = target.split("/") + todo
            done = [] if target.startswith("/") else done
        return done

    def _make_parents(self, parent: list[str], touched: set[str]) -> None:
        for end in range(1, len(parent) + 1):
            path = "/".join(parent[:end])
            if self.tree.setdefault(path, ("d", ""))[0] != "d":
                raise ModelRefusesError(f"{path} is no directory")
            touched.add(path)

    def _whiteout(self, parent: list[str], name: str, touched: set[str]) -> None:
        gone = "/".join(parent if name == ".wh..wh..opq" else [*parent, name[4:]])
        for path in list(self.tree):
            is_it = path == gone and name != ".wh..wh..opq"
            is_below = not gone or path.startswith(gone + "/")
            if (is_it or is_below) and path not in touched:
                del self.tree[path]

    def _place(self, path: str, row: Row, touched: set[str]) -> None:
        entry = (row.kind, row.text if row.kind in "fl" else "")
        if row.kind == "h":
            parts = self._inside(row.text)
            target = "/".join([*self._resolve(parts[:-1]), *parts[-1:]])
            if target == path or self.tree.get(target, ("d",))[0] == "d":
                raise ModelRefusesError("no target")
            entry = self.tree[target]
        if not (row.kind == "d" and self.tree.get(path, ("",))[0] == "d"):
            for one in [one for one in self.tree if one == path or one.startswith(path + "/")]:
                del self.tree[one]
                touched.discard(one)
            self.tree[path] = entry
        touched.add(path)
