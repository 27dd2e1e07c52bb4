"""What root finds out about an image before the kernel is given it: `mounter check`."""

from __future__ import annotations

import os
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import programs
import pytest

from hpcimg.runtime.sif import Kind, Part, Sif

pytestmark = pytest.mark.skipif(not programs.has_compiler(), reason="there is no C compiler")

SIZE = 20480
ENTRY = f"{'a' * 64}.stream-1"
NOBODY = 65534


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "sanitized"])
def mounter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program."""
    return programs.build(tmp_path_factory.mktemp("built"), sanitized=request.param) / "mounter"


@pytest.fixture
def folder() -> Iterator[Path]:
    """An entry's directory; pytest's own hang in one that its user made."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "sha256" / ENTRY
        place.mkdir(parents=True)
        yield place


@dataclass(frozen=True)
class Image:
    """A SIF with the head of a squashfs in it, and where that begins."""

    path: Path
    offset: int

    def patch(self, at: int, form: str, *values: object) -> None:
        """Overwrite some of its bytes."""
        with self.path.open("r+b") as file:
            file.seek(at)
            file.write(struct.pack(form, *values))


@pytest.fixture
def image(folder: Path) -> Image:
    """One in which all is in order."""
    sif = Sif(b"i" * 16, 1, "amd64", [Part(Kind.DEFINITION, b"from: here\n")])
    path = folder / "image.sif"
    with path.open("wb") as file:
        file.seek(sif.offset)
        file.write(superblock().ljust(SIZE, b"\0"))
    sif.finish(path)
    return Image(path, sif.offset)


def superblock() -> bytes:
    """Write the head of a squashfs 4.0 with zstd and blocks of 128 KiB."""
    tables = (SIZE - 200, 2**64 - 1, 4096, 8192, 12288, 2**64 - 1)
    counters = (b"hsqs", 7, 0, 1 << 17, 0, 6, 17, 0, 1, 4, 0)
    return struct.pack("<4sIIIIHHHHHHQQ6Q", *counters, 0, SIZE - 100, *tables)


def check(mounter: Path, path: Path | str, account: int | None = None) -> tuple[int, str]:
    """Ask about an image of our own, or of another account; the exit code and what was said."""
    words = [mounter, "check", path, str(os.getuid() if account is None else account)]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_an_image_in_order(mounter: Path, image: Image) -> None:
    """Where its file system lies is what the loop device will show."""
    assert check(mounter, image.path) == (0, f"offset={image.offset}\nsize={SIZE}\n")


HEAD = "the image's squashfs has a wrong head"
PLACE = "the image's squashfs lies at a wrong place"
NONE = "the image has no squashfs"
ROW = 4096 + 585  # the second row of the table: the first is the definition


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        pytest.param(lambda i: i.patch(32, "9s", b"SIF_MAGIK"), "no SIF", id="magic"),
        pytest.param(lambda i: i.patch(42, "2s", b"02"), "no SIF", id="version"),
        pytest.param(lambda i: os.truncate(i.path, 100), "no SIF", id="short"),
        pytest.param(lambda i: i.patch(88, "<q", 1 << 40), NONE, id="many rows"),
        pytest.param(lambda i: i.patch(96, "<q", -1), NONE, id="table before the file"),
        pytest.param(lambda i: i.patch(96, "<q", 1 << 30), NONE, id="table behind the file"),
        pytest.param(lambda i: i.patch(ROW, "<i", 0x4002), NONE, id="no partition"),
        pytest.param(lambda i: i.patch(ROW + 4, "?", False), NONE, id="row not in use"),
        pytest.param(lambda i: i.patch(ROW + 201, "<i", 2), NONE, id="ext3"),
        pytest.param(lambda i: i.patch(ROW + 205, "<i", 3), NONE, id="an overlay"),
        pytest.param(lambda i: i.patch(ROW + 17, "<q", i.offset + 512), PLACE, id="not aligned"),
        pytest.param(lambda i: i.patch(ROW + 17, "<q", -4096), PLACE, id="negative"),
        pytest.param(lambda i: i.patch(ROW + 17, "<q", 0), PLACE, id="in the header"),
        pytest.param(lambda i: i.patch(ROW + 17, "<q", 1 << 40), PLACE, id="behind the file"),
        pytest.param(lambda i: i.patch(ROW + 25, "<q", SIZE + 1), PLACE, id="too long"),
        pytest.param(lambda i: i.patch(ROW + 25, "<q", -1), PLACE, id="negative length"),
        pytest.param(lambda i: os.truncate(i.path, i.offset + 90), PLACE, id="cut"),
        pytest.param(lambda i: i.patch(i.offset, "4s", b"sqsh"), HEAD, id="squashfs magic"),
        pytest.param(lambda i: i.patch(i.offset + 4, "<I", 0), HEAD, id="no inode"),
        pytest.param(lambda i: i.patch(i.offset + 4, "<I", 2**32 - 1), HEAD, id="inodes"),
        pytest.param(lambda i: i.patch(i.offset + 12, "<I", 1 << 21), HEAD, id="block size"),
        pytest.param(lambda i: i.patch(i.offset + 22, "<H", 200), HEAD, id="block log"),
        pytest.param(lambda i: i.patch(i.offset + 20, "<H", 7), HEAD, id="compression"),
        pytest.param(lambda i: i.patch(i.offset + 28, "<H", 3), HEAD, id="squashfs 3"),
        pytest.param(lambda i: i.patch(i.offset + 40, "<Q", SIZE + 1), HEAD, id="bytes used"),
        pytest.param(lambda i: i.patch(i.offset + 48, "<Q", 2**64 - 1), HEAD, id="no ids"),
        pytest.param(lambda i: i.patch(i.offset + 64, "<Q", 1 << 50), HEAD, id="inode table"),
        pytest.param(lambda i: i.patch(i.offset + 72, "<Q", 4000), HEAD, id="directories first"),
        pytest.param(lambda i: i.patch(i.offset + 80, "<Q", 4), HEAD, id="fragments in the head"),
    ],
)
def test_a_wrong_image(
    mounter: Path, image: Image, harm: Callable[[Image], None], reason: str
) -> None:
    """Each number that the kernel would have to trust is looked at before."""
    harm(image)
    code, said = check(mounter, image.path)
    assert code == 1
    assert reason in said


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        pytest.param(lambda p: p.chmod(0o664), 'image.sif" in', id="others write the file"),
        pytest.param(lambda p: p.parent.chmod(0o775), f'{ENTRY[:64]}" in', id="the directory"),
        pytest.param(lambda p: p.parent.parent.chmod(0o757), 'sha256" in', id="one above"),
        pytest.param(
            lambda p: (p.rename(f"{p}.x"), p.symlink_to("image.sif.x")), "symbolic", id="link"
        ),
        pytest.param(
            lambda p: (p.parent.rename(f"{p.parent}.x"), p.parent.symlink_to(f"{p.parent}.x")),
            "Not a directory",
            id="linked directory",
        ),
        pytest.param(lambda p: (p.unlink(), os.mkfifo(p)), "Invalid argument", id="pipe"),
        pytest.param(lambda p: (p.unlink(), p.mkdir()), "Invalid argument", id="directory"),
        pytest.param(lambda p: p.unlink(), "No such file", id="nothing"),
    ],
)
def test_a_file_that_others_could_have_made(
    mounter: Path, image: Image, harm: Callable[[Path], object], reason: str
) -> None:
    """It and all above it must be beyond everybody's reach but the account's and root's."""
    harm(image.path)
    code, said = check(mounter, image.path)
    assert code == 1
    assert reason in said


def test_another_account_s_file(mounter: Path, image: Image) -> None:
    """Only root and the named account count."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(image.path, NOBODY, NOBODY)
    assert check(mounter, image.path)[0] == 1
    assert check(mounter, image.path, NOBODY)[0] == 0


@pytest.mark.parametrize(
    "path", ["image.sif", "/.", "/tmp/../image.sif", "/proc/self/cwd/image.sif", "/" + "a/" * 3000]
)
def test_a_path_that_is_none(mounter: Path, path: str) -> None:
    """It begins at the root and goes down, by names alone."""
    code, said = check(mounter, path)
    assert code == 1
    assert "the image's path" in said
