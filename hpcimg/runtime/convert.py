"""From an image to a SIF file, behind an interface that has more than one way.

Knows no registry and no store: it gets an image's documents, its blobs, and the file to make.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
from functools import cached_property
from pathlib import Path
from typing import Protocol

from hpcimg.errors import RuntimeFailure
from hpcimg.process import ProcessTimeoutError, failure, run
from hpcimg.progress import OnProgress, Progress
from hpcimg.runtime.apptainer import build_arguments, build_environment, version
from hpcimg.runtime.layout import write_layout
from hpcimg.runtime.packer import SEARCH_PATH
from hpcimg.runtime.source import Source

REVISION = 1
"""Counted up when the same Apptainer would make other bytes of the same manifest."""

_HELP_SECONDS = 20.0
_UNSAFE = re.compile(r"[^a-z0-9.+_-]")

log = logging.getLogger(__name__)


class Converter(Protocol):
    """Makes a SIF of an image; `id` is part of the entry's key in the store.

    `disk_ratio` tells how much disk a conversion takes for each compressed byte.
    """

    disk_ratio: int

    @property
    def id(self) -> str:
        """Name and version: what else than the manifest decides the bytes that are made."""

    def convert(self, source: Source, target: Path, work: Path, progress: OnProgress) -> None:
        """Convert one image to the file `target`; `work` is an empty directory for its files.

        Raises RuntimeFailure with the converter's last words, and what the source raises.
        """


class ApptainerConverter:
    """Converts with `apptainer build`, which unpacks the layers and calls mksquashfs.

    `apptainer` is the program's path, or its name on `search_path`; it may take so many `seconds`.
    """

    disk_ratio = 6
    """Measured 4.4 to 5.3: the blobs, the unpacked tree, and the result."""

    def __init__(
        self,
        apptainer: str = "apptainer",
        search_path: str = SEARCH_PATH,
        seconds: float | None = None,
    ) -> None:
        self._apptainer = apptainer
        self._search_path = search_path
        self._seconds = seconds

    @cached_property
    def program(self) -> Path:
        """Apptainer's absolute path."""
        found = shutil.which(self._apptainer, path=self._search_path)
        if found is None:
            raise RuntimeFailure(
                f'"{self._apptainer}" is not installed on this node',
                "install Apptainer, or name its path: apptainer: ... in the settings",
            )
        return Path(found).absolute()

    @cached_property
    def id(self) -> str:
        """For example apptainer-1.4.5-1."""
        known = _UNSAFE.sub("_", version(str(self.program)).lower())
        return f"apptainer-{known}-{REVISION}"

    def convert(self, source: Source, target: Path, work: Path, progress: OnProgress) -> None:
        """Convert in a child process that has an environment of its own; see `Converter`."""
        layout = work / "layout"
        done = 0

        def arrived(count: int) -> None:
            nonlocal done
            done += count
            progress(Progress("fetch", done, source.size, source.name))

        write_layout(layout, source, arrived)
        progress(Progress("convert", 0, source.size, f"with {self.id}"))
        self._build(layout, target)

    def _build(self, layout: Path, target: Path) -> None:
        scratch = layout.parent / "scratch"
        scratch.mkdir()
        search_path = f"{self._name_for_spython(layout.parent)}:{self._search_path}"
        environment = build_environment(search_path, scratch)
        script = str(Path(__file__).with_name("spython_build.py"))
        # Relative, since Apptainer splits what follows "oci:" at colons.
        arguments = build_arguments(f"oci:{layout.name}", str(target), zstd=self._knows_zstd())
        argv = [sys.executable, "-I", script, str(os.getpid()), *arguments]
        try:
            done = run(argv, env=environment, cwd=layout.parent, check=False, timeout=self._seconds)
        except ProcessTimeoutError as error:
            raise RuntimeFailure(
                f"`apptainer build` goes beyond the limit seconds of {self._seconds}",
                "use a smaller image, or raise limits: {seconds: ...} in the settings",
            ) from error
        if done.returncode != 0:
            raise failure([str(self.program), *arguments], done.returncode, done.stderr)
        log.debug("apptainer build: %s", done.stderr.decode(errors="replace"))

    def _name_for_spython(self, scratch: Path) -> Path:
        """Make a directory where Apptainer has the one name that spython calls."""
        programs = scratch / "programs"
        programs.mkdir()
        (programs / "singularity").symlink_to(self.program)
        return programs

    def _knows_zstd(self) -> bool:
        ask = ["mksquashfs", "-help"]
        try:
            said = run(ask, env={"PATH": self._search_path}, timeout=_HELP_SECONDS, check=False)
        except RuntimeFailure:
            return (
                False  # Apptainer looks for it at more places, and says itself when it is missing
            )
        return b"zstd" in said.stdout + said.stderr
