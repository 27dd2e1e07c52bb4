"""How a program that parses a stranger's bytes is started; the launcher is merge/confine.c."""

from __future__ import annotations

import os
from pathlib import Path

from hpcimg.process import run

_CHECK_SECONDS = 20.0


def bonds(launcher: Path, *, output: Path | None, file: int, memory: int) -> list[str]:
    """Make the words before a program's: it ends with us, and may write `file` bytes into `output`.

    The thread that starts it has to outlive it: the kernel counts its end as that of the parent.
    """
    written = "-" if output is None else str(output)
    return [str(launcher), str(os.getpid()), written, str(file), str(memory)]


def check(launcher: Path) -> dict[str, bool]:
    """Ask what this node's kernel can take from a program: files, network, calls."""
    said = run([launcher, "--check"], timeout=_CHECK_SECONDS).stdout.decode(errors="replace")
    pairs = (line.partition("=") for line in said.splitlines())
    return {name: answer == "yes" for name, _, answer in pairs}
