"""How the options of a container are said, and what is said of those that cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Cluster
from launching import Allocation, allocate

pytestmark = pytest.mark.integration

SOURCE = Path(__file__).resolve().parents[2] / "spank" / "options.c"
IMAGE = "app"
HINT = "leave one of them out"


def options() -> list[str]:
    """All of the plugin's table, as they are typed."""
    names = re.findall(r'^    \{"([a-z-]+)",', SOURCE.read_text("utf-8"), re.MULTILINE)
    return [
        f"--no-container-{name[3:]}" if name.startswith("no-") else f"--container-{name}"
        for name in names
    ]


@pytest.fixture(scope="module")
def job(cluster: Cluster) -> Iterator[Allocation]:
    """One job for all steps of this file."""
    yield from allocate(cluster)


def test_help_lists_all(cluster: Cluster) -> None:
    """`srun --help` has each option, with a line that is ours."""
    said = {command: cluster.run(command, "--help").stdout for command in ("srun", "sbatch")}
    names = options()
    assert len(names) == 19
    for command, text in said.items():
        for name in names:
            assert re.search(rf"^ +{name}(=\S+)?\s+\[hpcimg\] ", text, re.MULTILINE), (
                command,
                name,
            )


@pytest.mark.parametrize(
    ("words", "environment", "where"),
    [
        pytest.param("", "HPCIMG_CONTAINER_WORKDIR=/usr", "/usr", id="twin"),
        pytest.param("", "PYXIS_CONTAINER_WORKDIR=/usr", "/usr", id="that of Pyxis"),
        pytest.param(
            "", "HPCIMG_CONTAINER_WORKDIR=/usr PYXIS_CONTAINER_WORKDIR=/var", "/usr", id="ours wins"
        ),
        pytest.param(
            "--container-workdir=/var", "HPCIMG_CONTAINER_WORKDIR=/usr", "/var", id="option wins"
        ),
        pytest.param("", "SLURM_HPCIMG_WORKDIR=/usr", "/usr", id="inherited"),
        pytest.param(
            "", "SLURM_HPCIMG_WORKDIR=/usr HPCIMG_CONTAINER_WORKDIR=/var", "/var", id="twin wins"
        ),
        pytest.param(
            "--container-workdir=/var --container-workdir=/var", "", "/var", id="repeated"
        ),
        pytest.param("--container-workdir=", "SLURM_HPCIMG_WORKDIR=/usr", "/tmp", id="taken back"),
        pytest.param("--export=NONE --container-workdir=/usr", "", "/usr", id="export none"),
    ],
)
def test_who_says_a_word(job: Allocation, words: str, environment: str, where: str) -> None:
    """The command line goes first, then the twins, then what an outer command said."""
    asked = ["--chdir=/tmp", f"--container-image={IMAGE}", *words.split()]
    ended = job.step(*asked, "/bin/pwd", image=None, environment=f"export {environment or 'A=b'}")
    assert ended.output == f"{where}\n", ended.errors


def test_image_by_twin(job: Allocation) -> None:
    """`PYXIS_CONTAINER_IMAGE` in people's scripts names the image; the option wins."""
    given = f"export PYXIS_CONTAINER_IMAGE={IMAGE}"
    ended = job.step("--chdir=/tmp", "ls", "/app", image=None, environment=given)
    assert ended.output == "data\nenter\n", ended.errors
    ended = job.step("--container-image=none", "hostname", image=None, environment=given)
    assert ended.output == "bdw1\n", ended.errors


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "--container-workdir=/a --container-workdir=/b",
            f'"--container-workdir=/a" and "--container-workdir=/b" exclude each other|{HINT}',
        ),
        (
            "--container-writable --container-readonly",
            f'"--container-writable" and "--container-readonly" exclude each other|{HINT}',
        ),
        (
            "--no-container-mount-home --container-mount-home",
            f'"--no-container-mount-home" and "--container-mount-home" exclude each other|{HINT}',
        ),
        (
            "--container-workdir=a",
            'this is no directory of a container: "a"|write a path that begins with /',
        ),
        (
            "--container-platform=broadwell",
            'this is no platform: "broadwell"|write it as linux/amd64:broadwell:nv-compute-5-2',
        ),
        (
            "--container-unshare=net,pid",
            (
                'this is no namespace that a container may have of its own: "pid"'
                "|write net, ipc or uts, several with commas between"
            ),
        ),
        (
            "--container-env=A,B=1",
            'this is no name of a variable: "B=1"|write names with commas between, no values',
        ),
    ],
)
def test_refused_where_it_is_typed(job: Allocation, words: str, said: str) -> None:
    """What cannot be meant is refused by srun, with the words."""
    ended = job.step(*words.split(), "echo", "ran", image=IMAGE)
    what, hint = said.split("|")
    assert (ended.code, ended.output) == (1, "")
    assert ended.errors.splitlines() == [
        f"srun: error: hpcimg: {what}",
        f"srun: error: hpcimg: hint: {hint}",
    ]


def test_twins_that_say_no_such_thing(job: Allocation) -> None:
    """The hint names the variable; without an image nobody is held up."""
    given = "export HPCIMG_CONTAINER_MOUNT_HOME=maybe"
    ended = job.step("echo", "ran", image=IMAGE, environment=given)
    assert (ended.code, ended.output) == (1, "")
    assert 'this is no yes or no: "maybe"' in ended.errors
    assert "hint: write yes or no, in HPCIMG_CONTAINER_MOUNT_HOME" in ended.errors
    both = "export HPCIMG_CONTAINER_WRITABLE=1 HPCIMG_CONTAINER_READONLY=1"
    ended = job.step("echo", "ran", image=IMAGE, environment=both)
    assert 'this is no yes or no: "yes and no"' in ended.errors
    ended = job.step("echo", "ran", image=None, environment=f"{given}; {both}")
    assert ended.output == "ran\n", ended.errors


def test_an_option_without_an_image(cluster: Cluster, job: Allocation) -> None:
    """Srun says so; of sbatch and salloc it is for steps that name one; of `none` it is no use."""
    ended = job.step("--container-workdir=/usr", "echo", "ran", image=None)
    assert (ended.code, ended.output) == (1, "")
    assert 'hpcimg: there is no image for "--container-workdir"' in ended.errors
    assert "hpcimg: hint: name one: --container-image=NAME" in ended.errors
    ended = job.step("--container-workdir=/usr", "echo", "ran", image="none")
    assert ended.output == "ran\n", ended.errors
    done = cluster.shell(
        f"salloc -Q -w zen1 --mem=100 --container-workdir=/usr srun --container-image={IMAGE} pwd"
    )
    assert done.stdout == "/usr\n", done.stderr


def test_sbatch_takes_the_last(cluster: Cluster) -> None:
    """The command line wins over the script's directive, as with all of Slurm's options."""
    script = "#!/bin/sh\\n#SBATCH --container-workdir=/usr\\n/bin/pwd\\nsrun pwd\\n"
    done = cluster.shell(
        f"cd; printf '{script}' >script; rm -f said; sbatch -W -w zen1 --mem=100 -o said "
        f"--container={IMAGE} --container-workdir=/var script; cat said"
    )
    assert done.stdout.split("\n", 1)[1] == "/home/alice\n/var\n", done.stderr


def test_components_say_the_same(cluster: Cluster) -> None:
    """They share one environment: a word of one is for all, two are refused."""
    part = ["--mem=100", "-n1", f"--container-image={IMAGE}"]
    first, second = ["-w", "skx1", *part, "/bin/pwd"], ["-w", "zen1", *part, "/bin/pwd"]
    done = cluster.run("srun", "--container-workdir=/usr", *first, ":", *second)
    assert done.stdout == "/usr\n/usr\n", done.stderr
    both = ["--container-workdir=/usr", *first, ":", "--container-workdir=/var", *second]
    done = cluster.run("srun", *both)
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        'the components of one command differ in --container-workdir, one says "/var"'
        in done.stderr
    )


FORGED = {
    "WORKDIR=../etc": '"../etc" is no directory of a container',
    "MOUNTS=/a:/b:suid": '"/a:/b:suid" is no mount that can be made',
    "ROOT=maybe": '"maybe" is no yes or no',
    "ENV=A;B": '"A;B" is no name of a variable',
    "UNSHARE=user": '"user" is no namespace that a container may have of its own',
    "PLATFORM=--store=own": '"--store=own" is no platform',
}


def test_forged_words_are_refused_on_the_node(job: Allocation) -> None:
    """What srun never saw reaches the node in the step's environment, and stops there."""
    for word, said in FORGED.items():
        ended = job.step(f"--export=ALL,SLURM_HPCIMG_{word}", "echo", "ran", image=IMAGE)
        assert (ended.code, ended.output) == (125, ""), ended
        assert f'hpcimg: bdw1: could not run "{IMAGE}": {said}' in ended.errors.splitlines()


def test_own_words_stay_with_their_command(job: Allocation) -> None:
    """What names and saves one container is not for the commands that are started in it."""
    given = "export SLURM_HPCIMG_SAVE=/tmp/x SLURM_HPCIMG_NAME=x SLURM_HPCIMG_ENTRYPOINT_LOG=yes"
    ended = job.step("env", environment=given)
    assert "SLURM_HPCIMG_IMAGE=" in ended.output, ended.errors
    assert not re.search("SLURM_HPCIMG_(SAVE|NAME|ENTRYPOINT_LOG)", ended.output)
