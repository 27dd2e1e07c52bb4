"""Which names mean a path, and which a registry's image."""

from __future__ import annotations

import pytest

from hpcimg.oci.local_name import LocalName, layout_reference, parse_local

SHA = "sha256:" + "a" * 64

LOCAL = [
    ("/images/a b.sif", LocalName("/images/a b.sif")),
    ("./x", LocalName("./x")),
    ("../x:y@z", LocalName("../x:y@z")),
    ("~/x.sif", LocalName("~/x.sif")),
    (".", LocalName(".")),
    ("my.sif", LocalName("my.sif")),
    ("dir/my.sqsh", LocalName("dir/my.sqsh")),
    ("oci:./layout", LocalName("./layout", is_layout=True)),
    ("oci:/a/layout:1.0", LocalName("/a/layout", "1.0", is_layout=True)),
    ("oci:layout:1.0", LocalName("layout", "1.0", is_layout=True)),
    ("oci:/a:b/layout", LocalName("/a:b/layout", is_layout=True)),
    (f"oci:/a@{SHA}", LocalName("/a", "", SHA, is_layout=True)),
    (f"oci:/a:t@{SHA}", LocalName("/a", "t", SHA, is_layout=True)),
    ("oci:/a\nb", LocalName("/a\nb", is_layout=True)),
]

REGISTRYS = [
    "qnib/bench",
    "qnib/my.sif:1",
    "registry:5000/my.sqsh:2",
    "docker://my.sif:1",
    "oci:1",
    "oci:5000/a",
    "nvcr.io#a/b",
    f"a.sif@{SHA}",
]


@pytest.mark.parametrize(("text", "meant"), LOCAL)
def test_a_path_is_told_from_a_name(text, meant):
    """Where it begins like a path, ends like an image's file or says that it is a layout."""
    assert parse_local(text) == meant


@pytest.mark.parametrize("text", REGISTRYS)
def test_a_registrys_name_is_no_path(text):
    """A tag, a digest or a registry's sign says so, whatever else the name looks like."""
    assert parse_local(text) is None


def test_a_layouts_reference_is_written_as_it_is_read():
    """What `resolve` prints of a layout may be given to `run`."""
    name = str(layout_reference("/a/b", "t", SHA))
    assert name == f"oci:/a/b:t@{SHA}"
    assert parse_local(name) == LocalName("/a/b", "t", SHA, is_layout=True)
    pinned = layout_reference("/a/b", "t", SHA).with_digest("sha256:" + "b" * 64)
    assert str(pinned) == "oci:/a/b@sha256:" + "b" * 64
