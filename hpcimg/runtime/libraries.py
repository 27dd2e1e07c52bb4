"""Finds libraries in an image without starting it: squashfs-tools list it and give the files.

Only for images of a store, which a converter of ours packed; what they say is still believed by
nobody until it is parsed.
"""

from __future__ import annotations

import io
import posixpath
import re
import shutil
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from hpcimg.elf import NotElfError, parse_elf
from hpcimg.errors import RuntimeFailure
from hpcimg.library import LIBC, Found, Library, stem_of
from hpcimg.process import read_output
from hpcimg.runtime.packer import SEARCH_PATH
from hpcimg.runtime.sif import read_partition

_SECONDS = 120.0
"""For all that is asked of one image."""
_FILE_BYTES = 256 << 20
_LISTING_BYTES = 512 << 20
_MOST = 64
"""Libraries that are read; an image with more of one MPI is none that people made."""
_LINE = re.compile(r"([l-])\S+ \S+ +\d+ \S+ \S+ squashfs-root/([\w.+@/-]+)(?: -> (\S+))?")
_HOPS = 8


def find_libraries(image: Path, stems: Collection[str]) -> Found:
    """Find the libraries of these stems and the C library; raises RuntimeFailure."""
    reader = _Reader(image)
    files, links = _named(reader.listing(), stems)
    names: dict[str, set[str]] = {path: set() for path in files}
    for link in links:
        target = _follow(link, links)
        if target in names:
            names[target].add(posixpath.basename(link))
    libraries, glibc = [], ""
    for path in sorted(names)[:_MOST]:
        found = _library(path, sorted(names[path]), reader.content(path))
        if posixpath.basename(path) == LIBC or LIBC in names[path]:
            glibc = glibc or found.glibc
        else:
            libraries.append(found)
    return Found(tuple(libraries), glibc)


class _Reader:
    """One image's file system, by unsquashfs."""

    def __init__(self, image: Path) -> None:
        program = shutil.which("unsquashfs", path=SEARCH_PATH)
        if program is None:
            raise RuntimeFailure(
                '"unsquashfs" is not on this node, which looks into images',
                "install squashfs-tools",
            )
        with image.open("rb") as file:
            partition = read_partition(file, image.stat().st_size)
        if partition is None:
            raise RuntimeFailure(f'"{image}" has no file system')
        self._words = [program, "-no-progress", "-offset", str(partition.offset)]
        self._image = str(image)
        self._end = time.monotonic() + _SECONDS

    def listing(self) -> Iterable[str]:
        """List all files, a line each."""
        said = self._ask(["-lln", self._image], _LISTING_BYTES)
        return (line.rstrip(b"\n").decode(errors="replace") for line in io.BytesIO(said))

    def content(self, path: str) -> bytes:
        """Give the bytes of a file; one that is endless fails."""
        words = ["-no-wildcards", "-cat", self._image, path.lstrip("/")]
        return self._ask(words, _FILE_BYTES)

    def _ask(self, words: Sequence[str], most: int) -> bytes:
        left = max(0.1, self._end - time.monotonic())
        argv = [*self._words, *words]
        return read_output(argv, most, env={"LC_ALL": "C"}, timeout=left)


def _named(lines: Iterable[str], stems: Collection[str]) -> tuple[list[str], dict[str, str]]:
    """Pick the files that are wanted, and the links with such a name, from a listing."""
    files, links = [], {}
    for line in lines:
        match = _LINE.fullmatch(line)
        # A name with a line's end in it can be anything on the next line.
        if match is None or ".." in match[2].split("/"):
            continue
        path = f"/{match[2]}"
        name = posixpath.basename(path)
        # A C library before 2.34 is a file libc-2.31.so, and libc.so.6 a link to it.
        if (
            name != LIBC
            and not re.fullmatch(r"libc-2\.\d+\.so", name)
            and stem_of(name) not in stems
        ):
            continue
        if match[1] == "l":
            links[path] = posixpath.normpath(
                posixpath.join(posixpath.dirname(path), match[3] or "")
            )
        else:
            files.append(path)
    return files, links


def _follow(link: str, links: dict[str, str]) -> str:
    for _ in range(_HOPS):
        if link not in links:
            break
        link = links[link]
    return link


def _library(path: str, names: Collection[str], content: bytes) -> Library:
    try:
        elf = parse_elf(content)
    except NotElfError:
        return Library(path, tuple(names))
    # What the C library defines is its own version; all others only need one.
    glibc = elf.defines or elf.glibc
    return Library(path, tuple(names), elf.soname, elf.machine, elf.needed, glibc)
