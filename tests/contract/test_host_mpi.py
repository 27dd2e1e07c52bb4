"""The site's MPI in place of an image's: found in the image, compared, lent or refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sif import sif_bytes

from hpcimg.bind import Bind
from hpcimg.errors import RuntimeFailure
from hpcimg.host_mpi_settings import HostMpi
from hpcimg.oci.local_name import layout_reference
from hpcimg.oci.reference import parse_reference
from hpcimg.runtime import libraries
from hpcimg.runtime.sif import read_partition
from hpcimg.settings import Settings
from hpcimg.store.entry import Entry, Record
from hpcimg.workflow.host_mpi import host_mpi
from hpcimg.workflow.surroundings import NOTHING

sys.path.append(str(Path(__file__).resolve().parents[1] / "unit"))
from elves import library

pytestmark = pytest.mark.skipif(
    shutil.which("mksquashfs") is None, reason="squashfs-tools are not on this machine"
)

LIB = "usr/lib/x86_64-linux-gnu"
NAMED = parse_reference("registry:5000/mpich")
DIGEST = f"sha256:{'1' * 64}"
MPICH = {
    f"{LIB}/libmpich.so.12.4.1": library("libmpich.so.12", ["libc.so.6"], ["GLIBC_2.28"]),
    f"{LIB}/libmpich.so.12": "libmpich.so.12.4.1",
    f"{LIB}/libmpi.so.12": "libmpich.so.12.4.1",
    f"{LIB}/libmpi.so": "/etc/alternatives/libmpi.so",
    f"{LIB}/libc.so.6": library("libc.so.6", defines=["GLIBC_2.2.5", "GLIBC_2.31"]),
    f"{LIB}/libssl.so.3": library("libssl.so.3"),
    "opt/odd name/libmpi.so.12": library("libmpi.so.12"),
}
SITE = library("libmpi.so.12", ["libcxi.so.1", "libc.so.6"], ["GLIBC_2.31"])


def image_of(path, files):
    """Pack files and links (texts) as a SIF."""
    tree = path.parent / "tree"
    for name, content in files.items():
        place = tree / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            place.symlink_to(content)
        else:
            place.write_bytes(content)
    packed = path.parent / "packed"
    made = ["mksquashfs", tree, packed, "-quiet", "-no-progress", "-noappend"]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
    raw = sif_bytes(packed.read_bytes())
    path.write_bytes(raw)
    with path.open("rb") as file:
        partition = read_partition(file, len(raw))
    # The stand-in has a superblock of its own, which the real one takes the place of.
    content = packed.read_bytes()
    path.write_bytes(raw[: partition.offset] + content.ljust(partition.size, b"\0"))


@pytest.fixture
def entry(tmp_path):
    """An entry of a store of this user's, with an MPICH image."""
    return entry_of(tmp_path, MPICH)


def entry_of(folder, files):
    """Make an entry whose image has these files."""
    place = folder / "store/entries/sha256" / f"{'1' * 64}.stream-1"
    place.mkdir(parents=True)
    record = Record(DIGEST, "stream-1", ("registry:5000/mpich:latest",), (), 1, "", "", "", ())
    image_of(place / "image.sif", files)
    return Entry(place, record)


@pytest.fixture
def site(tmp_path):
    """The site's MPI: a library, a link to it, and what it needs."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "libmpi.so.12.5.0").write_bytes(SITE)
    (folder / "libmpi.so.12").symlink_to("libmpi.so.12.5.0")
    (folder / "libcxi.so.1").write_bytes(library("libcxi.so.1"))
    return folder


def rule(site, *names, **others):
    """Lend these libraries of the site."""
    return HostMpi(libraries=tuple(f"{site}/{name}" for name in names), **others)


def lent(entry, *rules, asked=NAMED):
    """What the image gets."""
    return host_mpi(entry, asked, Settings(host_mpi=rules))


def test_nothing_is_lent_by_default(entry, monkeypatch):
    """Without the setting no image is looked into."""
    monkeypatch.setattr(libraries, "SEARCH_PATH", "/nowhere")
    assert host_mpi(entry, NAMED, Settings()) == NOTHING


def test_the_sites_library_is_laid_over_the_images(entry, site):
    """Over the real file, whatever its name; what is new goes where all programs look last."""
    found = lent(entry, rule(site, "libmpi.so.12", "libcxi.so.1"))
    assert found.binds == (
        Bind(f"{site}/libmpi.so.12.5.0", f"/{LIB}/libmpich.so.12.4.1", ("ro",)),
        Bind(f"{site}/libcxi.so.1", "/.singularity.d/libs/libcxi.so.1", ("ro",)),
    )
    assert found.warnings == ()


def test_what_the_library_needs_beside_comes_with_it(entry, site):
    """Mounts and variables, only where the library is lent."""
    beside = {"mounts": (Bind("/opt/cray", "/opt/cray", ("ro",)),), "environment": {"A": "b"}}
    found = lent(entry, rule(site, "libmpi.so.12", **beside))
    assert beside["mounts"][0] in found.binds
    assert found.variables == (("A", "b"),)
    (site / "libmpi.so.12").unlink()
    without = lent(entry, rule(site, "libmpi.so.12", **beside))
    assert (without.binds, without.variables) == ((), ())
    missing = f"the site's {site}/libmpi.so.12 cannot be read: No such file or directory"
    assert without.warnings == (f"the image runs with its own MPI: {missing}",)


def test_a_library_that_does_not_fit_leaves_the_images_own(entry, site):
    """Its user is told why, and nothing of the site is put in."""
    (site / "libmpi.so.12.1.0").write_bytes(SITE)
    found = lent(entry, rule(site, "libmpi.so.12.1.0", "libcxi.so.1"))
    assert found.binds == ()
    assert found.warnings == (
        (
            "the image runs with its own MPI: the site's libmpi.so.12.1.0 is 12.1.0, "
            "older than the image's 12.4.1"
        ),
    )


def test_one_library_that_does_not_fit_keeps_all_out(entry, site):
    """Half of a site's MPI in an image is neither."""
    needs = library("libcxi.so.1", ["libc.so.6"], ["GLIBC_2.38"])
    (site / "libcxi.so.1").write_bytes(needs)
    found = lent(entry, rule(site, "libmpi.so.12", "libcxi.so.1"))
    assert found.binds == ()
    assert "libcxi.so.1 needs glibc 2.38, the image has 2.31" in found.warnings[0]


@pytest.mark.parametrize("content", [b"", b"INPUT(libmpi.so.12)"])
def test_what_is_no_library_is_not_lent(entry, site, content):
    """An empty file, or a linker's script."""
    (site / "libmpi.so").write_bytes(content)
    reason = f"the site's {site}/libmpi.so is no library"
    assert reason in lent(entry, rule(site, "libmpi.so")).warnings[0]


def test_a_site_may_refuse_what_does_not_fit(entry, site):
    """`on_mismatch: fail` says what the image lacks."""
    (site / "libmpi.so.12.1.0").write_bytes(SITE)
    with pytest.raises(RuntimeFailure) as caught:
        lent(entry, rule(site, "libmpi.so.12.1.0", on_mismatch="fail"))
    assert caught.value.message == (
        '"registry:5000/mpich:latest" does not run with the site\'s MPI: '
        "the site's libmpi.so.12.1.0 is 12.1.0, older than the image's 12.4.1"
    )
    assert "ask the administrator" in caught.value.hint


def test_an_image_of_another_mpi_is_left_alone(tmp_path, site):
    """Open MPI's libmpi.so.40 has another ABI on purpose: there is nothing to warn of."""
    open_mpi = library("libmpi.so.40", ["libopen-pal.so.80"])
    entry = entry_of(tmp_path, {f"{LIB}/libmpi.so.40.40.7": open_mpi})
    assert lent(entry, rule(site, "libmpi.so.12")) == NOTHING


def test_only_the_images_that_the_rule_names_are_meant(entry, site):
    """Patterns of registry and repository."""
    assert lent(entry, rule(site, "libmpi.so.12", images=("registry:5000/qnib/*",))) == NOTHING
    assert lent(entry, rule(site, "libmpi.so.12", images=("registry:5000/mpi*",))).binds


def test_the_name_that_was_asked_for_is_meant(entry, site):
    """Not the one that the entry was made for: the same image may have several, or be a layout."""
    asked = parse_reference("registry:5000/qnib/x")
    one = rule(site, "libmpi.so.12", images=("registry:5000/qnib/*",))
    assert lent(entry, one, asked=asked).binds
    own = replace(entry, record=replace(entry.record, references=("oci:/home/u/x",)))
    layout = layout_reference("/home/u/x", "", DIGEST)
    assert lent(own, rule(site, "libmpi.so.12"), asked=layout).binds
    assert lent(own, one, asked=layout) == NOTHING


def test_an_older_c_library_is_known_by_its_links_target(tmp_path, site):
    """Before 2.34 its file was called after its version."""
    files = dict(MPICH)
    del files[f"{LIB}/libc.so.6"]
    files["lib/libc-2.17.so"] = library("libc.so.6", defines=["GLIBC_2.17"])
    files["lib/libc.so.6"] = "libc-2.17.so"
    entry = entry_of(tmp_path, files)
    assert (
        "needs glibc 2.31, the image has 2.17"
        in lent(entry, rule(site, "libmpi.so.12")).warnings[0]
    )


def test_a_library_that_is_too_large_is_not_read(tmp_path, site, monkeypatch):
    """A few bytes of an image may unpack to more than the node's memory."""
    monkeypatch.setattr(libraries, "_FILE_BYTES", 1000)
    entry = entry_of(tmp_path, {**MPICH, "usr/lib/libmpi.so.12.9": bytes(1001)})
    assert "own MPI: unsquashfs exited with" in lent(entry, rule(site, "libmpi.so.12")).warnings[0]


def test_an_image_is_looked_into_once(entry, site, monkeypatch):
    """What was found stands in the store: the next node starts no program for it."""
    first = lent(entry, rule(site, "libmpi.so.12"))
    monkeypatch.setattr(libraries, "SEARCH_PATH", "/nowhere")
    assert lent(entry, rule(site, "libmpi.so.12")) == first
    other = lent(
        replace(entry, record=replace(entry.record, digest=f"sha256:{'2' * 64}")),
        rule(site, "libmpi.so.12"),
    )
    assert '"unsquashfs" is not on this node' in other.warnings[0]


def test_what_was_found_belongs_to_the_stores_writer(entry, site):
    """It is a small document of the store, which others read and only its owner writes."""
    lent(entry, rule(site, "libmpi.so.12"))
    kept = list((entry.path.parents[2] / "documents/answers").iterdir())
    assert len(kept) == 1
    assert kept[0].stat().st_uid == os.geteuid()
    assert not kept[0].stat().st_mode & 0o022
