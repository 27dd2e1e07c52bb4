"""What a shared library says of itself, from its bytes."""

from __future__ import annotations

import contextlib
import shutil
import struct
import subprocess

import pytest
from elves import AMD64, ARM64, S390X, library

from hpcimg.elf import HEADER_BYTES, Elf, NotElfError, exported_number, is_built_for, parse_elf


@pytest.mark.parametrize(
    ("machine", "word", "wide", "order"),
    [
        pytest.param(AMD64, "amd64", True, "<", id="amd64"),
        pytest.param(ARM64, "arm64", True, "<", id="arm64"),
        pytest.param(S390X, "s390x", True, ">", id="big-endian"),
        pytest.param(3, "386", False, "<", id="32-bit"),
        pytest.param(9999, "9999", True, "<", id="unknown"),
    ],
)
def test_a_library_of_any_machine_is_read(machine, word, wide, order):
    """Name, needs and versions are found in each width and byte order."""
    raw = library(
        "libmpi.so.12",
        ["libfabric.so.1", "libc.so.6"],
        ["GLIBC_2.9", "GLIBC_2.34", "GLIBC_2.3.4", "GLIBC_PRIVATE"],
        machine=machine,
        wide=wide,
        order=order,
    )
    assert parse_elf(raw) == Elf(word, "libmpi.so.12", ("libfabric.so.1", "libc.so.6"), "2.34", "")


def test_the_c_library_says_which_one_it_is():
    """The newest version that it defines is its own; what is private to it is none."""
    raw = library("libc.so.6", defines=["GLIBC_2.2.5", "GLIBC_2.36", "GLIBC_2.4", "GLIBC_ABI_X"])
    assert parse_elf(raw).defines == "2.36"


def test_a_library_may_say_nothing_of_itself():
    """No name, no needs: empty."""
    assert parse_elf(library()) == Elf("amd64", "", (), "", "")


@pytest.mark.parametrize(
    "raw", [b"", b"\x7fELF", b"#!/bin/sh\n" * 20, b"\x7fELF\x05\x01" + bytes(99)]
)
def test_what_is_no_library_is_refused(raw):
    """A script, a linker's text, an empty file."""
    with pytest.raises(NotElfError, match="it is"):
        parse_elf(raw)


def test_every_cut_and_every_flipped_byte_is_read_or_refused():
    """Whatever the bytes are, it ends, and with nothing else than NotElfError."""
    raw = library("libmpi.so.12", ["libc.so.6"], ["GLIBC_2.34"], ["GLIBC_2.36"])
    for at in range(len(raw)):
        for wrong in (raw[:at], raw[:at] + bytes([raw[at] ^ 0xFF]) + raw[at + 1 :]):
            with contextlib.suppress(NotElfError):
                assert isinstance(parse_elf(wrong), Elf)


@pytest.mark.parametrize(
    ("machine", "wide", "order", "built_for"),
    [
        pytest.param(AMD64, True, "<", {"amd64", "riscv64"}, id="amd64"),
        pytest.param(ARM64, True, "<", {"arm64", "riscv64"}, id="arm64"),
        pytest.param(21, True, "<", {"ppc64le", "riscv64"}, id="ppc64le"),
        pytest.param(21, True, ">", {"ppc64", "riscv64"}, id="ppc64"),
        pytest.param(3, False, "<", set(), id="32-bit"),
        pytest.param(AMD64, False, "<", set(), id="x32"),
    ],
)
def test_what_a_library_is_built_for(machine, wide, order, built_for):
    """Its first bytes tell; of an architecture that is not known here any library may be."""
    header = library(machine=machine, wide=wide, order=order)[:HEADER_BYTES]
    asked = ("amd64", "arm64", "ppc64", "ppc64le", "riscv64")
    assert {one for one in asked if is_built_for(header, one)} == built_for
    assert not any(is_built_for(header[:at], "amd64") for at in range(HEADER_BYTES))


def test_what_is_read_is_bounded_whatever_the_bytes_say():
    """Thousands of segments may name one table of thousands of rows: it is read once."""
    segments, rows = 4096, 4096
    at = 64 + 56 * segments
    names = at + 16 * rows
    head = struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, segments, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 0, 0, 0, 0, names + 9, names + 9, 1)
    table = struct.pack("<IIQQQQQQ", 2, 0, at, at, 0, 16 * rows, 16 * rows, 1)
    dynamic = struct.pack("<qQ", 5, names) + struct.pack("<qQ", 1, 0) * (rows - 1)
    raw = b"\x7fELF\x02\x01\x01" + bytes(9) + head + load + table * (segments - 1)
    assert len(parse_elf(raw + dynamic + b"libx.so\0\0").needed) == rows - 1


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc on this machine")
def test_what_gcc_makes_is_read(tmp_path):
    """The bytes of a real linker say the same as those built by hand."""
    source, made = tmp_path / "a.c", tmp_path / "libmpi.so.12.5.6"
    source.write_text('#include <stdio.h>\nvoid a(void) { puts("a"); }\n')
    options = ["-shared", "-fPIC", "-Wl,-soname,libmpi.so.12", "-o", made, source]
    subprocess.run(["gcc", *options], check=True)
    found = parse_elf(made.read_bytes())
    assert (found.soname, found.needed) == ("libmpi.so.12", ("libc.so.6",))
    assert found.glibc.startswith("2.")


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc on this machine")
def test_a_number_is_found_or_not_whatever_the_bytes_are(tmp_path):
    """Every place of the headers is flipped, and every hundredth cut."""
    source, made = tmp_path / "a.c", tmp_path / "a.so"
    source.write_text("const unsigned version = 7;\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-s", "-o", made, source], check=True)
    raw = made.read_bytes()
    assert exported_number(raw, "version") == 7
    flipped = [raw[:at] + bytes([raw[at] ^ 0xFF]) + raw[at + 1 :] for at in range(2048)]
    for wrong in (*flipped, *(raw[:at] for at in range(0, len(raw), 100))):
        assert exported_number(wrong, "version") is None or len(wrong) == len(raw)
