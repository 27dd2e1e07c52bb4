"""The plugin tells a path from a name by the same rules as the command line."""

from __future__ import annotations

import subprocess

import pytest
from programs import SPANK, has_compiler

from hpcimg.oci.local_name import parse_local

pytestmark = pytest.mark.skipif(not has_compiler(), reason="there is no compiler")

NAMES = (
    "/a b.sif",
    "./x",
    "../x:y",
    "~/x.sif",
    "~",
    ".",
    "..",
    "a.sif",
    "d/a.sqsh",
    "a.img",
    "a.squashfs",
    "a.sif:1",
    "a.sif@x",
    "h#a.sif",
    "a",
    "a/b:1",
    "docker://a.sif:1",
    "oci:1",
    "oci:./a",
    "oci:/a:b",
    "oci:a:b",
    "oci:5000/a",
    "oci:123456/a",
    "oci:.",
    "oci:..",
    "oci:",
    "oci",
    "...",
    "a.sifs",
    ".sif",
    "",
)
DRIVER = """
#include "forms.h"
#include <stdio.h>
int main(int argc, char **argv)
{
    char text[FORM_SIZE];
    for (int i = 1; i < argc; i++)
        printf("%d %s\\n", is_local_image(argv[i]),
               make_absolute(argv[i], "/here", text) ? text : "too long");
    return 0;
}
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What the plugin's own code says of each name, and where it finds the path."""
    folder = tmp_path_factory.mktemp("forms")
    (folder / "driver.c").write_text(DRIVER)
    files = [str(folder / "driver.c"), str(SPANK / "forms.c")]
    program = str(folder / "driver")
    subprocess.run(["gcc", "-std=c11", "-I", str(SPANK), "-o", program, *files], check=True)
    done = subprocess.run(
        [program, *NAMES], capture_output=True, text=True, check=True, env={"HOME": "/home/me"}
    )
    return dict(zip(NAMES, done.stdout.splitlines(), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_both_say_the_same(said, name):
    """Or a job would take a name for a file on one side only."""
    assert said[name].startswith("1 ") == (parse_local(name) is not None)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("./x", "/here/x"),
        ("../x:y", "/here/../x:y"),
        ("~/x.sif", "/home/me/x.sif"),
        ("/a b.sif", "/a b.sif"),
        ("oci:./a", "oci:/here/a"),
        ("oci:a:b", "oci:/here/a:b"),
    ],
)
def test_a_path_counts_from_where_the_step_works(said, name, path):
    """And what is carried on is absolute."""
    assert said[name] == f"1 {path}"
