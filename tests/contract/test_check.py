"""A converted image is looked at again: each thing that no converter writes is found."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from hpcimg.errors import RuntimeFailure
from hpcimg.runtime.check import ZSTD, check_image
from hpcimg.runtime.sif import Kind, Part, Sif

pytestmark = pytest.mark.skipif(
    shutil.which("mksquashfs") is None, reason="mksquashfs is not installed"
)
HEADER = Sif(b"i" * 16, 1, "amd64", (Part(Kind.DEFINITION, b"x"),))
AT = HEADER.offset


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    """Give a SIF that is in order."""
    folder = tmp_path_factory.mktemp("image")
    (folder / "root").mkdir()
    (folder / "root/file").write_text("hello")
    path = folder / "image"
    argv = ["mksquashfs", folder / "root", path, "-offset", str(AT), "-comp", "zstd", "-quiet"]
    subprocess.run([*argv, "-no-progress"], check=True, capture_output=True)
    HEADER.finish(path)
    return path.read_bytes()


def changed(raw: bytes, at: int, form: str, value: int) -> bytes:
    """Put a number somewhere."""
    size = struct.calcsize(form)
    return raw[:at] + struct.pack(form, value) + raw[at + size :]


def test_a_whole_image_passes(whole, tmp_path):
    """And says what was found."""
    path = tmp_path / "image"
    path.write_bytes(whole)
    found = check_image(path, ZSTD)
    assert (found.offset, found.size, found.inodes) == (AT, len(whole) - AT, 2)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda raw: raw[:100], "has no file system"),
        (lambda raw: b"#!/bin/sh\n" + raw[10:32] + b"x" + raw[33:], "has no file system"),
        (lambda raw: raw[:-4096], "has no file system, or one that goes beyond its end"),
        (lambda raw: changed(raw, AT, "<I", 0), "has no squashfs"),
        (lambda raw: changed(raw, AT + 20, "<H", 1), "a squashfs of compression 1"),
        (lambda raw: changed(raw, AT + 22, "<H", 40), "a bad superblock"),
        (lambda raw: changed(raw, AT + 40, "<Q", 1 << 40), "goes beyond its end"),
        (lambda raw: changed(raw, AT + 64, "<Q", 1 << 40), "a table beyond its end"),
        (lambda raw: changed(raw, AT + 72, "<Q", 96), "whose tables are not in order"),
        (lambda raw: changed(raw, AT + 32, "<Q", 1 << 40), "without a root directory"),
    ],
    ids=["short", "magic", "cut", "no squashfs", "gzip", "block", "used", "table", "order", "root"],
)
def test_what_is_wrong_is_said(whole, tmp_path, spoil, words):
    """Before somebody mounts it."""
    path = tmp_path / "image"
    path.write_bytes(spoil(whole))
    with pytest.raises(RuntimeFailure, match=words):
        check_image(path, ZSTD)


def test_a_link_is_not_followed(whole, tmp_path):
    """Whoever put it there."""
    Path(tmp_path / "real").write_bytes(whole)
    (tmp_path / "image").symlink_to("real")
    with pytest.raises(OSError, match="symbolic links"):
        check_image(tmp_path / "image", ZSTD)
