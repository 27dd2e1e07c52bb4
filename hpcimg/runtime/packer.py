"""The only file that knows mksquashfs: which one a node has, and its command line."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpcimg.runtime.sif import Sif

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where a conversion's programs are looked for, whatever the environment says."""

_MEMORY = "256M"
_ASK_SECONDS = 20.0
_IN_PROGRAM = re.compile(rb"version (\d+\.\d+(?:\.\d+)*) \(\d")
_SAID = re.compile(rb"version (\d+\.\d+(?:\.\d+)*)")
_ZSTD = b"zstd: -Xcompression-level"  # a complaint of the part that may be left out


@dataclass(frozen=True)
class Packer:
    """A mksquashfs; `version` is empty when it says none."""

    path: Path
    version: str
    knows_zstd: bool

    @property
    def lack(self) -> str:
        """Why it will not do, or an empty text."""
        if not self.version:
            return '"mksquashfs" says no version'
        major, minor = (int(number) for number in self.version.split(".")[:2])
        fits = self.knows_zstd and (major, minor) >= (4, 5)
        return "" if fits else '"mksquashfs" is older than 4.5, or does not know zstd'

    @property
    def passes_over_root_time(self) -> bool:
        """Whether -root-time is taken and does nothing."""
        return self.version == "4.5" or self.version.startswith("4.5.")

    def tree_argv(self, tree: str, target: str, offset: int, excluded: str) -> list[str]:
        """Write a directory's file system into a file that exists, from `offset` on."""
        return [
            str(self.path), tree, target, "-noappend", "-comp", "zstd", "-Xcompression-level", "3",
            "-offset", str(offset), "-all-root", "-no-xattrs", "-mem", _MEMORY,
            "-exit-on-error", "-quiet", "-no-progress", "-e", excluded,
        ]  # fmt: skip

    def argv(self, target: Path, sif: Sif) -> list[str]:
        """Write the file system of a tar stream into a file that exists, behind a SIF's header."""
        # What sqfstar does; but sqfstar 4.5 takes no compression level.
        # All belongs to root, as in what Apptainer makes as a user. A tar's root entry is passed
        # over, so the root directory is described here. To look for duplicates takes minutes with
        # many small files of one size, and saves one per cent of an ordinary image.
        fixed = ["-mkfs-time", str(sif.time), "-root-time", str(sif.time), "-root-mode", "755"]
        return [
            str(self.path), "-", str(target), "-tar", "-noappend", "-comp", "zstd",
            "-Xcompression-level", "3",
            "-offset", str(sif.offset), "-all-root", *fixed, "-mem", _MEMORY,
            "-no-duplicates", "-exit-on-error", "-quiet", "-no-progress",
            *(["-noI"] if self.passes_over_root_time else []),
        ]  # fmt: skip


def find_packer(search_path: str) -> Packer | None:
    """Find the node's mksquashfs, without starting it where its bytes tell what it is.

    Every launch asks, so that it knows the name of the entry that it needs.
    """
    found = shutil.which("mksquashfs", path=search_path)
    if found is None:
        return None
    path = Path(found)
    content = path.read_bytes()
    version = _IN_PROGRAM.search(content)
    if version is not None and content.startswith(b"\x7fELF"):
        return Packer(path, version[1].decode(), _ZSTD in content)
    return _asked(path, search_path)


def _asked(path: Path, search_path: str) -> Packer:
    """Ask it, as one that is a script around another."""
    from hpcimg.process import run

    answers = []
    for option in ("-version", "-help"):
        environment = {"PATH": search_path, "LC_ALL": "C.UTF-8"}
        done = run([path, option], env=environment, timeout=_ASK_SECONDS, check=False)
        answers.append(done.stdout + done.stderr)
    version = _SAID.search(answers[0])
    return Packer(path, version[1].decode() if version else "", b"zstd" in answers[1])
