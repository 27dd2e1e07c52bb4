"""Builds our C programs for the tests, as they are shipped and with sanitizers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SPANK = Path(__file__).resolve().parents[2] / "spank"
SOURCES = {
    "joiner": ("joiner.c", "as_root.c", "gpu_numbers.c", "common.c"),
    "holder": ("holder.c", "common.c"),
    "starter": (
        "starter.c",
        "starter_words.c",
        "keep.c",
        "layers.c",
        "running.c",
        "memory.c",
        "limit.c",
        "engine.c",
        "arrange.c",
        "devices.c",
        "binds.c",
        "argv.c",
        "users.c",
        "deadline.c",
        "namespaces.c",
        "processes.c",
        "mounts.c",
        "copies.c",
        "loop.c",
        "sif.c",
        "common.c",
    ),
    "hider": ("hider.c", "devices.c", "common.c"),
    "finder": ("finder.c", "layers.c", "running.c", "users.c", "common.c"),
    "saver": ("saver.c", "common.c"),
    "mounter": ("mounter.c", "namespaces.c", "mounts.c", "loop.c", "sif.c", "common.c"),
}
MERGE = SPANK.parent / "merge"
_SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1", "-g")


def has_compiler() -> bool:
    """Whether there is one."""
    return shutil.which("gcc") is not None


def build(folder: Path, *, sanitized: bool) -> Path:
    """Compile the programs that need no Slurm into a folder."""
    for program in SOURCES:
        compile_one(folder, program, sanitized=sanitized)
    return folder


def compile_one(folder: Path, program: str, *, sanitized: bool) -> Path:
    """Compile one of them; where it is."""
    flags = _SANITIZERS if sanitized else ("-O2",)
    files = [str(SPANK / source) for source in SOURCES[program]]
    subprocess.run(
        ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", *flags, "-o", program, *files],
        cwd=folder,
        check=True,
    )
    return folder / program


def build_merger(folder: Path, *, sanitized: bool) -> Path:
    """Compile the merger and confine: as `make` does, or with sanitizers and without ISA-L."""
    more = [] if not sanitized else ["ISAL=", f"CFLAGS={' '.join(_SANITIZERS)}"]
    make = ["make", "-s", "-C", str(MERGE), f"BUILD={folder}", *more]
    subprocess.run(make, check=True)
    return folder / "merger"


def build_confine(folder: Path) -> Path:
    """Compile what takes rights from a conversion's programs."""
    subprocess.run(
        ["make", "-s", "-C", str(MERGE), f"BUILD={folder}", f"{folder}/confine"], check=True
    )
    return folder / "confine"
