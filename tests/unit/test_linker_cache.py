"""The linker's cache, in the form that glibc writes."""

from __future__ import annotations

import struct

import pytest

from hpcimg.linker_cache import parse_linker_cache


def cache(*paths: str, before: bytes = b"") -> bytes:
    """Write one, after what an older form put before it."""
    texts, entries, at = b"", b"", 48 + 24 * len(paths)
    for path in paths:
        name = path.rpartition("/")[2].encode() + b"\0"
        key, value = at + len(texts), at + len(texts) + len(name)
        texts += name + path.encode() + b"\0"
        entries += struct.pack("=iIIIQ", 0x303, key, value, 0, 0)
    head = b"glibc-ld.so.cache1.1" + struct.pack("=II", len(paths), len(texts)) + bytes(20)
    return before + head + entries + texts


@pytest.mark.parametrize("before", [b"", b"ld.so-1.7.0\0" + bytes(36)])
def test_the_paths_come_in_the_linkers_order(before):
    """Of two with one name the first counts for the linker; the old form is skipped."""
    paths = ("/opt/new/libcuda.so.1", "/usr/lib/libcuda.so.1", "/usr/lib/libz.so.1")
    assert parse_linker_cache(cache(*paths, before=before)) == paths


@pytest.mark.parametrize("raw", [b"", b"\x7fELF", cache("/usr/lib/libz.so.1")[:60]])
def test_what_is_no_cache_names_nothing(raw):
    """Empty, another file, or cut off."""
    assert parse_linker_cache(raw) == ()
