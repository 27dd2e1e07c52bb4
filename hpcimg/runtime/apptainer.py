"""The only file that knows Apptainer's command line.

It makes argument vectors and environments for others to start; it must not know why.
The SPANK plugin's own fixed vector for the holder has to say the same as `exec_argv`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcimg.bind import OPTIONAL, TMPFS, Bind
from hpcimg.errors import RuntimeFailure, UsageError
from hpcimg.process import run
from hpcimg.quoting import quoted

ZSTD = "-comp zstd -Xcompression-level 3"
"""Five times faster to make than gzip, faster to read, three per cent larger."""

_FLAGS = frozenset({"ro", "rw", "nosuid", "nodev", "slave", "rslave", OPTIONAL})
_VERSION = re.compile(rb"\d+\.\d+[0-9A-Za-z.+~_-]*")
_VERSION_SECONDS = 20.0


@dataclass(frozen=True)
class Inside:
    """How a container differs from the plain image.

    `workdir` is where the command starts; without it Apptainer keeps the caller's directory where
    that exists. `left_out` is what Apptainer brings in of itself and shall not: `home`, `cwd`.
    """

    binds: tuple[Bind, ...] = ()
    workdir: str = ""
    left_out: tuple[str, ...] = ()
    writable: bool = False


PLAIN = Inside()


def exec_argv(
    apptainer: str,
    image: Path,
    command: Sequence[str],
    *,
    inside: Inside = PLAIN,
    userns: bool = True,
) -> list[str]:
    """Make the command line that runs `command` in `image`, an absolute path.

    Raises UsageError for a mount that Apptainer cannot make.
    """
    argv = [apptainer, "--quiet", "exec"]
    argv += ["--userns"] * userns
    argv += ["--writable-tmpfs"] * inside.writable
    if inside.left_out:
        argv += ["--no-mount", ",".join(inside.left_out)]
    # A mount hides what is below its place: what is higher up has to come first.
    for bind in sorted(inside.binds, key=lambda bind: bind.target):
        argv += _mount_words(bind)
    if inside.workdir:
        argv += ["--pwd", inside.workdir]
    return [*argv, str(image), *command]


def unsupported(bind: Bind) -> tuple[str, ...]:
    """Name the flags that Apptainer cannot give a mount; nosuid, nodev and rslave its all have."""
    return tuple(flag for flag in bind.flags if flag not in _FLAGS)


def _mount_words(bind: Bind) -> list[str]:
    """Write one mount; --bind would split paths at ':' and ',', --mount reads CSV."""
    wrong = unsupported(bind)
    if wrong:
        raise UsageError(
            f"{quoted(bind.source)} cannot be mounted with {', '.join(wrong)} without the plugin",
            "leave the flag out, or use srun's --container-mounts",
        )
    if bind.source == TMPFS:
        return ["--scratch", bind.target]
    fields = ["type=bind", f"source={bind.source}", f"destination={bind.target}"]
    fields += ["ro"] * ("ro" in bind.flags)
    return ["--mount", ",".join(map(_csv, fields))]


def _csv(field: str) -> str:
    return '"' + field.replace('"', '""') + '"' if any(c in field for c in '",\n') else field


def variables(values: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Make the environment that gives a container these variables, whatever its image says.

    --env splits some values at commas and strips quotes of others, and shows them to everybody.
    """
    return {f"APPTAINERENV_{name}": value for name, value in values}


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
