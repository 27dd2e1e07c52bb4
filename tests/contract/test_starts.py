"""What a job started on a node: the list that the plugin writes and the epilog's record reads."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from programs import SPANK

from hpcimg.store.steps import parse_starts

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no C compiler"),
    pytest.mark.skipif(
        not Path("/usr/include/slurm/spank.h").exists(), reason="there are no Slurm headers"
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root's directory counts"),
]
DRIVER = """\
#define _GNU_SOURCE
#include "common.h"
#undef TICKETS
#define TICKETS "."
#include "ticket.c"
#include <stdlib.h>

int main(int argc, char **argv)
{
    static struct entry entry;
    const struct job job = {.id = 7, .step = 3};
    const struct start start = {.name = "private/tool", .scope = "own", .millis = 5};

    if (argc != 2 || !parse_entry(argv[1], &entry))
        return 1;
    note_start(&job, &start, &entry);
    return 0;
}
"""


@pytest.fixture
def note(tmp_path):
    """Note a start of which a process printed a text; the list as the epilog reads it."""
    (tmp_path / "driver.c").write_text(DRIVER)
    files = (str(tmp_path / "driver.c"), str(SPANK / "common.c"))
    flags = ("-std=c11", "-Wall", "-Werror", "-fsanitize=address,undefined", f"-I{SPANK}")
    subprocess.run(["gcc", *flags, "-o", tmp_path / "driver", *files], check=True)
    (tmp_path / "7").mkdir(mode=0o755)

    def call(text):
        subprocess.run(["./driver", text], cwd=tmp_path, check=True)
        listed = tmp_path / "7/.steps"
        assert listed.stat().st_mode & 0o777 == 0o600
        return parse_starts(listed.read_text())

    return call


@pytest.mark.parametrize(
    "text",
    [
        "image=/image\nscope=site\nstep=0\n",
        "image=/image\n\nscope=site\nstep=0\n",
        "\nscope=site\nimage=/image\n",
        "\n\nscope=site\nimage=/image\n",
    ],
)
def test_a_users_own_words_change_no_record(note, text):
    """What `hpcimg get` printed as the user begins no other start, and takes no key of ours."""
    (found,) = note(text)
    assert (found["scope"], found["step"], found["name"]) == ("own", "3", "private/tool")
    assert found["image"] == "/image"


def test_each_start_has_a_record_of_its_own(note):
    """In their order."""
    note("image=/one\n")
    assert [one["image"] for one in note("image=/two\n")] == ["/one", "/two"]
