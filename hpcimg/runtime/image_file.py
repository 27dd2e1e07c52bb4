"""An image in a file or a directory that the user names: whether it is there and what it is.

Looked at by the user who named it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

from hpcimg.errors import NotFoundError, UsageError
from hpcimg.quoting import quoted

Form = Literal["file", "sandbox", "layout"]

_SIF_MAGIC, _SIF_AT = b"SIF_MAGIC", 32
_SQUASHFS_MAGIC = b"hsqs"
_HEAD = 64
_FORMATS = "SIF, squashfs (.sqsh), a sandbox directory or an OCI layout"


def form_of(path: Path) -> Form:
    """Tell what a path is; raises NotFoundError where it cannot be read, UsageError for the rest.

    Apptainer itself looks closer, and says what it does not like.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFoundError(
            f"could not open image {quoted(path)}: {error.strerror}",
            "is the path right, and may you read it on this node?",
        ) from error
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            return _form_of_directory(path)
        head = os.read(descriptor, _HEAD) if stat.S_ISREG(mode) else b""
    finally:
        os.close(descriptor)
    if not (head.startswith(_SQUASHFS_MAGIC) or head[_SIF_AT:].startswith(_SIF_MAGIC)):
        raise UsageError(f"{quoted(path)} is no image", f"name {_FORMATS}")
    return "file"


def _form_of_directory(path: Path) -> Form:
    if (path / "oci-layout").is_file():
        return "layout"
    if any((path / name).is_dir() for name in ("bin", "usr", ".singularity.d")):
        return "sandbox"
    raise UsageError(f"directory {quoted(path)} holds no image", f"name {_FORMATS}")
