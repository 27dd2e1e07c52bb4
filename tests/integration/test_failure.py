"""When a launch cannot be: srun fails, each node says why in two lines, the host runs nothing."""

from __future__ import annotations

import re
import secrets

import mishaps
import pytest

pytestmark = pytest.mark.integration

NODE = "zen1"
LIBEXEC = "/usr/local/libexec/hpcimg"
LAUNCH_FAILED = 125


@pytest.fixture(scope="module", autouse=True)
def ready(cluster):
    """Have the images of these tests, with the bench's in the store, and nodes that are in use."""
    featuretest = "qnib/plain-featuretest"
    mishaps.push(cluster, "qnib/avx512-only", (f"{featuretest}:cpu-skylake", "cpu:skylake_avx512"))
    done = cluster.run("srun", "-w", NODE, "--container", "qnib/bench", "true")
    assert done.returncode == 0, done.stderr
    yield
    states = mishaps.do(cluster, "sinfo -hN -o '%N %T'").split("\n")
    assert not [line for line in states if re.search("drain|down|fail", line)], states


def refused(cluster, name, *options, nodes=(NODE,), user="alice"):
    """Launch what leaves a mark; give each node's two lines, having checked that nothing ran."""
    mark = f"/home/{user}/mark-{secrets.token_hex(4)}"
    where = ("-w", ",".join(nodes))
    done = cluster.run("srun", *where, *options, "--container", name, "touch", mark, user=user)
    assert done.returncode == LAUNCH_FAILED, (done.returncode, done.stderr)
    assert cluster.run("test", "-e", mark, user=user).returncode == 1, "the command has run"
    ours = [line for line in done.stderr.splitlines() if not line.startswith("srun: ")]
    said = {node: [line for line in ours if line.startswith(f"hpcimg: {node}: ")] for node in nodes}
    assert sum(map(len, said.values())) == len(ours), f"lines of no node:\n{done.stderr}"
    result = []
    for node, lines in said.items():
        assert len(lines) == 2, f"{node} says not two lines:\n{done.stderr}"
        what, hint = (line.removeprefix(f"hpcimg: {node}: ") for line in lines)
        assert hint.startswith("hint: "), done.stderr
        result.append((what, hint.removeprefix("hint: ")))
    return result


SITE = {
    "unknown name": ("qnib/nothing", r'"registry:5000/qnib/nothing:latest" is not in the registry'),
    "unknown tag": ("qnib/bench:nope", r'"registry:5000/qnib/bench:nope" is not in the registry'),
    "unlisted registry": (
        "docker.io/library/alpine",
        r'registry host "docker\.io" is not listed in the site\'s settings',
    ),
    "no fitting entry": (
        "qnib/avx512-only",
        r"no image of registry:5000/qnib/avx512-only:latest runs on zen1: needs cpu:sky.*zen3",
    ),
    "no image name": ("qnib/BENCH", r"image name 'qnib/BENCH': 'BENCH' is not part of a name"),
}


@pytest.mark.parametrize("case", SITE)
def test_a_name_that_cannot_be_run(cluster, case):
    """What the name means decides: the reason names it, and the hint says what to do."""
    name, wanted = SITE[case]
    ((what, hint),) = refused(cluster, name, "-n2")
    assert re.match(wanted, what), what
    assert hint


@pytest.mark.newest
def test_each_of_three_nodes_says_it_once(cluster):
    """Eight tasks on three nodes are three reports."""
    nodes = ("bdw1", "skx1", NODE)
    said = refused(cluster, "qnib/nothing", "-O", "-n8", nodes=nodes)
    assert len(said) == len(nodes)


def test_a_registry_that_is_down(cluster):
    """The address and the reason are in the line."""
    with mishaps.settings(cluster, registries={"registry:5999": {"plain_http": True}}):
        ((what, hint),) = refused(cluster, "registry:5999/qnib/bench")
    assert what == (
        "could not reach http://registry:5999/v2/qnib/bench/manifests/latest: connection refused"
    )
    assert hint == "is the registry up, and may this node reach it?"


def test_a_full_disk(cluster):
    """The line names the store and the room that there is, and nothing half-made is left."""
    with mishaps.small_disk(cluster, NODE):
        ((what, hint),) = refused(cluster, "qnib/bench", "-n2")
        left = mishaps.do(cluster, "find /srv/small/store -type f -size +8k", NODE)
    assert re.match(r'could not .* in "/srv/small/store.*": no space left; .* free', what), what
    assert "make room" in hint
    assert left == ""


def test_a_node_without_user_namespaces(cluster):
    """Without them there is no container; the hint names the switches."""
    with mishaps.without_user_namespaces(cluster, NODE):
        ((what, hint),) = refused(cluster, "qnib/bench", "-n8", "-O")
    assert what.startswith('could not start "qnib/bench": '), what
    assert re.search("user namespace", what), what
    assert "user.max_user_namespaces" in hint


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/usr/bin/apptainer", r'"/usr/bin/apptainer"|"apptainer" is not installed on this node'),
        (mishaps.PYTHON, mishaps.PYTHON),
        (f"{LIBEXEC}/starter", f"{LIBEXEC}/starter"),
        (f"{LIBEXEC}/joiner", f"{LIBEXEC}/joiner"),
        (f"{LIBEXEC}/holder", f"{LIBEXEC}/holder"),
    ],
    ids=["apptainer", "python", "starter", "joiner", "holder"],
)
def test_a_program_that_is_missing(cluster, path, wanted):
    """A node that is not installed as it should be names the program."""
    with mishaps.missing(cluster, NODE, path):
        ((what, _),) = refused(cluster, "qnib/bench", "-n2")
    assert re.search(wanted, what), what


def test_a_node_without_the_stores_account(cluster):
    """Nobody but that account may write the store, and nobody takes its place."""
    with mishaps.without_account(cluster, NODE):
        ((what, hint),) = refused(cluster, "qnib/bench", "-n2")
    assert "the store's account" in what
    assert "create it" in hint


def test_settings_that_are_wrong(cluster):
    """The file, the line and the word are named."""
    with mishaps.settings(cluster, hosts={}):
        ((what, hint),) = refused(cluster, "qnib/bench")
    assert re.match(r'/etc/hpcimg/settings\.yaml:1: "hosts" is no setting; did you mean ', what)
    assert hint == "correct the settings file"
