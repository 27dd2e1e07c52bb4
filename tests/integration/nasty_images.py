"""Run on the login node as root: make images that are nasty to unpack, and push them.

Usage: python3 nasty_images.py MAKE_IMAGES REGISTRY. It prints the images' names, a line each.
"""

from __future__ import annotations

import ctypes
import gzip
import hashlib
import importlib.util
import io
import subprocess
import sys
import tarfile
from pathlib import Path

spec = importlib.util.spec_from_file_location("make_images", sys.argv[1])
make_images = importlib.util.module_from_spec(spec)
sys.modules["make_images"] = make_images
spec.loader.exec_module(make_images)

PLAIN = "application/vnd.docker.image.rootfs.diff.tar"
KINDS = {"d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE, "h": tarfile.LNKTYPE, "p": tarfile.FIFOTYPE,
         "f": tarfile.REGTYPE}  # fmt: skip


def tar_of(*rows, form=tarfile.PAX_FORMAT):
    """Write (path, kind, text, mode) rows as an archive."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form) as archive:
        for row in rows:
            path, kind, text, mode = (*row, *("f", "", 0o755)[len(row) - 1 :])
            member = tarfile.TarInfo(path)
            member.type, member.mode, member.mtime = KINDS[kind], mode, 1_500_000_000
            content = text.encode() if kind == "f" else b""
            member.size, member.linkname = len(content), text if kind in "lh" else ""
            if path.startswith("attributes"):
                member.pax_headers = {"SCHILY.xattr.user.hello": "world"}
            archive.addfile(member, io.BytesIO(content))
    return raw.getvalue()


def layer(raw, pack=None, kind=make_images._LAYER_TYPE):
    """Pack an archive; its blob and diff_id."""
    packed = gzip.compress(raw, mtime=0) if pack is None else pack(raw)
    return make_images.Blob(packed, kind), f"sha256:{hashlib.sha256(raw).hexdigest()}"


def sparse(*options):
    """Let tar write a file with holes."""
    place = Path("/run/sparse")
    with place.open("wb") as file:
        for at in range(40):
            file.seek(at * 1_000_000)
            file.write(b"x" * 5000)
    argv = ["tar", "--sparse", *options, "-C", "/run", "-cf", "-", "sparse"]
    raw = subprocess.run(argv, check=True, capture_output=True).stdout
    place.unlink()
    return raw


def in_members(raw):
    """Compress in three gzip members."""
    third = len(raw) // 3
    parts = (raw[:third], raw[third : 2 * third], raw[2 * third :])
    return b"".join(gzip.compress(part, mtime=0) for part in parts)


def zstd(raw):
    """Compress in two frames; the nodes have zstd as a library only."""
    library = ctypes.CDLL("libzstd.so.1")
    frames = []
    for part in (raw[: len(raw) // 2], raw[len(raw) // 2 :]):
        room = ctypes.create_string_buffer(len(part) + 1000)
        size = library.ZSTD_compress(room, len(room), part, len(part), 3)
        frames.append(room.raw[:size])
    return b"".join(frames)


LONG = "/".join(["d" * 120, "e" * 120, "f" * 100])
SHADOW = ("etc/shadow", "f", "root:*:\n", 0o600)
IMAGES = {
    "whiteouts": [
        layer(tar_of(("a", "d"), ("a/x", "f", "1"), ("a/y", "f"), ("b/c/d", "f", "3"), SHADOW)),
        layer(tar_of(("a", "d"), ("a/.wh.x", "f"), (".wh.b", "f"), ("n", "f", "4"))),
    ],
    "opaque": [
        layer(tar_of(("a", "d"), ("a/x", "f", "1"), ("a/s", "d"), ("a/s/t", "f", "2"))),
        layer(tar_of(("a", "d"), ("a/.wh..wh..opq", "f"), ("a/s", "d"), ("a/new", "f", "3"))),
    ],
    "links": [
        layer(tar_of(("a", "f", "1"), ("b", "h", "a"), ("c", "h", "a"), ("s", "l", "a"))),
        layer(tar_of(("d", "h", "b"), ("e", "f", "2"), ("f", "h", "e"))),
        layer(tar_of((".wh.a", "f"), ("g", "h", "c"))),
    ],
    "changes": [
        layer(tar_of(("a", "f", "1"), ("b", "d"), ("b/x", "f", "2"), ("c", "l", "b"), ("t", "d"))),
        layer(tar_of(("a", "d"), ("a/y", "f", "3"), ("b", "f", "4"), ("c", "d"), ("c/z", "f"))),
    ],
    "parents": [
        layer(tar_of(("usr", "d"), ("usr/lib", "d"), ("lib", "l", "usr/lib"), ("o", "l", "/usr"))),
        layer(tar_of(("lib/x", "f", "1"), ("o/lib/y", "f", "2"), ("new/deep/z", "f", "3"))),
    ],
    "outside": [
        layer(tar_of(("../../etc/up", "f", "1"), ("/abs", "f", "2"), ("l", "l", "../../../etc"))),
        layer(tar_of(("l/down", "f", "3"), ("p", "p"), ("a/../../b", "f", "4"))),
    ],
    "twice": [layer(tar_of(("a", "f", "1"), ("b", "h", "a"), ("a", "f", "2"), ("d", "d"),
                           ("d", "d", "", 0o700), ("d/x", "f", "3")))],
    "long-pax": [layer(tar_of((LONG, "f", "1"), ("l", "l", LONG), ("h", "h", LONG)))],
    "long-gnu": [layer(tar_of((LONG, "f", "1"), ("l", "l", LONG), ("h", "h", LONG),
                              ("\udcff\udcfe", "f", "2"), form=tarfile.GNU_FORMAT))],
    "modes": [layer(tar_of(("a", "f", "1", 0o4755), ("b", "f", "2", 0o2711), ("c", "d", "", 0o1777),
                           ("e", "f", "3", 0o444), ("attributes", "f", "4")))],
    "sparse": [layer(sparse("--format=pax", "--sparse-version=1.0"))],
    "sparse-0": [layer(sparse("--format=pax", "--sparse-version=0.1"))],
    "members": [layer(tar_of(("a", "f", "1" * 100_000), ("b", "f", "2")), in_members)],
    "plain": [layer(tar_of(("a", "f", "1")), bytes, PLAIN), layer(tar_of(("b", "f", "2")))],
    "hundred": [layer(tar_of((f"x{at}", "f", str(at)), (f"d/{at % 7}", "f", str(at))))
                for at in range(100)],
    "empty": [layer(tar_of()), layer(tar_of(("a", "f", "1"))), layer(tar_of())],
    "zstd": [layer(tar_of(("a", "f", "1" * 100_000), ("b", "h", "a")), zstd)],
    "many": [layer(tar_of(*((f"m/{at % 40}/{at}", "f", str(at)) for at in range(8000))))],
}  # fmt: skip
CONFIG = {
    "Env": ["PATH=/usr/local/bin:/bin", "PLAIN=a b", "QUOTED=it's \"so\" $HOME `x` \\ ü", "EMPTY=",
            "9BAD=1"],
    "Entrypoint": ["/bin/echo", "en try", "it's", "$HOME"],
    "Cmd": ["co mm", "and"],
    "Labels": {"org.example": 'one "two" ü', "other": "2"},
    "WorkingDir": "/tmp",
}  # fmt: skip

for name, layers in IMAGES.items():
    busybox = make_images.pack(make_images.busybox_entries())
    make_images.push(f"{sys.argv[2]}/nasty/{name}:latest", [busybox, *layers], CONFIG)
    print(f"nasty/{name}")  # noqa: T201 - the answer
