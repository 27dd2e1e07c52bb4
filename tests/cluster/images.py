"""Fills the cluster's registry once: the images of both posts, their indexes, an MPI image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fault import ClusterFault
from layout import Layout
from screen import phase

REGISTRY = "registry:5000"
_PLACE = "/usr/local/lib/cluster/images"


@dataclass(frozen=True)
class Done:
    """A command that ended: its exit code and what it said."""

    code: int
    output: str


def ensure(layout: Layout, layers: Sequence[Path], run: Callable[[Sequence[str]], Done]) -> None:
    """Push what the registry does not have; ``run`` runs a command on the login node as root."""
    # The images are made of files of all layers but the project's.
    key = hashlib.sha256("\0".join(layer.name for layer in layers[1:]).encode()).hexdigest()
    mark = layout.registry / "images.key"
    if mark.is_file() and mark.read_text("utf-8") == key:
        return
    with phase("making the images and pushing them to the registry"):
        _must(run, ["python3", f"{_PLACE}/make_images.py", REGISTRY])
        for recipe in ("bench.yml", "cv-tf.yml"):
            _must(run, ["hpcimg", "index", "push", f"{_PLACE}/{recipe}"])
    mark.write_text(key)


def _must(run: Callable[[Sequence[str]], Done], command: Sequence[str]) -> None:
    done = run(command)
    if done.code != 0:
        end = "\n".join(done.output.splitlines()[-15:])
        raise ClusterFault(f"{' '.join(command)!r} failed on login with code {done.code}:\n{end}")
