"""Apptainer's command lines, as vectors; nothing is started here."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcimg.errors import UsageError
from hpcimg.runtime.apptainer import Bind, build_arguments, exec_argv

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


def test_exec_takes_binds_directory_and_gpu():
    """Every option stands before the image, since what follows belongs to the command."""
    argv = exec_argv(
        "/opt/bin/apptainer",
        IMAGE,
        ["true"],
        binds=[Bind("/scratch"), Bind("/data", "/in", read_only=True)],
        pwd="/work here",
        userns=False,
        nv=True,
    )
    assert argv == [
        "/opt/bin/apptainer",
        "--quiet",
        "exec",
        "--nv",
        "--bind",
        "/scratch:/scratch",
        "--bind",
        "/data:/in:ro",
        "--pwd",
        "/work here",
        str(IMAGE),
        "true",
    ]


@pytest.mark.parametrize("bind", [Bind("/a:b"), Bind("/a", "/b,/etc:/etc")])
def test_a_bind_that_would_be_read_as_two_is_refused(bind):
    """Apptainer splits at ':' and ',': such a path would bind something else."""
    with pytest.raises(UsageError, match="cannot be bound"):
        exec_argv("apptainer", IMAGE, ["true"], binds=[bind])


def test_build_without_zstd_leaves_the_compression_alone():
    """Old squashfs-tools keep their default."""
    assert build_arguments("oci:layout", "/t/image.sif", zstd=False) == [
        "build",
        "--disable-cache",
        "/t/image.sif",
        "oci:layout",
    ]
