"""The ways to ask for an image, and what must never be taken for one."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest
from conftest import Cluster
from launching import IMAGE, Allocation, allocate, needs_pmix

pytestmark = pytest.mark.integration

WHERE = "if test -e /.singularity.d; then echo container; else echo host; fi"
BUNDLES = (
    "rm -rf ~/conf; cp -r /etc/slurm ~/conf; touch ~/conf/oci.conf; "
    "export SLURM_CONF=$HOME/conf/slurm.conf"
)
"""A submit host that has Slurm's set-up for bundles."""
DIFFERENT = "the components of one command ask for different images"


@pytest.fixture(scope="module")
def job(cluster: Cluster) -> Iterator[Allocation]:
    """One job for all steps of this file."""
    yield from allocate(cluster)


def step(job: Allocation, *words: str, environment: str = "", script: str = WHERE):
    """A step that says where it runs."""
    return job.step(*words, "sh", "-c", script, image=None, environment=environment)


@pytest.mark.parametrize(
    ("words", "environment", "where"),
    [
        pytest.param(["--container", IMAGE], "", "container", id="two words"),
        pytest.param([f"--container={IMAGE}"], "", "container", id="one word"),
        pytest.param(["--container-image", IMAGE], "", "container", id="ours"),
        pytest.param([], f"export SRUN_CONTAINER={IMAGE}", "container", id="variable"),
        pytest.param(
            ["--container", IMAGE, "--mpi=pmix"], "", "container", id="PMIx", marks=needs_pmix
        ),
        pytest.param(["--container", IMAGE, "--export=NONE"], "", "container", id="export none"),
        pytest.param(["--container", IMAGE, "--export=NIL"], "", "container", id="export nil"),
        pytest.param(["--container", IMAGE, "--export=A=b"], "", "container", id="export one"),
        pytest.param(
            [f"--container-image={IMAGE}", "--export=SLURM_HPCIMG_IMAGE="],
            "",
            "container",
            id="export an empty one",
        ),
        pytest.param([], f"export SLURM_HPCIMG_IMAGE={IMAGE}", "container", id="inherited"),
        pytest.param(
            ["--container-image=none"],
            f"export SLURM_HPCIMG_IMAGE={IMAGE}",
            "host",
            id="inherited, and none",
        ),
        pytest.param(
            ["--container-image=none"], f"export SRUN_CONTAINER={IMAGE}", "host", id="option wins"
        ),
        pytest.param([], "export SLURM_CONTAINER=/a/bundle", "host", id="outer bundle"),
        pytest.param(["--container", "./bundle"], BUNDLES, "host", id="a bundle here"),
        pytest.param(["--container", "../bundle"], BUNDLES, "host", id="a bundle above"),
        pytest.param(["--container", "/bundle"], BUNDLES, "host", id="a bundle by path"),
        pytest.param(["--", "env", "A=--container"], "", "host", id="in the command"),
    ],
)
@pytest.mark.newest
def test_where_a_step_runs(job: Allocation, words: list[str], environment: str, where: str) -> None:
    """Every way to name an image leads into it, and nothing else does."""
    ended = step(job, *words, environment=environment, script=f"PATH=/bin:/usr/bin; {WHERE}")
    assert ended.output == f"{where}\n", ended.errors


def test_words_of_the_command_stay(job: Allocation) -> None:
    """`srun echo --container foo` prints `--container foo`."""
    ended = job.step("echo", "--container", "foo", image=None)
    assert ended.output == "--container foo\n", ended.errors


def test_environment_of_the_task_is_that_of_srun(job: Allocation) -> None:
    """--container leaves no variable in the task that --container-image would not."""
    seen = []
    for asked in (["--container", IMAGE], ["--container-image", IMAGE]):
        ended = job.step(*asked, "env", image=None, environment="export SLURM_CONTAINER=/outer")
        seen.append({line.split("=")[0] for line in ended.output.splitlines()})
        assert "SLURM_CONTAINER=/outer" in ended.output.splitlines()
    assert seen[0] == seen[1]


@pytest.mark.newest
def test_input_and_terminal_come_through(job: Allocation) -> None:
    """A pipe on standard input and --pty work with the literal --container."""
    ended = job.step("--container", IMAGE, "cat", image=None, give="words")
    assert ended.output == "words", ended.errors
    line = shlex.join(job.command("--container", IMAGE, "--pty", "sh", "-c", "tty; " + WHERE))
    done = job.cluster.shell(f"script -qec {shlex.quote(line)} /dev/null </dev/null")
    terminal, where = done.stdout.splitlines()[-2:]
    assert (terminal.lstrip("^@"), where) == ("/dev/pts/0", "container"), done


@pytest.mark.newest
def test_two_names_in_one_command(job: Allocation) -> None:
    """--container and --container-image with different names are refused."""
    ended = step(job, "--container", IMAGE, "--container-image=qnib/other")
    assert ended.code == 1
    assert f'two images in one command, with --container "{IMAGE}"' in ended.errors
    assert ended.output == ""


def test_a_path_is_refused_where_slurm_runs_no_bundle(job: Allocation) -> None:
    """A mistyped one ran the command on the host."""
    for name in ("./nodir", "../nodir", "/nodir"):
        ended = step(job, "--container", name)
        assert (ended.code, ended.output) == (1, ""), ended
        assert ended.errors.splitlines() == [
            (
                "srun: error: hpcimg: Slurm runs no OCI bundles here, "
                f'but the command on the host: "{name}"'
            ),
            (
                "srun: error: hpcimg: hint: write --container-image=PATH for a directory with an "
                "image in it"
            ),
        ]


@pytest.mark.newest
def test_nested_srun_inherits(job: Allocation) -> None:
    """A task finds its image in the variable that makes an srun of its own inherit it."""
    ended = job.step("env", image=None, environment=f"export SRUN_CONTAINER={IMAGE}")
    assert f"SLURM_HPCIMG_IMAGE={IMAGE}" in ended.output.splitlines(), ended.errors
    ended = job.step("bench", image=None, environment=f"export SLURM_HPCIMG_IMAGE={IMAGE}")
    assert "cpu:broadwell" in ended.output, ended.errors


@pytest.mark.parametrize(
    ("first", "second", "where"),
    [
        pytest.param(["--container", IMAGE], ["--container", IMAGE], "container", id="the same"),
        pytest.param(
            [f"--container-image={IMAGE}"], ["--container", IMAGE], "container", id="both words"
        ),
        pytest.param(["--container", IMAGE], [], None, id="first only"),
        pytest.param([], ["--container", IMAGE], None, id="second only"),
        pytest.param(["--container", IMAGE], ["--container", f"{IMAGE}2"], None, id="two images"),
        pytest.param([], [], "host", id="none"),
    ],
)
def test_heterogeneous_step(
    cluster: Cluster, first: list[str], second: list[str], where: str | None
) -> None:
    """Components that name one image get it; different ones are refused, never exchanged."""
    command = ["-n1", "--mem=100", "sh", "-c", f"echo $SLURMD_NODENAME; {WHERE}"]
    done = cluster.run("srun", "-w", "bdw1", *first, *command, ":", "-w", "skx1", *second, *command)
    if where is None:
        assert done.returncode == 1
        assert DIFFERENT in done.stderr
        assert done.stdout == ""
    else:
        assert sorted(done.stdout.split()) == sorted(["bdw1", "skx1", where, where]), done.stderr


@pytest.mark.newest
def test_heterogeneous_job(cluster: Cluster) -> None:
    """In a heterogeneous job the groups of one step share its image, each with its own build."""
    inner = [
        f"srun --het-group=0,1 --container {IMAGE} bench",
        f"srun --het-group=0 --container {IMAGE} bench : --het-group=1 --container {IMAGE} bench",
        f"srun --het-group=0,1 --container-image=none sh -c '{WHERE}'",
    ]
    script = shlex.quote("; ".join(inner))
    done = cluster.shell(
        f"salloc -w bdw1 --mem=100 --container-image={IMAGE} : -w skx1 --mem=100 "
        f"--container-image={IMAGE} sh -c {script}"
    )
    said = [line.split(": ")[-1] for line in done.stdout.splitlines()]
    assert sorted(said[:2]) == sorted(said[2:4]) == ["cpu:broadwell", "cpu:skylake"], done.stderr
    assert said[4:] == ["host", "host"]


SCRIPT = f"""#!/bin/sh
PATH=/usr/bin:/bin
export PATH
{WHERE}
test -e /.singularity.d && exit
srun /bin/sh -c '{WHERE}'
srun --container-image=none /bin/sh -c '{WHERE}'
srun --container qnib/plain-featuretest:generic bench
"""
GENERIC = ">> This container is not optimized for a specific microarchitecture\n"
ON_HOST = f"host\ncontainer\nhost\n{GENERIC}"


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        pytest.param(f"--container {IMAGE}", ON_HOST, id="default of the steps"),
        pytest.param(f"--container {IMAGE} --export=NONE", ON_HOST, id="and nothing exported"),
        pytest.param(f"--container {IMAGE} --export-file=given", ON_HOST, id="and a file"),
        pytest.param(f"--container-image={IMAGE}", "container\n", id="the script inside"),
        pytest.param(
            f"--container-image={IMAGE} --export-file=given", "container\n", id="inside, and a file"
        ),
    ],
)
@pytest.mark.newest
def test_batch_script(cluster: Cluster, words: str, printed: str) -> None:
    """The image is the default of the job's steps, or the script runs in it."""
    make = f"cd; printf %s {shlex.quote(SCRIPT)} >script; printf 'A=b\\0' >given; rm -f said"
    done = cluster.shell(f"{make}; sbatch -W -w bdw1 --mem=500 -o said {words} script; cat said")
    assert done.stdout.split("\n", 1)[1] == printed, done.stderr


def test_directive_in_the_script(cluster: Cluster) -> None:
    """`#SBATCH --container=NAME` is the same as the word on the command line."""
    script = SCRIPT.replace("\n", f"\n#SBATCH --container={IMAGE}\n", 1)
    make = f"cd; printf %s {shlex.quote(script)} >script; rm -f said"
    done = cluster.shell(f"{make}; sbatch -W -w bdw1 --mem=500 -o said script; cat said")
    assert done.stdout.split("\n", 1)[1] == ON_HOST, done.stderr


@pytest.mark.newest
def test_salloc(cluster: Cluster) -> None:
    """The shell of salloc stays on the host, its steps are in the image."""
    script = shlex.quote(f"{WHERE}; srun sh -c '{WHERE}'; srun --container-image=none hostname")
    done = cluster.shell(f"salloc -w bdw1 --mem=100 --container-image={IMAGE} sh -c {script}")
    assert done.stdout == "host\ncontainer\nbdw1\n", done.stderr


DEFAULT = "SLURM_SPANK__SLURM_SPANK_OPTION_hpcimg_container_image"


def test_a_step_has_no_default_of_salloc(job: Allocation) -> None:
    """Or a command in a step on the host could not ask for the very image that salloc had."""
    asked = ("--container-image=none", "env")
    ended = job.step(*asked, image=None, environment=f"export {DEFAULT}={IMAGE}")
    assert DEFAULT not in ended.output, ended.errors
    assert "SLURM_HPCIMG_IMAGE=none" in ended.output.splitlines()


def test_a_job_in_a_job_has_the_image_that_it_names(cluster: Cluster) -> None:
    """`sbatch --container B` inside of `salloc --container-image=A` kept A for its script."""
    inner = "sbatch -W -w bdw1 --mem=100 -o said --container qnib/plain-featuretest:generic script"
    done = cluster.shell(
        f"cd; printf %s {shlex.quote(SCRIPT)} >script; rm -f said; "
        f"{DEFAULT}={IMAGE} SLURM_HPCIMG_IMAGE={IMAGE} {inner}; cat said"
    )
    assert done.stdout.split("\n", 1)[1] == ON_HOST, done.stderr
