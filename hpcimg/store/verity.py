"""fs-verity: a file that the kernel holds to its bytes, where the file system has it.

Knows two ioctls of Linux; a file system without them is no fault.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
from pathlib import Path

log = logging.getLogger(__name__)

# From linux/fsverity.h: _IOW('f', 133, 128 bytes) and _IOWR('f', 134, 4 bytes).
_ENABLE = 0x40806685
_MEASURE = 0xC0046686
_ALGORITHMS = {1: "sha256", 2: "sha512"}
_VERSION, _SHA256, _BLOCK = 1, 1, 4096


def seal_file(path: Path) -> str:
    """Switch fs-verity on for a file that is whole; give its measure, empty where there is none."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        asked = struct.pack("<4I", _VERSION, _SHA256, _BLOCK, 0).ljust(128, b"\0")
        fcntl.ioctl(descriptor, _ENABLE, asked)
        return measure(descriptor) or ""
    except OSError as error:
        log.debug('no fs-verity for "%s": %s', path, error.strerror)
        return ""
    finally:
        os.close(descriptor)


def measure(descriptor: int) -> str | None:
    """Give what the kernel holds an open file to, as `sha256:…`; None where it holds it to nothing.

    The kernel checks each block against this when it is read, so nothing has to be read now.
    """
    room = struct.pack("<HH", 0, 64) + bytes(64)
    try:
        found = fcntl.ioctl(descriptor, _MEASURE, room)
    except OSError as error:
        if error.errno in _NOT_SEALED:
            return None
        raise
    algorithm, size = struct.unpack_from("<HH", found)
    return f"{_ALGORITHMS.get(algorithm, algorithm)}:{found[4 : 4 + size].hex()}"


_NOT_SEALED = {
    errno.ENODATA,
    errno.ENOTTY,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EINVAL,
    errno.EPERM,
    errno.EACCES,
}
