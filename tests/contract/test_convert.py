"""The conversion with a fake `apptainer`: what it is given, and what comes of each way it ends."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hpcimg.errors import RuntimeFailure
from hpcimg.oci.model import OCI_MANIFEST, Descriptor, Manifest
from hpcimg.progress import silent
from hpcimg.runtime.apptainer import version
from hpcimg.runtime.convert import ApptainerConverter
from hpcimg.runtime.source import Source

BUILD = """
    env > "{folder}/environment"
    umask > "{folder}/umask"
    pwd > "{folder}/directory"
    for word in "$@"; do echo "$word"; done > "{folder}/words"
    for target in "$@"; do [ "$target" = "${{target#oci:}}" ] && last=$target; done
"""


def write_program(path: Path, script: str) -> None:
    """Write a shell script that stands for a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + textwrap.dedent(script))
    path.chmod(0o755)


@pytest.fixture
def folder(tmp_path):
    """Give a folder to work in."""
    (tmp_path / "work").mkdir()
    return tmp_path


@pytest.fixture
def converter(folder):
    """Give a converter whose programs are fakes, first on its path."""
    install(folder, 'echo image > "$last"')
    write_program(folder / "bin/mksquashfs", "echo 'Compressors: gzip zstd'")
    return ApptainerConverter("apptainer", f"{folder}/bin:/usr/bin:/bin")


def install(folder: Path, build: str) -> None:
    """Install a fake apptainer that builds as `build` says."""
    script = f"""
    if [ "$1" = --version ]; then echo "apptainer version 1.4.5-2.el9"; exit; fi
    {textwrap.dedent(BUILD.format(folder=folder))}
    {build}
    """
    write_program(folder / "bin/apptainer", script)


def convert(converter: ApptainerConverter, folder: Path, progress=silent) -> None:
    """Convert an image of one blob to the folder's image.sif."""
    converter.convert(empty_source(), folder / "image.sif", folder / "work", progress)


def empty_source() -> Source:
    """Give an image whose one blob is its config."""
    config = Descriptor("application/vnd.oci.image.config.v1+json", f"sha256:{'aa' * 32}", 5)
    manifest = Manifest(b"{}", f"sha256:{'bb' * 32}", OCI_MANIFEST, config, ())
    return Source("qnib/bench", manifest, b"12345", lambda _blob: iter(()))


def environment(folder: Path) -> dict[str, str]:
    """Read the environment that the fake was started with."""
    lines = (folder / "environment").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_its_id_is_name_version_and_revision(converter):
    """The store's key tells one Apptainer's images from another's."""
    assert converter.id == "apptainer-1.4.5-2.el9-1"


def test_it_builds_from_the_layout_without_cache(converter, folder):
    """Apptainer is asked for a zstd image of the layout beside it, with its cache off."""
    seen = []
    convert(converter, folder, seen.append)
    assert (folder / "image.sif").read_text() == "image\n"
    assert (folder / "words").read_text().splitlines() == [
        "build",
        "--disable-cache",
        "--mksquashfs-args",
        "-comp zstd -Xcompression-level 3",
        str(folder / "image.sif"),
        "oci:layout",
    ]
    assert (folder / "directory").read_text().strip() == str(folder / "work")
    assert [(one.phase, one.done, one.total) for one in seen] == [
        ("fetch", 5, 5),
        ("convert", 0, 5),
    ]


def test_an_old_mksquashfs_is_not_asked_for_zstd(converter, folder):
    """Where squashfs-tools cannot compress with zstd, their default is taken."""
    write_program(folder / "bin/mksquashfs", "echo 'Compressors: gzip lzo' >&2; exit 1")
    convert(converter, folder)
    assert "--mksquashfs-args" not in (folder / "words").read_text().splitlines()


def test_nothing_of_the_caller_reaches_the_build(converter, folder, monkeypatch):
    """Hostile or careless variables change nothing: the environment is made anew."""
    for name in ("APPTAINER_BINDPATH", "SINGULARITY_TMPDIR", "LD_PRELOAD", "PYTHONPATH"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("https_proxy", "http://192.0.2.99:1")
    monkeypatch.setenv("HOME", "/nonexistent")
    before = os.umask(0)
    try:
        convert(converter, folder)
    finally:
        os.umask(before)
    found = environment(folder)
    scratch = str(folder / "work/scratch")
    for name in ("PWD", "OLDPWD", "_", "SHLVL"):  # the shell's own
        found.pop(name, None)
    assert found == {
        "PATH": f"{folder}/work/programs:{folder}/bin:/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "HOME": scratch,
        "TMPDIR": scratch,
        "APPTAINER_TMPDIR": scratch,
        "APPTAINER_CACHEDIR": scratch,
        "APPTAINER_CONFIGDIR": scratch,
    }
    assert (folder / "umask").read_text().strip() == "0022"


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        ("echo 'FATAL: no such layer' >&2; exit 255", "exited with 255: FATAL: no such layer"),
        ('echo image > "$last"; echo "mksquashfs died" >&2; exit 1', "1: mksquashfs died"),
        ("kill -KILL $$", "exited with 137: it said nothing"),
        ("printf 'bad name \\377\\n' >&2; exit 3", "spython lost the exit status"),
    ],
    ids=["fails", "fails after the file is there", "killed", "not UTF-8"],
)
def test_a_failed_build_fails(converter, folder, build, reason):
    """Each bad end is an error with Apptainer's last words and the command to replay."""
    install(folder, build)
    with pytest.raises(RuntimeFailure) as caught:
        convert(converter, folder)
    assert reason in caught.value.message
    assert caught.value.message.startswith("apptainer ")
    assert "apptainer build --disable-cache" in caught.value.hint


def test_a_build_without_end_is_ended(folder):
    """With all that it started; the error names the limit."""
    os.mkfifo(folder / "alive")
    alive = os.open(folder / "alive", os.O_RDONLY | os.O_NONBLOCK)
    install(folder, f'exec 9>"{folder}/alive"; while :; do sleep 1; done')
    converter = ApptainerConverter("apptainer", f"{folder}/bin:/usr/bin:/bin", seconds=2.0)
    with pytest.raises(RuntimeFailure, match=r"goes beyond the limit seconds of 2\.0"):
        convert(converter, folder)
    os.set_blocking(alive, True)
    assert select.select([alive], [], [], 60)[0], "the build goes on"
    assert os.read(alive, 1) == b""
    os.close(alive)


def test_the_conversion_prints_nothing(converter, folder, capfd):
    """What spython and Apptainer print does not reach standard output, which is for results."""
    install(folder, 'echo talk; echo talk >&2; echo image > "$last"')
    convert(converter, folder)
    assert capfd.readouterr() == ("", "")


def test_without_apptainer_it_says_so(tmp_path):
    """A node without Apptainer: the error names the program and the setting."""
    converter = ApptainerConverter("apptainer", str(tmp_path))
    with pytest.raises(RuntimeFailure, match='"apptainer" is not installed') as caught:
        assert converter.id
    assert "settings" in caught.value.hint


def test_another_program_is_not_taken_for_apptainer(tmp_path):
    """A program that prints no version has none, and the error quotes what it said."""
    write_program(tmp_path / "apptainer", "echo hello")
    with pytest.raises(RuntimeFailure, match="says no version: 'hello'"):
        version(str(tmp_path / "apptainer"))


def test_a_build_ends_with_its_builder(converter, folder):
    """After kill -9 of the builder the whole build is killed, too: the disk is not filled on."""
    os.mkfifo(folder / "started")
    os.mkfifo(folder / "alive")
    install(folder, f'exec 9>"{folder}/alive"; echo $$ > "{folder}/started"; exec sleep 90')
    code = (
        "import sys; from pathlib import Path; sys.path.append(sys.argv[2]);"
        "from test_convert import ApptainerConverter, convert;"
        "folder = Path(sys.argv[1]);"
        'convert(ApptainerConverter("apptainer", f"{folder}/bin:/usr/bin:/bin"), folder)'
    )
    here = str(Path(__file__).parent)
    root = Path(__file__).parent.parent.parent
    builder = subprocess.Popen([sys.executable, "-c", code, str(folder), here], cwd=root)
    alive = os.open(folder / "alive", os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(alive, True)
    assert (folder / "started").read_text().strip().isdecimal()
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    # The end of file comes when the last process of the build has ended; 60 s only end a failure.
    assert select.select([alive], [], [], 60)[0], "the build goes on without its builder"
    assert os.read(alive, 1) == b""
    os.close(alive)
