"""Runs on a node as root: names the files of hpcimg that are opened while a command runs.

The arguments are the command; each line is a path that was opened, in order. Knows nothing of the
tests; Linux tells it by inotify, which the standard library does not speak.
"""

import ctypes
import os
import struct
import subprocess
import sys

OPENED = 0x20
PLACES = (
    "/etc/hpcimg",
    "/opt/hpcimg/bin",
    "/run/hpcimg",
    "/usr/bin/apptainer",
    "/usr/local/lib/hpcimg",
    "/usr/local/libexec/hpcimg",
    "/srv/hpcimg",
)


def main() -> None:
    """Watch, run, say."""
    libc = ctypes.CDLL(None, use_errno=True)
    events = libc.inotify_init1(os.O_NONBLOCK)
    watched = {}
    for place in PLACES:
        for folder, _, _ in [*os.walk(place)] or [(place, [], [])]:
            watched[libc.inotify_add_watch(events, folder.encode(), OPENED)] = folder
    subprocess.run(sys.argv[1:], check=True)
    try:
        raw = os.read(events, 1 << 20)
    except BlockingIOError:
        raw = b""
    while raw:
        number, _, _, size = struct.unpack_from("iIII", raw)
        name = raw[16 : 16 + size].rstrip(b"\0").decode()
        sys.stdout.write(f"{watched[number]}/{name}\n".replace("/\n", "\n"))
        raw = raw[16 + size :]


main()
