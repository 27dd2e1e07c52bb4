"""A container's files written to an image file: a squashfs, or a SIF around one.

Whole or not at all: under a name of its own until it is done. It must not know whose files.
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from hpcimg.errors import HpcimgError, RuntimeFailure, StoreError, UsageError
from hpcimg.oci.model import normalise_platform
from hpcimg.process import run
from hpcimg.quoting import quoted
from hpcimg.runtime.image_file import form_of
from hpcimg.runtime.packer import SEARCH_PATH, Packer, find_packer
from hpcimg.runtime.sif import Kind, Part, Sif

SUFFIXES = (".sqsh", ".squashfs", ".sif")

_HOLDER = ".hpcimg-holder"
"""Where the launch puts its own program, which is no part of an image."""
_DEFINITION = b"bootstrap: localimage\nfrom: a container that hpcimg saved\n"


def save_tree(tree: Path, target: Path) -> int:
    """Write the files under `tree` to `target`; give its size. What `target` was is replaced.

    Raises UsageError for a name that says no format, StoreError and RuntimeFailure.
    """
    if target.suffix not in SUFFIXES:
        hint = f"end its name in {', '.join(SUFFIXES)}"
        raise UsageError(f"{quoted(target)} says no format of an image", hint)
    _check_place(target)
    packer = find_packer(SEARCH_PATH)
    if packer is None or packer.lack:
        lack = packer.lack if packer else '"mksquashfs" is not installed'
        raise RuntimeFailure(f"could not save to {quoted(target)}: {lack}", "ask the site for it")
    try:
        descriptor, name = tempfile.mkstemp(".part", f".{target.name[:64]}-", target.parent)
        os.close(descriptor)
        try:
            return _write(packer, tree, Path(name), target)
        finally:
            with suppress(FileNotFoundError):
                Path(name).unlink()
    except OSError as error:
        raise StoreError(
            f"could not save to {quoted(target)}: {error.strerror}", "name a file in your own space"
        ) from error


def _check_place(target: Path) -> None:
    """Let an older image be replaced, and nothing else: somebody's file may have the name."""
    if target.is_symlink() or not target.exists():
        return
    with suppress(HpcimgError):
        if form_of(target) == "file":
            return
    raise UsageError(
        f"could not save to {quoted(target)}: there is something else, which is no image",
        "name another file, or remove that one",
    )


def _write(packer: Packer, tree: Path, temporary: Path, target: Path) -> int:
    sif = _sif() if target.suffix == ".sif" else None
    argv = packer.tree_argv(".", str(temporary), sif.offset if sif else 0, _HOLDER)
    run(argv, cwd=tree, env={"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8"})
    if sif:
        sif.finish(temporary)
    umask = os.umask(0)
    os.umask(umask)
    with temporary.open("rb+") as file:
        os.fchmod(file.fileno(), 0o666 & ~umask)
        os.fsync(file.fileno())
    temporary.replace(target)
    return target.stat().st_size


def _sif() -> Sif:
    _, architecture, _ = normalise_platform("linux", platform.machine())
    parts = (Part(Kind.DEFINITION, _DEFINITION),)
    return Sif(os.urandom(16), int(time.time()), architecture, parts)
