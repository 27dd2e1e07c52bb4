"""A file that is a SIF by its header, for tests that store images and never run them."""

from __future__ import annotations

import struct


def sif_bytes(payload: bytes = b"squashfs") -> bytes:
    """Make a SIF with one data object, at the offset that real ones have."""
    offset = 32176
    header = struct.pack(
        "<32s10s3s3s16s8q",
        b"#!/usr/bin/env run-singularity\n\0",
        b"SIF_MAGIC\0",
        b"01\0",
        b"02\0",
        b"i" * 16,
        1,
        1,
        47,
        48,
        4096,
        28080,
        offset,
        len(payload),
    )
    return header.ljust(offset, b"\0") + payload
