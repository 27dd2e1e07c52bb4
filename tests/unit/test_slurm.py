"""Slurm's words: the GPUs of a job, the nodes of a step, and an srun that starts us."""

from __future__ import annotations

import pytest

from hpcimg.errors import RuntimeFailure, UsageError
from hpcimg.slurm import (
    has_node_numbers,
    is_first_task,
    job_gpus,
    job_name,
    job_nodes,
    job_pin,
    job_restarts,
    names_several,
    node_name,
    nodes_of_list,
    parse_gpus,
)
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


STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_GPUS": "1,2"}


@pytest.mark.parametrize(
    ("more", "gpus"),
    [
        ({"CUDA_VISIBLE_DEVICES": "MIG-a,MIG-b"}, ("MIG-a", "MIG-b")),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, ("1", "2")),
        ({"CUDA_VISIBLE_DEVICES": "MIG-a", "SLURM_STEP_GPUS": ""}, ()),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, ()),
        ({"NVIDIA_VISIBLE_DEVICES": "none"}, ()),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, ("1", "2")),
    ],
)
def test_what_programs_are_told_names_slices_and_nothing_more(more, gpus):
    """A slice by its UUID, where there is a GPU; a user may leave all out, and take none more."""
    assert job_gpus({**STEP, **more}) == gpus


@pytest.mark.parametrize(
    ("more", "has_them"),
    [
        ({"CUDA_VISIBLE_DEVICES": "1,2"}, True),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "ROCR_VISIBLE_DEVICES": "0,1"}, False),
        ({"ZE_AFFINITY_MASK": "1,2"}, True),
        ({}, False),
    ],
)
def test_whether_programs_are_told_the_nodes_numbers(more, has_them):
    """They repeat the step's where nothing denies the other GPUs."""
    assert has_node_numbers({**STEP, **more}) is has_them


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("bdw1", ("bdw1",)),
        ("skx1,bdw1,bdw1", ("bdw1", "skx1")),
        ("n[1-3,7],gpu1", ("gpu1", "n1", "n2", "n3", "n7")),
        ("n[08-11]", ("n08", "n09", "n10", "n11")),
        ("r[1-2]n[01-02].x", ("r1n01.x", "r1n02.x", "r2n01.x", "r2n02.x")),
    ],
)
def test_node_lists_as_slurm_writes_them(text, nodes):
    """Ranges with their width, several in one name; sorted, each once."""
    assert nodes_of_list(text) == nodes


@pytest.mark.parametrize(
    "text",
    ["a,,b", "n[1-3", "n1]", "n[]", "n[3-1]", "n[1-]", "n[a-b]", "a b", "a\nb", ",",
     "n[1-999999999]", "n[1-1000]m[1-1000]", "x" * 10000 + "[", "n[" + "1-9," * 9999 + "-]"],
)  # fmt: skip
def test_what_is_no_node_list(text):
    """Refused at once, in one short line."""
    with pytest.raises(UsageError) as caught:
        nodes_of_list(text)
    assert len(caught.value.message) < 200
    assert "\n" not in caught.value.message


def test_a_long_name_is_not_multiplied():
    """A few bytes would take gigabytes."""
    with pytest.raises(UsageError, match="is too long for the name of a node"):
        nodes_of_list("x" * 254 + "[1-131072]")


@pytest.mark.parametrize(
    ("text", "several"), [("", False), ("bdw1", False), ("bdw1,skx1", True), ("bdw[1-2]", True)]
)
def test_several_nodes_are_told_from_the_text(text, several):
    """Without making a single name of it."""
    assert names_several(text) == several


def test_an_empty_list_names_no_node():
    """It is a list of nothing, as an unset variable of a script makes it."""
    with pytest.raises(UsageError, match="the list of nodes is empty"):
        nodes_of_list("")


def test_the_nodes_and_the_name_of_a_job():
    """All the job's nodes, also where the step has some; outside of a job there are none."""
    assert job_nodes({}) == ()
    assert job_nodes({"SLURM_JOB_NODELIST": "n[1-2]"}) == ("n1", "n2")
    assert job_nodes({"SLURM_JOB_NODELIST": "n1", "SLURM_NODELIST": "n[1-2]"}) == ("n1", "n2")
    job = {"SLURM_JOB_ID": "7", "SLURM_CLUSTER_NAME": "c", "SLURM_JOB_START_TIME": "9"}
    assert job_name(job) == ("c", "7", "9")
    assert job_name({}) == ("", "", "")


def test_components_share_a_name():
    """They start within seconds, on one day; the prolog names them the same way."""
    part = {"SLURM_JOB_ID": "8", "SLURM_CLUSTER_NAME": "c", "SLURM_HET_JOB_ID": "7"}
    assert job_name({**part, "SLURM_JOB_START_TIME": "86409"}) == ("c", "7", "86400")
    assert job_name({**part, "SLURM_JOB_START_TIME": "x"}) == ("c", "7", "x")


def test_a_job_that_was_started_before():
    """What Slurm says, and what sbatch pinned for it."""
    assert job_restarts({"SLURM_RESTART_COUNT": "2"}) == 2
    assert job_restarts({}) == job_restarts({"SLURM_RESTART_COUNT": "-1"}) == 0
    assert job_pin({"SLURM_HPCIMG_PIN": "a@b"}) == "a@b"
    assert job_pin({}) == ""


def test_the_task_that_speaks():
    """The first on its node, and whoever is no task."""
    assert is_first_task({})
    assert is_first_task({"SLURM_LOCALID": "0"})
    assert not is_first_task({"SLURM_LOCALID": "1"})
    assert node_name({"SLURMD_NODENAME": "bdw1"}) == "bdw1"
    assert node_name({}) == ""


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
    "words", [["--container-match=uniform"], ["--container-match", "uniform"]], ids=len
)
def test_srun_hands_the_match_on(programs, words):
    """It is ours, not srun's."""
    assert srun_argv([*words, "-N2", "--container=name", "true"]) == [
        f"{programs}/srun", "-N2", f"{programs}/hpcimg", "run", "--say-once",
        "--match", "uniform", "name", "--", "true",
    ]  # fmt: skip


def test_srun_hands_the_pull_on(programs):
    """It is ours as well."""
    argv = srun_argv(["--container-pull=always", "--container=name", "true"])
    assert argv[3:] == ["--say-once", "--pull", "always", "name", "--", "true"]


def test_srun_hands_all_words_of_the_container_on(programs):
    """As the plugin has them: with a value, or as a switch and its opposite."""
    words = ["--container-mounts=/a:/b", "-n2", "--container-workdir", "/b", "--container-env=A,B"]
    switches = ["--no-container-mount-home", "--container-writable", "--container-entrypoint"]
    argv = srun_argv(
        [*words, *switches, "--container-platform=linux/amd64", "--container", "name", "true"]
    )
    assert argv[:2] == [f"{programs}/srun", "-n2"]
    assert argv[5:] == [
        "--mounts", "/a:/b", "--workdir", "/b", "--env", "A,B", "--no-mount-home", "--writable",
        "--entrypoint", "--platform", "linux/amd64", "name", "--", "true",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "option", ["--container-name=x", "--container-save", "--container-unshare=net"]
)
def test_what_only_the_plugin_can_is_said(programs, option):
    """What srun itself says is no more than that it does not know the option."""
    with pytest.raises(UsageError, match=f"{option.partition('=')[0]} needs the plugin"):
        srun_argv([option, "--container", "name", "true"])


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
