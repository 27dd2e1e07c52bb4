"""The merger against a model of the rules, with every form of archive, and with hostile ones."""

from __future__ import annotations

import gzip
import io
import struct
import subprocess
import tarfile
from pathlib import Path

import programs
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from layers import Model, ModelRefusesError, Row, diff_id, merged, run_merger, tar_of, tree_of

HEADERS = Path("/usr/include/openssl/evp.h"), Path("/usr/include/zlib.h")
pytestmark = pytest.mark.skipif(
    not programs.has_compiler() or not all(header.exists() for header in HEADERS),
    reason="there is no C compiler, or not the headers of OpenSSL and zlib",
)
CORRUPT, LIMITED = 65, 73
WIDE = (10**6, 10**9, 1000)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "sanitized"])
def merger(request, tmp_path_factory) -> Path:
    """Give the program."""
    return programs.build_merger(tmp_path_factory.mktemp("merge"), sanitized=request.param)


def both(merger: Path, *layers: list[Row]) -> dict[str, tuple[str, str]]:
    """Merge layers with the program and with the model, which must agree."""
    model = Model()
    for rows in layers:
        model.apply(rows)
    found = merged(merger, [tar_of(rows) for rows in layers])
    assert found == model.tree
    return found


CASES = {
    "whiteout": ([Row("a", "d"), Row("a/x"), Row("a/y")], [Row("a", "d"), Row("a/.wh.x")]),
    "whiteout of a directory": ([Row("a/x/y"), Row("a/z")], [Row("a/.wh.x")]),
    "whiteout and new": ([Row("a", "f", "1"), Row("b")], [Row(".wh.a"), Row("a", "f", "2")]),
    "whiteout after new": ([Row("a", "f", "1")], [Row("a", "f", "2"), Row(".wh.a")]),
    "opaque": ([Row("a/x"), Row("a/y/z")], [Row("a", "d"), Row("a/y", "d"), Row("a/.wh..wh..opq")]),
    "file to directory": ([Row("a", "f", "1")], [Row("a", "d"), Row("a/x", "f", "2")]),
    "directory to file": ([Row("a/x"), Row("a/y")], [Row("a", "f", "1")]),
    "link across layers": ([Row("a", "f", "1")], [Row("b", "h", "a")]),
    "link across, target gone": ([Row("a", "f", "1")], [Row("b", "h", "a")], [Row(".wh.a")]),
    "link across, target new": ([Row("a", "f", "1")], [Row("b", "h", "a")], [Row("a", "f", "2")]),
    "links, first name gone": ([Row("a", "f", "1"), Row("b", "h", "a"), Row("c", "h", "b")],
                               [Row(".wh.a")]),
    "links, all below": ([Row("a", "f", "1"), Row("b", "h", "a")], [Row("c", "h", "b")]),
    "link to a link": ([Row("a", "l", "x"), Row("b", "h", "a")], [Row("c", "h", "b")]),
    "parent is a lower link": ([Row("usr/lib", "d"), Row("lib", "l", "usr/lib")],
                               [Row("lib/x", "f", "1")]),
    "parent is a lower link, deep": ([Row("r/s", "d"), Row("a", "l", "b"), Row("b", "l", "/r")],
                                     [Row("a/s/x", "f", "1")]),
    "a link takes a directory's place": ([Row("a/x")], [Row("b", "d"), Row("a", "l", "b")]),
    "a directory takes a link's place": ([Row("b/x"), Row("a", "l", "b")],
                                         [Row("a", "d"), Row("a/y")]),
    "parent is a link of its layer": ([Row("b", "d"), Row("a", "l", "b"), Row("a/x", "f", "1")],),
    "a file twice": ([Row("a", "f", "1"), Row("b"), Row("a", "f", "2")],),
    "a file three times, links between": ([Row("a", "f", "1"), Row("b", "h", "a"),
                                           Row("a", "f", "2"), Row("c", "h", "a"),
                                           Row("a", "f", "3")],),
    "file, directory, file": ([Row("a"), Row("a", "d"), Row("a/x"), Row("a", "f", "3")],),
    "out of the root": ([Row("../../a"), Row("/b/../../c", "f", "2"), Row("d/../../../e")],),
    "a link out of the root": ([Row("a", "l", "../../../etc"), Row("a/x", "f", "1")],),
    "a link to an outside": ([Row("a", "l", "/etc")], [Row("a/passwd", "f", "1")]),
    "links over three layers": ([Row("a", "f", "1"), Row("b", "h", "a"), Row("c", "h", "a")],
                                [Row("d", "h", "b")], [Row(".wh.a"), Row("g", "h", "c")]),
    "a link to a file that is there twice": ([Row("b", "f", "1"), Row("b", "f", "2")],
                                             [Row("a", "h", "b")], [Row(".wh.b")]),
    "directory, file, directory": ([Row("b/a")], [Row("b")], [Row("b", "d")]),
    "a replaced name of a hidden file": ([Row("a"), Row("b", "h", "a"), Row("b", "d")],
                                         [Row(".wh.a")]),
    "nothing": ([], [Row("a")], []),
    "a hundred layers": tuple([Row(f"d/{at % 7}", "f", str(at)), Row(f"x{at}")]
                              for at in range(100)),
}  # fmt: skip


@pytest.mark.parametrize("layers", CASES.values(), ids=CASES)
def test_it_makes_the_tree_that_the_rules_make(merger, layers):
    """Each rule of conversion: from the top down the same as from the bottom up."""
    assert both(merger, *layers) or not any(layers)


NAMES = st.sampled_from(["a", "b", "a/b", "a/c", "b/a", "a/b/c", "b/a/c"])
ROWS = st.one_of(
    st.builds(Row, NAMES, st.just("f"), st.sampled_from(["1", "2", "3"])),
    st.builds(Row, NAMES, st.just("d")),
    st.builds(Row, NAMES, st.just("h"), NAMES),
    st.sampled_from([Row(".wh.a"), Row("a/.wh.b"), Row("a/.wh..wh..opq"), Row("b/.wh.a")]),
)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(ROWS, max_size=5), min_size=1, max_size=4))
def test_any_layers_make_the_tree_that_the_rules_make(merger, layers):
    """Layers that nobody has thought of."""
    try:
        both(merger, *layers)
    except ModelRefusesError:
        assume(False)


FORMS = [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]


@pytest.mark.parametrize("form", FORMS, ids=["pax", "gnu"])
def test_long_and_odd_names(merger, form):
    """Names and targets beyond a header's fields, and of any bytes."""
    long = "/".join(["d" * 200, "e" * 200])
    rows = [Row(long, "f", "1"), Row("l", "l", long), Row("h", "h", long), Row("\udcff\n\udcfe é")]
    stream = tar_of(rows, form)
    found = merged(merger, [stream])
    assert found[long] == found["h"] == ("f", "1")
    assert found["l"] == ("l", long)
    assert "\udcff\n\udcfe é" in found


@pytest.mark.parametrize("pack", ["gzip", "members", "none", "zstd", "frames"])
def test_every_compression(merger, tmp_path, pack):
    """Gzip in one or several members, zstd in one or several frames, none at all."""
    raw = tar_of([Row("a", "f", "1" * 700_000), Row("b", "f", "2")])
    half = len(raw) // 2

    def zstd(part: bytes) -> bytes:
        done = subprocess.run(["zstd", "-c"], input=part, capture_output=True, check=True)
        return done.stdout

    try:
        blob = {
            "gzip": lambda: gzip.compress(raw),
            "members": lambda: gzip.compress(raw[:half]) + gzip.compress(raw[half:]) + bytes(512),
            "none": lambda: raw,
            "zstd": lambda: zstd(raw),
            "frames": lambda: zstd(raw[:half]) + zstd(raw[half:]),
        }[pack]()
    except FileNotFoundError:
        pytest.skip("zstd is not installed")
    done = run_merger(merger, [blob], [diff_id(raw)], WIDE)
    if b"built without" in done.stderr:
        pytest.skip("the headers of zstd are not installed")
    assert done.returncode == 0, done.stderr
    assert tree_of(done.stdout) == {"a": ("f", "1" * 700_000), "b": ("f", "2")}


def sparse(version: str, folder: Path) -> bytes:
    """Let GNU tar write a file with holes."""
    place = folder / "holes"
    with place.open("wb") as file:
        for at in range(60):
            file.seek(at * 100_000)
            file.write(b"x%d" % at)
        file.truncate(7_000_000)
    form = ["--format=gnu"] if version == "gnu" else [f"--sparse-version={version}", "--format=pax"]
    argv = ["tar", "--sparse", *form, "-C", str(folder), "-cf", "-", "holes"]
    return subprocess.run(argv, check=True, capture_output=True).stdout


@pytest.mark.parametrize("version", ["gnu", "0.0", "0.1", "1.0"])
def test_sparse_files_are_whole(merger, tmp_path, version):
    """GNU's old form and the three PAX forms give the bytes that the file has."""
    raw = sparse(version, tmp_path)
    assert len(raw) < 1_000_000, "the archive has no holes"
    found = merged(merger, [raw])
    assert found == {"holes": ("f", (tmp_path / "holes").read_text())}


def test_modes_times_and_attributes_are_kept(merger):
    """Also set-id bits, which are inert later; of attributes the user's own; devices are not."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a")
        member.mode, member.mtime, member.uid = 0o4751, -5, 1234
        member.pax_headers = {"SCHILY.xattr.user.x": "ü", "SCHILY.xattr.security.capability": "y"}
        archive.addfile(member)
        device = tarfile.TarInfo("dev")
        device.type = tarfile.CHRTYPE
        archive.addfile(device)
    done = run_merger(merger, [raw.getvalue()], ["-"], WIDE)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        (found,) = archive.getmembers()
    assert (found.mode, found.mtime, found.uid) == (0o4751, -5, 0)
    assert found.pax_headers == {"SCHILY.xattr.user.x": "ü"}


RAW = tar_of([Row("a", "f", "1" * 100_000)])
ZIPPED = gzip.compress(RAW)
BROKEN = {
    "cut": (ZIPPED[:-9], diff_id(RAW), b"it ends in the middle"),
    "flipped": (ZIPPED[:40] + b"\xff\x00\xff" + ZIPPED[43:], diff_id(RAW), b"it is not valid gzip"),
    "checksum": (ZIPPED[:-8] + bytes(8), diff_id(RAW), b"it is not valid gzip"),
    "tail": (ZIPPED + b"hello" * 9, diff_id(RAW), b"it is not valid gzip"),
    "other diff_id": (ZIPPED, diff_id(b""), b"is not what the image's config says (diff_id)"),
    "no tar": (b"x" * 1024, diff_id(b"x" * 1024), b"it is no tar archive, or a damaged one"),
    "tar cut in a header": (RAW[:100], diff_id(RAW[:100]), b"it ends in the middle"),
    "tar cut in a file": (RAW[:9000], diff_id(RAW[:9000]), b"it ends in the middle"),
}


@pytest.mark.parametrize(("blob", "name", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_layer_is_refused(merger, blob, name, reason):
    """With the reason, and the layer's number from the top."""
    done = run_merger(merger, [blob, gzip.compress(tar_of([]))], [name, "-"], WIDE)
    assert done.returncode == CORRUPT
    assert done.stderr.startswith(b"1 ")
    assert reason in done.stderr


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([Row("a", "h", "nowhere")], b'the hard link "a" leads nowhere'),
        ([Row("a", "d"), Row("b", "h", "a")], b'the hard link "b" leads to a directory'),
        ([Row("a"), Row("a/b")], b'it has files in "a", which is no directory'),
        ([Row("a", "l", "a"), Row("a/b")], b'"a/b" lies behind too many symbolic links'),
        ([Row("x" * 256)], b"it has a name that is too long"),
    ],
)
def test_what_no_tree_can_hold_is_refused(merger, rows, reason):
    """Not passed over in silence."""
    done = run_merger(merger, [tar_of(rows)], ["-"], WIDE)
    assert (done.returncode, reason in done.stderr) == (CORRUPT, True), done.stderr


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        ((1, 10**9, 1000), b"entries"),
        ((10, 100_000, 1000), b"unpacked_bytes"),
        ((10, 10**9, 100), b"ratio"),
    ],
)
def test_each_limit_is_named(merger, limits, name):
    """Entries, bytes, and a bomb's ratio."""
    raw = tar_of([Row("a", "f", "0" * 100_000_000), Row("b")])
    done = run_merger(merger, [gzip.compress(raw, 1)], [diff_id(raw)], limits)
    assert (done.returncode, done.stderr.split()[-1]) == (LIMITED, name)


def test_damaged_archives_crash_nothing(merger):
    """Any byte of a header may be wrong: the answer is a tree or a refusal, never a crash."""
    raw = bytearray(
        tar_of([Row("a" * 150, "f", "1"), Row("b", "l", "c" * 200), Row("d", "h", "b")])
    )
    for at in range(0, len(raw), 37):
        damaged = bytes(raw[:at]) + b"\xff" + bytes(raw[at + 1 :])
        done = run_merger(merger, [_resummed(damaged)], ["-"], WIDE)
        assert done.returncode in {0, CORRUPT, LIMITED}, done.stderr


def _resummed(raw: bytes) -> bytes:
    """Make all blocks that had a checksum consistent again, so that what is behind it is read."""
    blocks = [raw[at : at + 512] for at in range(0, len(raw), 512)]
    for at, block in enumerate(blocks):
        if block[257:262] == b"ustar":
            total = sum(block[:148]) + 8 * 32 + sum(block[156:])
            blocks[at] = block[:148] + struct.pack("8s", b"%06o\0 " % total) + block[156:]
    return b"".join(blocks)
