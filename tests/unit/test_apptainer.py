"""Apptainer's command lines, as vectors; nothing is started here."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcimg.bind import Bind
from hpcimg.errors import UsageError
from hpcimg.runtime.apptainer import (
    Inside,
    build_arguments,
    exec_argv,
    unsupported,
    variables,
)

IMAGE = Path("/srv/store/entries/sha256/ab.apptainer-1.4.5-1/image.sif")


def test_exec_runs_the_command_in_a_user_namespace():
    """The words of the command come last and unchanged, options among them included."""
    assert exec_argv("apptainer", IMAGE, ["sh", "-c", "--pwd x; $HOME"]) == [
        "apptainer",
        "--quiet",
        "exec",
        "--userns",
        str(IMAGE),
        "sh",
        "-c",
        "--pwd x; $HOME",
    ]


def test_what_is_inside_stands_before_the_image():
    """What follows the image belongs to the command; a mount comes after what lies above it."""
    inside = Inside(
        binds=(Bind("/data", "/in/deep", ("ro", "nosuid")), Bind("/scratch", "/in")),
        workdir="/work here",
        left_out=("home", "cwd"),
        writable=True,
    )
    argv = exec_argv("/opt/bin/apptainer", IMAGE, ["true"], inside=inside, userns=False)
    assert argv == [
        "/opt/bin/apptainer", "--quiet", "exec", "--writable-tmpfs",
        "--no-mount", "home,cwd",
        "--mount", "type=bind,source=/scratch,destination=/in",
        "--mount", "type=bind,source=/data,destination=/in/deep,ro",
        "--pwd", "/work here",
        str(IMAGE), "true",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("bind", "words"),
    [
        (Bind("/a:b", "/c"), ["--mount", "type=bind,source=/a:b,destination=/c"]),
        (Bind("/a,b", "/c"), ["--mount", 'type=bind,"source=/a,b",destination=/c']),
        (Bind('/a"b', "/c"), ["--mount", 'type=bind,"source=/a""b",destination=/c']),
        (Bind("tmpfs", "/c", ("nosuid",)), ["--scratch", "/c"]),
        (Bind("/a", "/c", ("rw", "nodev", "rslave", "optional")),
         ["--mount", "type=bind,source=/a,destination=/c"]),
    ],
)  # fmt: skip
def test_a_mount_is_read_as_it_is_meant(bind, words):
    """Colons, commas and quotes are part of a path; flags that all mounts have are no words."""
    argv = exec_argv("apptainer", IMAGE, ["true"], inside=Inside(binds=(bind,)))
    assert argv[4:-2] == words


@pytest.mark.parametrize("flag", ["noexec", "private", "rprivate", "shared", "rshared"])
def test_a_flag_that_apptainer_lacks_is_refused(flag):
    """It would be left out in silence, and is there for a reason."""
    bind = Bind("/a", "/c", ("ro", flag))
    assert unsupported(bind) == (flag,)
    with pytest.raises(UsageError, match=f"'/a' cannot be mounted with {flag} without the plugin"):
        exec_argv("apptainer", IMAGE, ["true"], inside=Inside(binds=(bind,)))


def test_variables_win_over_the_image_s():
    """Any value stays as it is: no option splits it, nobody sees it in the process list."""
    assert variables([("A", 'x,y="z"\n')]) == {"APPTAINERENV_A": 'x,y="z"\n'}


def test_build_without_zstd_leaves_the_compression_alone():
    """Old squashfs-tools keep their default."""
    assert build_arguments("oci:layout", "/t/image.sif", zstd=False) == [
        "build",
        "--disable-cache",
        "/t/image.sif",
        "oci:layout",
    ]
