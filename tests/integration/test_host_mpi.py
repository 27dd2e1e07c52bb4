"""The host's MPICH in place of the image's, as the site's settings want it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Cluster

pytestmark = pytest.mark.integration

_SHOW = Path(__file__).with_name("show_maps.c")
LIB = "/usr/lib/x86_64-linux-gnu"
MAPPED = f"{LIB}/libmpich.so.12.4.1"
DROP_IN = "/etc/hpcimg/settings.d/80-host-mpi.yaml"
# The site's MPI is the nodes' own under other version numbers, with a mark behind its end.
_SITE = f"""
mkdir -p /opt/site-mpi && cd /opt/site-mpi
[ -f libmpi.so.12.9.0 ] || {{ cat {MAPPED}; echo 'the site'; }} >libmpi.so.12.9.0
ln -sf libmpi.so.12.9.0 libmpi.so.12
ln -f libmpi.so.12.9.0 libmpi.so.12.1.0
"""


@pytest.fixture
def settle(cluster: Cluster) -> Iterator[Callable[[str], None]]:
    """Have a rule in the site's settings for one test, and the site's MPI on two nodes."""

    def write(text: str) -> None:
        command = f"mkdir -p $(dirname {DROP_IN}); printf %s {shlex.quote(text)} >{DROP_IN}"
        assert cluster.shell(command, user="root").returncode == 0

    for node in ("bdw1", "skx1"):
        made = cluster.shell(_SITE, node=node, user="root")
        assert made.returncode == 0, made.stderr
    source = shlex.quote(_SHOW.read_text("utf-8"))
    made = cluster.shell(f"printf %s {source} | mpicc.mpich -O1 -x c -o ~/show_maps -")
    assert made.returncode == 0, made.stderr
    yield write
    cluster.run("rm", "-f", DROP_IN, user="root")


def lend(library: str, more: str = "") -> str:
    """A drop-in that lends one library of the site's MPI."""
    return f"host_mpi:\n  - libraries: [/opt/site-mpi/{library}]\n{more}"


STARTS = pytest.mark.parametrize(
    "start",
    [
        pytest.param("--container={image}", id="plugin"),
        pytest.param("hpcimg run --say-once {image} --", id="run"),
    ],
)


@STARTS
def test_the_hosts_library_is_the_one_that_is_loaded(cluster, settle, start):
    """The ranks' memory maps it on both nodes, and they find each other through it."""
    step = f"srun --mpi=pmi2 -w bdw1,skx1 -N2 -n4 {start.format(image='mpich')} ./show_maps"
    bare = cluster.shell(f"cd ~; {step}")
    assert f"{MAPPED} is another's\n4 ranks\n" in bare.stdout, bare.stderr
    settle(lend("libmpi.so.12"))
    lent = cluster.shell(f"cd ~; {step}")
    assert f"{MAPPED} is the site's\n" in lent.stdout, lent.stderr
    assert "4 ranks\n" in lent.stdout
    assert "warning" not in lent.stderr


@STARTS
def test_what_is_new_to_the_image_is_found_by_its_name(cluster, settle, start):
    """A library that the site's MPI needs stands where programs look last, and is whole."""
    settle(lend(f"libmpi.so.12, {LIB}/libz.so.1"))
    step = f"srun -w bdw1 -n1 {start.format(image='mpich')} sh -c"
    script = (
        "ls /.singularity.d/libs; cat /.singularity.d/libs/libz.so.1 | wc -c; echo $LD_LIBRARY_PATH"
    )
    done = cluster.shell(f"wc -c <$(realpath {LIB}/libz.so.1); {step} {shlex.quote(script)}")
    size, name, inside, path = done.stdout.split()
    assert (name, inside) == ("libz.so.1", size), done.stderr
    assert path.endswith("/.singularity.d/libs")


@STARTS
def test_an_older_library_stays_out_and_the_user_is_told_once_a_node(cluster, settle, start):
    """The image runs with its own; on a node that lacks the library, too."""
    settle(lend("libmpi.so.12.1.0"))
    step = f"srun --mpi=pmi2 -w bdw1,zen1 -N2 -n4 {start.format(image='mpich')} ./show_maps"
    done = cluster.shell(f"cd ~; {step}")
    assert f"{MAPPED} is another's\n4 ranks\n" in done.stdout, done.stderr
    told = done.stderr.split("the image runs with its own MPI: ")[1:]
    assert sorted(one.splitlines()[0] for one in told) == [
        "the site's /opt/site-mpi/libmpi.so.12.1.0 cannot be read: No such file or directory",
        "the site's libmpi.so.12.1.0 is 12.1.0, older than the image's 12.4.1",
    ]


@STARTS
def test_a_site_may_have_nothing_run_instead(cluster, settle, start):
    """`on_mismatch: fail` refuses the image with the reason, and the command does not run."""
    settle(lend("libmpi.so.12.1.0", "    on_mismatch: fail\n"))
    done = cluster.shell(f"cd ~; srun -w bdw1 -n2 {start.format(image='mpich')} echo ran")
    assert done.returncode == 125
    assert "ran" not in done.stdout
    assert "does not run with the site's MPI: the site's libmpi.so.12.1.0 is" in done.stderr
    assert done.stderr.count("older than the image's 12.4.1") == 1


@STARTS
def test_an_image_of_open_mpi_is_left_alone(cluster, settle, start):
    """What the site lends of MPICH is not for it, and nothing is said."""
    settle(lend("libmpi.so.12"))
    step = f"srun --mpi=pmix -w bdw1 -n2 {start.format(image='mpi')} mpihello"
    done = cluster.shell(step)
    assert done.stdout.count("of 2 on bdw1") == 2, done.stderr
    assert "warning" not in done.stderr
