"""Slurm's words: the GPUs of a job, the nodes of a step, and an srun that starts us."""

from __future__ import annotations

import pytest

from hpcimg.errors import RuntimeFailure, UsageError
from hpcimg.slurm import is_first_task, job_gpus, node_name, parse_gpus, run_argv
from hpcimg.workflow.run import srun_argv


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("", ()),
        ("none", ()),
        ("0", ("0",)),
        ("0,2-4", ("0", "2", "3", "4")),
        ("3-1", ("3-1",)),
        ("MIG-GPU-5c89852c/1/0", ("MIG-GPU-5c89852c/1/0",)),
        ("0-99999999", ("0-99999999",)),
    ],
)
def test_gpus_as_slurm_writes_them(text, gpus):
    """Numbers, ranges and UUIDs; what is no range stays a word that no GPU has, never "none"."""
    assert parse_gpus(text) == gpus


@pytest.mark.parametrize(
    ("environment", "gpus"),
    [
        ({}, None),
        ({"SLURM_JOB_GPUS": "0"}, None),
        ({"SLURM_JOB_ID": "1"}, ()),
        ({"SLURM_JOB_ID": "1", "SLURM_JOB_GPUS": "0,1"}, ("0", "1")),
        ({"SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0", "SLURM_STEP_GPUS": "1"}, ("1",)),
        ({"SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0", "SLURM_JOB_GPUS": "0,1"}, ()),
    ],
)
def test_gpus_of_a_job(environment, gpus):
    """None outside of a job, where nobody manages the GPUs; in a step only the step's count."""
    assert job_gpus(environment) == gpus


def test_the_task_that_speaks():
    """The first on its node, and whoever is no task."""
    assert is_first_task({})
    assert is_first_task({"SLURM_LOCALID": "0"})
    assert not is_first_task({"SLURM_LOCALID": "1"})
    assert node_name({"SLURMD_NODENAME": "bdw1"}) == "bdw1"
    assert node_name({}) == ""


def test_one_task_on_each_node():
    """The words come last, as they are."""
    argv = run_argv(("a1", "b2"), ["--x=y z", "true"])
    assert argv[0] == "srun"
    assert {"--nodes=2", "--ntasks-per-node=1", "--nodelist=a1,b2"} <= set(argv[1:-2])
    assert argv[-2:] == ["--x=y z", "true"]


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A PATH with an srun and an hpcimg."""
    for name in ("srun", "hpcimg"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ["-N2", "--container", "qnib/bench", "bench", "--container", "x"],
        ["-N2", "--container=qnib/bench", "bench", "--container", "x"],
        ["-N2", "--container-image=qnib/bench", "bench", "--container", "x"],
    ],
)
def test_srun_starts_us_on_each_node(programs, words):
    """Options of srun's own go before, the command's words behind, whatever they are."""
    assert srun_argv(words) == [
        f"{programs}/srun", "-N2", f"{programs}/hpcimg", "run", "--say-once", "qnib/bench",
        "--", "bench", "--container", "x",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [[], ["-N2", "true"], ["--container"], ["--container", "name"], ["--container=", "true"]],
)
def test_srun_needs_an_image_and_a_command(programs, words):
    """Without them nothing is started on the bare nodes."""
    with pytest.raises(UsageError, match="hpcimg srun needs an image and a command"):
        srun_argv(words)


@pytest.mark.parametrize(
    "words",
    [["--container", "name", "-n1", "true"], ["--container-image=name", "--", "true"]],
)
def test_an_option_of_srun_s_is_no_command(programs, words):
    """It would be started as a program on every node; the hint says where it goes."""
    with pytest.raises(UsageError, match=r"'--?(n1)?' comes after the image's name") as caught:
        srun_argv(words)
    option = words[0].partition("=")[0]
    assert caught.value.hint == f"put {option} NAME last of srun's options"


def test_a_machine_without_srun(monkeypatch, tmp_path):
    """The program is named."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeFailure, match='"srun" is not on this machine\'s PATH'):
        srun_argv(["--container", "name", "true"])
