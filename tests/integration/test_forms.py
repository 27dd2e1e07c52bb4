"""The forms of an image: what users of Apptainer, enroot and skopeo type, and what is refused."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest
from conftest import Cluster
from launching import IMAGE, Allocation, allocate

pytestmark = pytest.mark.integration

REGISTRY = "registry:5000"
BROADWELL = ">> This container is optimized for: cpu:broadwell\n"
FORMATS = "hpcimg: bdw1: hint: name SIF, squashfs (.sqsh), a sandbox directory or an OCI layout"
AGAIN = "is the path right, and may you read it on this node?"


LAYOUT = f"""
import json, subprocess
copy = ("skopeo", "copy", "-q", "--src-tls-verify=false")
name = "docker://{REGISTRY}/{IMAGE}"
show = ("skopeo", "inspect", "--raw", "--tls-verify=false", name)
builds = json.loads(subprocess.check_output(show))["manifests"]
for number, build in enumerate(builds):
    subprocess.check_call([*copy, f"{{name}}@{{build['digest']}}", f"oci:layout:{{number}}"])
with open("layout/index.json") as file:
    index = json.load(file)
for entry, build in zip(index["manifests"], builds):
    entry["platform"] = build["platform"]
    entry["annotations"] = {{"org.opencontainers.image.ref.name": "v1"}}
with open("layout/index.json", "w") as file:
    json.dump(index, file)
"""
"""skopeo drops the features of an index that it converts: they are put into the layout's again."""


@pytest.fixture(scope="module")
def job(cluster: Cluster) -> Iterator[Allocation]:
    """One job for all steps of this file, and every form of one image in a folder with a space."""
    make = f"""
    set -e
    rm -rf ~/"my images"; mkdir -p ~/"my images"; cd ~/"my images"
    printf %s {shlex.quote(LAYOUT)} | /opt/hpcimg/bin/python -
    digest=$(hpcimg resolve {IMAGE} --node bdw1)
    hpcimg run "$digest" -- true
    line=$(hpcimg run --dry-run "$digest" -- true)
    cp "$(printf %s "$line" | sed 's/.*--userns \\([^ ]*\\) true/\\1/')" one.sif
    offset=$(apptainer sif list one.sif | sed -n 's/.*|\\([0-9]*\\)-[0-9]* *|FS.*/\\1/p')
    tail -c +$((offset + 1)) one.sif >"two, with: words.sqsh"
    unsquashfs -q -n -d box "two, with: words.sqsh" >/dev/null
    mkdir empty; echo text >text.sif; cp one.sif closed.sif; chmod 000 closed.sif
    """
    made = cluster.shell(make, node="bdw1")
    assert made.returncode == 0, made.stderr
    yield from allocate(cluster)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["--container-image=docker://qnib/bench"], id="docker"),
        pytest.param(["--container=docker://qnib/bench:latest"], id="docker and a tag"),
        pytest.param(["--container-image=registry:5000#qnib/bench"], id="enroot's name"),
        pytest.param(["--container-image", "one.sif"], id="SIF"),
        pytest.param(["--container", "./one.sif"], id="SIF by --container"),
        pytest.param(["--container-image", "./two, with: words.sqsh"], id="squashfs"),
        pytest.param(["--container-image=./box"], id="sandbox"),
        pytest.param(["--container-image=./layout"], id="layout by its directory"),
        pytest.param(["--container-image=oci:./layout"], id="layout"),
        pytest.param(["--container-image=oci:layout:v1"], id="layout and a tag"),
        pytest.param(["--container-image=~/my images/one.sif"], id="from the home"),
        pytest.param(["--chdir=box", "--container-image=../one.sif"], id="from the workdir"),
    ],
)
def test_form(job: Allocation, words: list[str]) -> None:
    """Each is the image, and of several builds the node's own."""
    ended = job.step(*words, "bench", image=None, environment='cd ~/"my images"')
    assert (ended.output, ended.code) == (BROADWELL, 0), ended.errors


def test_form_by_the_environment(job: Allocation) -> None:
    """The twins take a path too, and a nested command finds it from another directory."""
    nested = job.command("sh", "-c", "cat /etc/hostname; bench")
    line = f"cd /; {shlex.join(nested)}"
    for variable in ("HPCIMG_CONTAINER_IMAGE", "PYXIS_CONTAINER_IMAGE", "SRUN_CONTAINER"):
        ended = job.step(
            "bench", image=None, environment=f'cd ~/"my images"; export {variable}=./one.sif'
        )
        assert ended.output == BROADWELL, ended.errors
    absolute = "SLURM_HPCIMG_IMAGE=/home/alice/my images/one.sif"
    ended = job.step(
        "--container-image=./one.sif", "env", image=None, environment='cd ~/"my images"'
    )
    assert absolute in ended.output.splitlines(), line


@pytest.mark.parametrize(
    ("name", "why", "hint"),
    [
        (
            "./no.sif",
            "could not open image '/home/alice/my images/no.sif': No such file or dir",
            AGAIN,
        ),
        (
            "./closed.sif",
            "could not open image '/home/alice/my images/closed.sif': Permission",
            AGAIN,
        ),
        ("./text.sif", "'/home/alice/my images/text.sif' is no image", FORMATS),
        ("./empty", "directory '/home/alice/my images/empty' holds no image", FORMATS),
        (
            "oci:./empty",
            "could not read 'index.json' of the OCI layout",
            "is it a whole OCI layout",
        ),
        ("oci:./layout:v2", "has no image 'v2'", "with one of 'v1'"),
    ],
)
def test_what_is_no_image(job: Allocation, name: str, why: str, hint: str) -> None:
    """Said by the node, once, in two lines; nothing runs."""
    ended = job.step(
        f"--container-image={name}", "true", image=None, environment='cd ~/"my images"'
    )
    said = [line for line in ended.errors.splitlines() if line.startswith("hpcimg")]
    assert (ended.code, ended.output) == (125, "")
    assert len(said) == 2, ended.errors
    assert why in said[0]
    assert hint in said[1]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("library://a/b:1", "fetch it once with apptainer pull FILE.sif NAME, and name the file"),
        ("oras://h/a:1", "fetch it once with apptainer pull FILE.sif NAME, and name the file"),
        ("shub://a/b", "fetch it once with apptainer pull FILE.sif NAME, and name the file"),
        ("dockerd://a", "turn it into a layout with skopeo copy to oci:DIRECTORY, and name that"),
        ("docker-archive:a.tar", "turn it into a layout with skopeo copy to oci:DIRECTORY"),
        ("https://h/a", "write docker://NAME, a name alone, or the path of a file"),
        ("a b", "write [REGISTRY/]REPOSITORY[:TAG][@DIGEST], or the path of a file"),
        ("/a\033[31m\tb", "write [REGISTRY/]REPOSITORY[:TAG][@DIGEST], or the path of a file"),
    ],
)
def test_what_is_refused(job: Allocation, name: str, hint: str) -> None:
    """Other tools' words, with the word and what to do, before anything is allocated."""
    ended = job.step(f"--container-image={name}", "true", image=None)
    assert ended.code == 1
    said = ended.errors.splitlines()
    shown = name.replace("\033", "?").replace("\t", "?")
    assert f'"{shown}"' in said[0]
    assert hint in said[1]


def test_a_file_is_opened_by_its_user_alone(job: Allocation) -> None:
    """A name in a directory that root may enter and the user may not is not there for the user."""
    job.on_node("mkdir -p /root/kept; cp ~alice/my*/one.sif /root/kept; chmod 0700 /root")
    ended = job.step("--container-image=/root/kept/one.sif", "true", image=None)
    assert ended.code == 125
    assert "could not open image '/root/kept/one.sif': Permission denied" in ended.errors


def test_an_image_of_a_batch_script(cluster: Cluster, job: Allocation) -> None:
    """A path in a script's own line counts from where its steps work."""
    script = "#!/bin/sh\\n#SBATCH --container=./one.sif\\nsrun bench\\n"
    done = cluster.shell(
        f'cd ~/"my images"; printf "{script}" >job; rm -f said;'
        f" sbatch -W -w {job.node} --mem=500 -o said job; cat said"
    )
    assert done.stdout.splitlines()[1:] == [BROADWELL.strip()], done.stderr
