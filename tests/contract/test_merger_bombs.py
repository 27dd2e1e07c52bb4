"""The merger against archives that are made to cost much: memory, time, rounds without end."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import programs
import pytest
from layers import Row, diff_id, run_merger, tar_of

HEADERS = Path("/usr/include/openssl/evp.h"), Path("/usr/include/zlib.h")
pytestmark = pytest.mark.skipif(
    not programs.has_compiler() or not all(header.exists() for header in HEADERS),
    reason="there is no C compiler, or not the headers of OpenSSL and zlib",
)
CORRUPT, FAILED, LIMITED, AGAIN = 65, 70, 73, 75
WIDE = (10**6, 10**9, 1000)


@pytest.fixture(scope="module")
def merger(tmp_path_factory) -> Path:
    """Give the program."""
    return programs.build_merger(tmp_path_factory.mktemp("merge"), sanitized=True)


def merge(merger: Path, *layers: bytes, limits=WIDE):
    """Merge archives, given from the bottom up."""
    return run_merger(
        merger, [gzip.compress(raw) for raw in layers], list(map(diff_id, layers)), limits
    )


def described(count: int, **headers: str) -> bytes:
    """Put PAX headers before one file, as often as it says."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a")
        member.pax_headers = {f"SCHILY.xattr.user.{name}": value for name, value in headers.items()}
        archive.addfile(member)
    whole = raw.getvalue()
    described = whole.index(b"a\0", 512) // 512 * 512
    while whole[described : described + 2] != b"a\0":
        described += 512
    return whole[:described] * count + whole[described:]


def test_hidden_links_in_a_ring_end(merger):
    """Two hidden links to each other, and a third one to them: there is no file behind it."""
    lower = tar_of([Row("a", "h", "b"), Row("b", "h", "a"), Row("c", "h", "a")])
    done = merge(merger, lower, tar_of([Row(".wh.a"), Row(".wh.b")]))
    assert done.returncode in {CORRUPT, AGAIN}, done.stderr


def test_directories_without_an_entry_count(merger):
    """A path may name a thousand of them, and costs memory for each."""
    rows = [Row(f"{at}/" + "/".join("x" * 1500)) for at in range(20)]
    done = merge(merger, tar_of(rows), limits=(40, 10**9, 1000))
    assert (done.returncode, done.stderr.split()[-1]) == (LIMITED, b"entries")


def test_a_hundred_headers_of_one_member_are_enough(merger):
    """They may go on for ever, and no entry is counted."""
    assert merge(merger, described(90, x="1")).returncode == 0
    done = merge(merger, described(101, x="1"))
    assert (done.returncode, b"too many headers" in done.stderr) == (CORRUPT, True)


def test_attributes_of_one_member_are_bounded(merger):
    """Each of its headers may be, and their sum would not."""
    done = merge(merger, described(50, x="1" * 50_000))
    assert (done.returncode, b"attributes that are too long" in done.stderr) == (CORRUPT, True)


def test_many_links_to_one_lower_file_take_no_longer_each(merger):
    """Thirty thousand wait for one file of a lower layer."""
    upper = tar_of([Row(f"x{at}", "h", "a") for at in range(30_000)])
    done = merge(merger, tar_of([Row("a", "f", "1")]), upper)
    assert done.returncode == 0, done.stderr


def test_no_memory_is_named(tmp_path):
    """As the limit that it is."""
    plain = programs.build_merger(tmp_path, sanitized=False)
    small = tmp_path / "small"
    small.write_text(f'#!/bin/sh\nulimit -d 16000\nexec {plain} "$@"\n')
    small.chmod(0o755)
    done = merge(small, tar_of([Row(f"x{at}" * 30) for at in range(60_000)]))
    assert (done.returncode, done.stderr.split()[-1]) == (LIMITED, b"memory")
