"""The fast converter with the real merger and mksquashfs: what it makes, and how it can fail."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import programs
import pytest
from layers import Row, diff_id, tar_of
from processes import children
from test_convert import write_program

from hpcimg.errors import DigestMismatchError, RegistryError, RuntimeFailure
from hpcimg.oci.model import OCI_CONFIG, OCI_MANIFEST, Descriptor, Manifest
from hpcimg.progress import silent
from hpcimg.runtime.choice import choose_converter
from hpcimg.runtime.convert import ApptainerConverter
from hpcimg.runtime.packer import Packer, find_packer
from hpcimg.runtime.source import Source
from hpcimg.runtime.stream import StreamConverter
from hpcimg.settings import Limits, Settings
from hpcimg.store.entry import is_complete_sif

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
PATH = "/usr/local/bin:/usr/bin:/bin"
pytestmark = pytest.mark.skipif(
    shutil.which("mksquashfs") is None or not programs.has_compiler(),
    reason="mksquashfs or a C compiler is not installed",
)
FAKE = """
case $1 in
    -version) echo version 4.6.1; exit ;;
    -help) echo zstd; exit ;;
esac
read -r line
"""  # no process can be started where it runs
ROWS = [[Row("bin", "d"), Row("bin/sh", "f", "1" * 90_000)], [Row("a", "h", "bin/sh"), Row("b")]]


@pytest.fixture(scope="module")
def merger(tmp_path_factory) -> str:
    """Give the merger's path."""
    return str(programs.build_merger(tmp_path_factory.mktemp("merge"), sanitized=False))


def converter(merger: str, **limits) -> StreamConverter:
    """Make one with some limits changed."""
    return StreamConverter(merger, PATH, replace(Limits(), **limits))


def image(*layers: list[Row], spoil=None, **changed) -> Source:
    """Make an image; `spoil` changes a blob on its way, which is found out at its end."""
    raws = [tar_of(rows) for rows in layers]
    blobs = [gzip.compress(raw, mtime=0) for raw in raws]
    descriptors = [Descriptor(LAYER, digest(blob), len(blob)) for blob in blobs]
    config = {
        "architecture": "amd64",
        "created": "2020-02-03T04:05:06.7+01:00",
        "config": {"Cmd": ["sh"]},
        "rootfs": {"diff_ids": [diff_id(raw) for raw in raws]},
        **changed,
    }
    raw = json.dumps(config).encode()
    about = Descriptor(OCI_CONFIG, digest(raw), len(raw))
    manifest = Manifest(b"{}", digest(raw), OCI_MANIFEST, about, tuple(descriptors))
    known = dict(zip((one.digest for one in descriptors), blobs, strict=True))

    def fetch(blob: Descriptor):
        sent = known[blob.digest] if spoil is None else spoil(known[blob.digest])
        yield sent[:1000]
        yield sent[1000:]
        if sent != known[blob.digest]:
            raise DigestMismatchError("it has another digest")

    return Source("qnib/bench", manifest, raw, fetch)


def digest(raw: bytes) -> str:
    """Name bytes."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def convert(merger: str, folder: Path, source: Source, **limits) -> Path:
    """Convert into the folder's image.sif."""
    work = folder / "work"
    work.mkdir(exist_ok=True)
    target = folder / "image.sif"
    converter(merger, **limits).convert(source, target, work, silent)
    assert list(work.iterdir()) == [], "something was unpacked"
    return target


def test_it_makes_a_whole_sif(merger, tmp_path):
    """Header, documents, and a zstd squashfs behind them with the image's files and Apptainer's."""
    sif = convert(merger, tmp_path, image(*ROWS))
    raw = sif.read_bytes()
    assert is_complete_sif(raw[:128], len(raw))
    at = raw.index(b"hsqs", 32176)
    assert at % 4096 == 0
    assert raw[at + 20 : at + 22] == b"\x06\x00", "not zstd"
    assert b'"Cmd": ["sh"]' in raw[:at]
    listing = subprocess.run(
        ["unsquashfs", "-lln", "-o", str(at), sif], check=True, capture_output=True, text=True
    )
    names = {line.split(" squashfs-root/", 1)[1] for line in listing.stdout.splitlines()
             if " squashfs-root/" in line}  # fmt: skip
    assert {"a", "b", "bin/sh", ".singularity.d/runscript", "etc/hosts", "var/tmp"} <= names


def test_the_same_image_gives_the_same_bytes(merger, tmp_path):
    """Nothing of the time or the machine is in it."""
    first = convert(merger, tmp_path, image(*ROWS)).read_bytes()
    assert convert(merger, tmp_path, image(*ROWS)).read_bytes() == first
    at = str(first.index(b"hsqs", 32176))
    listing = subprocess.run(
        ["unsquashfs", "-lln", "-UTC", "-o", at, tmp_path / "image.sif"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    (root,) = [line for line in listing.stdout.splitlines() if line.endswith(" squashfs-root")]
    assert "2020-02-03 03:05" in root


def test_its_id_tells_what_decides_the_bytes(merger):
    """Revision, compression, and mksquashfs's version."""
    assert converter(merger).lack == ""
    assert converter(merger).id.startswith("stream-1-zstd3-squashfs4.")


def test_each_layer_tells_how_far_it_is(merger, tmp_path):
    """And the whole, and then how large the result is while the last bytes are compressed."""
    source, seen = image(*ROWS), []
    work = tmp_path / "work"
    converter(merger).convert(source, tmp_path / "image.sif", work, seen.append)
    for layer in source.manifest.layers:
        part = layer.digest[7:19]
        parts = [one for one in seen if one.part == part]
        assert {(one.phase, one.total) for one in parts} == {("fetch", layer.size)}
        assert parts[-1].done == layer.size
    phases = list(dict.fromkeys(one.phase for one in seen if not one.part))
    assert [phase for phase in phases if phase != "compress"] == ["convert", "wrap"]
    whole = [one for one in seen if one.phase == "convert"]
    assert whole[-1].done == sum(layer.size for layer in source.manifest.layers)


def test_the_end_of_the_compression_is_told(merger, tmp_path):
    """The result's size, for as long as mksquashfs works after the last byte has come."""
    slow = tmp_path / "bin"
    script = FAKE + 'while read -r line; do :; done; echo hello >"$2"; while :; do :; done'
    write_program(slow / "mksquashfs", script)
    told = threading.Event()

    def seen(progress) -> None:
        if progress.phase == "compress" and progress.done == 6:
            told.set()
            os.kill(children(os.getpid(), "mksquashfs")[0], signal.SIGKILL)

    made = StreamConverter(merger, f"{slow}:{PATH}", Limits())
    with pytest.raises(RuntimeFailure, match="mksquashfs was killed by SIGKILL"):
        made.convert(image(*ROWS), tmp_path / "image.sif", tmp_path, seen)
    assert told.is_set()


def test_a_mksquashfs_is_known_without_being_started(tmp_path):
    """Each launch asks which one there is: its own bytes tell it."""
    program = tmp_path / "mksquashfs"
    program.write_bytes(b"\x7fELF\0%s version 4.6.1 (2023/03/25)\n\0zstd: -Xcompression-level x\0")
    program.chmod(0o755)
    found = find_packer(str(tmp_path))
    assert found == Packer(program, "4.6.1", knows_zstd=True)
    assert found.lack == ""
    assert "older than 4.5" in Packer(program, "4.4", knows_zstd=True).lack
    assert "does not know zstd" in Packer(program, "4.6", knows_zstd=False).lack


def test_a_layer_that_comes_again_is_fetched_once(merger, tmp_path):
    """Docker's images repeat their empty layer."""
    source = image([Row("a")], [Row("b")], [Row("a")])
    asked = []

    def fetch(blob):
        asked.append(blob.digest)
        return source.fetch(blob)

    convert(merger, tmp_path, replace(source, fetch=fetch))
    assert len(asked) == len(set(asked)) == 2


def test_a_layer_may_have_to_be_read_twice(merger, tmp_path):
    """A name that stands twice in one layer: its last entry counts."""
    sif = convert(merger, tmp_path, image([Row("a", "f", "old"), Row("a", "f", "new")]))
    at = sif.read_bytes().index(b"hsqs", 32176)
    done = subprocess.run(
        ["unsquashfs", "-q", "-n", "-o", str(at), "-cat", sif, "a"], check=True, capture_output=True
    )
    assert done.stdout == b"new"


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        (image(*ROWS, spoil=lambda raw: raw[:-9]), DigestMismatchError, "another digest"),
        (image(*ROWS, spoil=lambda raw: raw[:99] + b"xxxx" + raw[103:]), DigestMismatchError,
         "another digest"),
        (image(*ROWS, rootfs={"diff_ids": [digest(b"1"), digest(b"2")]}), RegistryError,
         r"sha256:[0-9a-f]{64}: its content is not what the image's config says \(diff_id\)"),
        (image(*ROWS, rootfs={"diff_ids": [digest(b"1")]}), RegistryError, "has 2 layers, its con"),
        (image(*ROWS, rootfs={"diff_ids": ["x", "y"]}), RegistryError, "has a bad diff_id"),
        (image(), RegistryError, "has no layers"),
        (image([Row("a", "h", "nowhere")]), RegistryError, 'the hard link "a" leads nowhere'),
    ],
    ids=["cut", "spoilt", "diff_id", "too few", "no digests", "no layers", "link"],
)  # fmt: skip
def test_a_bad_image_is_refused(merger, tmp_path, source, kind, words):
    """With the registry's own error where the registry is to blame."""
    with pytest.raises(kind, match=words):
        convert(merger, tmp_path, source)


def test_a_config_nested_without_end_is_refused(merger, tmp_path):
    """As every other that is no config."""
    source = replace(image(*ROWS), config=b"[" * 100_000)
    with pytest.raises(RegistryError, match='the config of "qnib/bench" is not JSON'):
        convert(merger, tmp_path, source)


def test_half_a_character_in_a_config_stops_nothing(merger, tmp_path):
    """JSON may hold it, and no file."""
    assert convert(merger, tmp_path, image(*ROWS, config={"Cmd": ["\ud800"]})).exists()


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"entries": 3}, "the limit entries of 3"),
        ({"unpacked_bytes": 50_000}, "the limit unpacked_bytes of 50000"),
        ({"seconds": 0.0}, "the limit seconds of 0"),
    ],
)
def test_each_limit_is_an_error_that_names_it(merger, tmp_path, limits, words):
    """And its setting, in the hint."""
    with pytest.raises(RegistryError, match=words) as caught:
        convert(merger, tmp_path, image(*ROWS), **limits)
    assert next(iter(limits)) in caught.value.hint


def test_a_full_disk_is_told_in_mksquashfs_words(merger, tmp_path):
    """The store makes its own error of them."""
    full = tmp_path / "full"
    write_program(full / "mksquashfs", FAKE + 'echo "No space left on device" >&2; exit 1')
    source = image([Row(f"x{at}", "f", "1" * 9999) for at in range(200)])
    work = tmp_path / "work"
    made = StreamConverter(merger, f"{full}:{PATH}", Limits())
    with pytest.raises(RuntimeFailure, match="mksquashfs exited with 1: No space left on device"):
        made.convert(source, tmp_path / "image.sif", work, silent)


@pytest.mark.parametrize("program", ["merger", "mksquashfs"])
def test_a_killed_program_fails_the_conversion(merger, tmp_path, program):
    """And the other one ends, too: nothing goes on, and nobody waits for ever."""
    source, killed = image(*ROWS), threading.Event()

    def fetch(blob):
        yield from [b""]
        # Two layers are fetched at once: the other one may have done it.
        while not killed.is_set() and not (pids := children(os.getpid(), program)):
            killed.wait(0.01)
        if not killed.is_set():
            killed.set()
            os.kill(pids[0], signal.SIGKILL)
        yield from source.fetch(blob)

    with pytest.raises(RuntimeFailure, match=f"{program} was killed by SIGKILL"):
        converter(merger).convert(
            replace(source, fetch=fetch), tmp_path / "image.sif", tmp_path, silent
        )


def test_without_the_merger_apptainer_converts(tmp_path, caplog):
    """And a line says so."""
    settings = Settings(merger=str(tmp_path / "merger"))
    assert isinstance(choose_converter(settings), ApptainerConverter)
    assert '/merger" is not installed: images are converted by `apptainer build`' in caplog.text
