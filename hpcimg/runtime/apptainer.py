"""The only file that knows Apptainer's command line.

It makes argument vectors and environments for others to start; it must not know why.
The SPANK plugin's own fixed vector for the holder has to say the same as `exec_argv`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcimg.errors import RuntimeFailure, UsageError
from hpcimg.process import run
from hpcimg.quoting import quoted

ZSTD = "-comp zstd -Xcompression-level 3"
"""Five times faster to make than gzip, faster to read, three per cent larger."""

_VERSION = re.compile(rb"\d+\.\d+[0-9A-Za-z.+~_-]*")
_VERSION_SECONDS = 20.0


@dataclass(frozen=True)
class Bind:
    """A directory or file of the node shown in the container; `target` None: at the same place."""

    source: str
    target: str | None = None
    read_only: bool = False

    def __str__(self) -> str:
        """Write it as Apptainer parses it: SOURCE[:TARGET[:OPTIONS]]."""
        for path in (self.source, self.target or ""):
            # Apptainer splits at both and knows no way to escape them in --bind.
            if ":" in path or "," in path:
                raise UsageError(
                    f"{quoted(path)} cannot be bound into the container: it holds ':' or ','",
                    "use a path without them",
                )
        target = self.target or self.source
        return f"{self.source}:{target}:ro" if self.read_only else f"{self.source}:{target}"


def exec_argv(
    apptainer: str,
    image: Path,
    command: Sequence[str],
    *,
    binds: Sequence[Bind] = (),
    pwd: str | None = None,
    userns: bool = True,
    nv: bool = False,
) -> list[str]:
    """Make the command line that runs `command` in `image`, an absolute path.

    `pwd` is the working directory inside; without it Apptainer keeps the caller's where it exists.
    """
    argv = [apptainer, "--quiet", "exec"]
    if userns:
        argv.append("--userns")
    if nv:
        argv.append("--nv")
    for bind in binds:
        argv += ["--bind", str(bind)]
    if pwd is not None:
        argv += ["--pwd", pwd]
    return [*argv, str(image), *command]


def build_arguments(source: str, target: str, *, zstd: bool) -> list[str]:
    """Make the words after the program's name that convert `source` (oci:DIRECTORY) to a SIF."""
    compression = ["--mksquashfs-args", ZSTD] if zstd else []
    return ["build", "--disable-cache", *compression, target, source]


def build_environment(search_path: str, scratch: Path) -> dict[str, str]:
    """Make the whole environment of a conversion: nothing of the caller's, all files in `scratch`.

    So neither a user's settings nor proxy or registry variables change what is built.
    """
    return {
        "PATH": search_path,
        "LC_ALL": "C.UTF-8",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "APPTAINER_TMPDIR": str(scratch),
        "APPTAINER_CACHEDIR": str(scratch),
        "APPTAINER_CONFIGDIR": str(scratch),
    }


def version(apptainer: str) -> str:
    """Ask for Apptainer's version, for example 1.4.5; the caller keeps it, this starts a process.

    Raises RuntimeFailure when it is not there or says something else.
    """
    said = run([apptainer, "--version"], timeout=_VERSION_SECONDS).stdout
    found = _VERSION.search(said)
    if found is None:
        raise RuntimeFailure(
            f"{quoted(apptainer)} says no version: {quoted(said.decode(errors='replace').strip())}",
            "is it Apptainer?",
        )
    return found[0].decode()
