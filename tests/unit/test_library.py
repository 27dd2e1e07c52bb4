"""Whether the site's library can stand in for an image's."""

from __future__ import annotations

import pytest

from hpcimg.library import Found, Library, misfit, of_kind, read_found, replaced

HOST = Library(
    "/opt/mpi/lib/libmpi.so.12.5.6", ("libmpi.so.12",), "libmpi.so.12", "amd64", (), "2.28"
)
DEBIAN = Library(
    "/usr/lib/libmpich.so.12.4.1", ("libmpi.so.12", "libmpich.so.12"), "libmpich.so.12", "amd64"
)
OPEN_MPI = Library(
    "/usr/lib/libmpi.so.40.40.7", ("libmpi.so.40",), "libmpi.so.40", "amd64", ("libopen-pal.so.80",)
)
OLD_OPEN_MPI = Library(
    "/usr/lib/libmpi.so.12.0.3", ("libmpi.so.12",), "libmpi.so.12", "amd64", ("libopen-rte.so.12",)
)


def own(path, **others):
    """An image's library by its path alone."""
    return Library(path, (), machine="amd64", **others)


def host(path, **others):
    """A site's library by its path alone."""
    return own(path, **others)


@pytest.mark.parametrize(
    ("lent", "kept", "glibc", "reason"),
    [
        pytest.param(HOST, DEBIAN, "2.31", "", id="newer-minor"),
        pytest.param(host("/a/libmpi.so.12.4.1"), DEBIAN, "2.31", "", id="equal"),
        pytest.param(host("/a/libmpi.so.12.4.0"), DEBIAN, "2.31", "", id="older-patch"),
        pytest.param(
            host("/a/libmpi.so.12.1.8"),
            DEBIAN,
            "2.31",
            "the site's libmpi.so.12.1.8 is 12.1.8, older than the image's 12.4.1",
            id="older-minor",
        ),
        pytest.param(
            host("/a/libfabric.so.2.0.0"),
            own("/l/libfabric.so.1.27.0"),
            "2.31",
            "the site's libfabric.so.2.0.0 has the ABI 2, the image's has 1",
            id="other-major",
        ),
        pytest.param(
            host("/a/libmpi.so.12"),
            DEBIAN,
            "2.31",
            "the site's libmpi.so.12 is 12, older than the image's 12.4.1",
            id="host-minor-unknown",
        ),
        pytest.param(HOST, own("/l/libmpi.so.12"), "2.31", "", id="image-minor-unknown"),
        pytest.param(
            HOST,
            own("/l/libmpi.so"),
            "2.31",
            "the site's libmpi.so.12.5.6 has the ABI 12, the image's has without a number",
            id="no-number",
        ),
        pytest.param(
            HOST,
            DEBIAN,
            "2.27",
            "the site's libmpi.so.12.5.6 needs glibc 2.28, the image has 2.27",
            id="old-c-library",
        ),
        pytest.param(HOST, DEBIAN, "2.4", "needs glibc 2.28, the image has 2.4", id="by-number"),
        pytest.param(
            HOST,
            DEBIAN,
            "",
            "the site's libmpi.so.12.5.6 needs the GNU C library, which the image has not",
            id="musl",
        ),
        pytest.param(
            Library("/a/libmpi.so.12.9.0", (), machine="arm64"),
            DEBIAN,
            "2.31",
            "the site's libmpi.so.12.9.0 is for arm64, the image's is for amd64",
            id="other-machine",
        ),
        pytest.param(
            Library("/a/libmpi.so.12", ()),
            DEBIAN,
            "2.31",
            "the site's /a/libmpi.so.12 is no library",
            id="no-library",
        ),
    ],
)
def test_a_library_fits_or_it_is_said_why_not(lent, kept, glibc, reason):
    """Machine, major number, minor number, C library: in this order."""
    found = misfit(lent, (kept,), glibc, minor=True)
    assert found.endswith(reason) if reason else found == ""


def test_a_site_may_compare_the_major_number_alone():
    """Vendors number their builds as they like, and keep the ABI."""
    lent = host("/opt/cray/libmpi.so.12.0.0")
    assert "older" in misfit(lent, (DEBIAN,), "2.31", minor=True)
    assert misfit(lent, (DEBIAN,), "2.31", minor=False) == ""


def test_what_has_nothing_to_stand_in_for_only_needs_the_c_library():
    """A library that the site's MPI needs may be new to the image."""
    lent = host("/opt/cray/libcxi.so.1.5.0", glibc="2.28")
    assert misfit(lent, (), "2.31", minor=True) == ""
    assert "glibc 2.28" in misfit(lent, (), "2.17", minor=True)


def test_both_names_of_mpich_are_one_abi():
    """Debian's file is called libmpich, the ABI's name is libmpi: each stands in for the other."""
    found = Found((DEBIAN,), "2.31")
    assert replaced(HOST, "mpich", found) == (DEBIAN,)
    fortran = Found((own("/l/libmpichfort.so.12.4.1"),), "2.31")
    assert replaced(host("/a/libmpifort.so.12"), "mpich", fortran) == fortran.libraries


def test_open_mpi_is_not_taken_for_mpich():
    """Its release 1.10 had MPICH's very name and number; what it needs tells them apart."""
    found = (OPEN_MPI, OLD_OPEN_MPI, DEBIAN)
    assert of_kind("mpich", found) == (DEBIAN,)
    assert of_kind("openmpi", found) == (OPEN_MPI, OLD_OPEN_MPI)
    assert of_kind("libfabric", found) == ()


def test_what_was_found_is_written_down_and_read():
    """Round trip; another release's form is none."""
    found = Found((DEBIAN, OPEN_MPI), "2.31")
    assert read_found(found.to_text()) == found
    for text in ("", "[]", "{}", '{"libraries": [{}], "glibc": ""}', '{"libraries": 1}'):
        assert read_found(text) is None
