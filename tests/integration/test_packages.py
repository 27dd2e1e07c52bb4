"""The Debian and RPM packages: built on a node, installed where hpcimg never was, and upgraded."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Cluster
from launching import allocate
from newcluster import NODES, make_new_cluster

pytestmark = pytest.mark.integration

CHECKOUT = Path(__file__).resolve().parents[2]
_BUILD = """
set -e; cd /root/hpcimg; rm -rf /home/pkg
packaging/stage /root/stage
export STAGE=/root/stage
packaging/deb /home/pkg
packaging/rpm /home/pkg
"""
_INSTALL = "dpkg --force-unsafe-io -i /home/pkg/hpcimg_*.deb /home/pkg/hpcimg-slurm_*.deb"
_SITE = """
set -e
cat /usr/share/doc/hpcimg/examples/slurm/settings.yaml >/etc/hpcimg/settings.yaml
echo 'include /usr/share/hpcimg/plugstack.conf' >/etc/slurm/plugstack.conf
cat /usr/share/doc/hpcimg/examples/slurm/slurm.conf >>/etc/slurm/slurm.conf
install -d -o hpcimg -g hpcimg /srv/hpcimg
scontrol reconfigure
"""
BROADWELL = ">> This container is optimized for: cpu:broadwell\n"
_LONG = "touch ~/up; until [ -e ~/go ]; do sleep 0.1; done; bench; echo went on"


@pytest.fixture(scope="module")
def site(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster without hpcimg, whose login node has built the packages."""
    new = Cluster(str(tmp_path_factory.mktemp("packages")))
    try:
        make_new_cluster(new, CHECKOUT)
        built = new.shell(_BUILD, user="root", timeout=300)
        assert built.returncode == 0, built.stdout + built.stderr
        yield new
    finally:
        new.verb("down")


def ask(site: Cluster, script: str, node: str = "login") -> str:
    """What a script of root prints; it must succeed."""
    done = site.shell(f"set -e; {script}", node=node, user="root", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rpm(site: Cluster, name: str) -> list[str]:
    """What it has, wants and runs, line by line."""
    return ask(
        site, f"cd /home/pkg; ls {name}; rpm -qp --requires --scripts -l {name}"
    ).splitlines()


def test_the_rpm_of_the_plugin(site: Cluster) -> None:
    """It names the Slurm that it is for, and wants that one and its own hpcimg."""
    release = ask(site, "sinfo -V").split()[1].rsplit(".", 1)[0]
    major, minor = release.split(".")
    lines = rpm(site, "hpcimg-slurm-*.rpm")
    assert f"-1.slurm{release}." in lines[0]
    wanted = {f"slurm >= {release}", f"slurm < {major}.{int(minor) + 1:02}"}
    files = {"lib/hpcimg/hpcimg.so", "libexec/hpcimg/contract", "libexec/hpcimg/prolog"}
    assert wanted | {f"/usr/{name}" for name in files} <= {*lines}
    assert any(re.fullmatch(r"hpcimg = [0-9.]+-1", line) for line in lines)
    assert not any(line.startswith(("/opt", "/etc", "libslurm")) for line in lines)


def test_the_rpm_of_hpcimg(site: Cluster) -> None:
    """It wants the interpreter that it was built with, makes the account, keeps the settings."""
    lines = rpm(site, "hpcimg-[0-9]*.rpm")
    assert any(re.fullmatch(r"/usr/bin/python3\.\d+", line) for line in lines)
    assert any("useradd --system --user-group" in line for line in lines)
    files = {"/etc/hpcimg/settings.yaml", "/usr/bin/hpcimg", "/usr/libexec/hpcimg/merger"}
    shared = {"man/man1/hpcimg.1.gz", "bash-completion/completions/hpcimg"}
    assert files | {f"/usr/share/{name}" for name in shared} <= {*lines}
    # What the wheels bring along is nobody else's.
    assert not any(re.match("lib(crypto|yaml)-", line) for line in lines)
    config = ask(site, "rpm -qpc /home/pkg/hpcimg-[0-9]*.rpm")
    assert config.split() == ["/etc/hpcimg/settings.yaml"]


def test_the_debs_run_a_job_and_are_upgraded_under_it(site: Cluster) -> None:
    """Where hpcimg never was; a step goes on, and later ones of its job work, in new programs."""
    for node in NODES:
        assert "hpcimg:x:980:" in ask(site, f"{_INSTALL} >&2; getent passwd hpcimg", node)
        assert (
            ask(site, "grep -rl /usr/local/lib /usr/libexec/hpcimg /usr/lib/hpcimg || :", node)
            == ""
        )
    ask(site, _SITE)
    assert ask(site, "hpcimg node show", "bdw1").startswith("node      bdw1")
    # A node that has just read its configuration anew may not take the first job at once.
    step = "srun -w bdw1 --container qnib/bench"
    first = site.shell(f"until {step} true; do sleep 0.2; done; {step} bench")
    assert first.stdout == BROADWELL, first.stderr

    for job in allocate(site):
        long = shlex.join(job.command("sh", "-c", _LONG, image="qnib/bench"))
        started = site.shell(
            f"({long}; echo code $?) >~/long 2>&1 & until [ -e ~/up ]; do sleep 0.1; done"
        )
        assert started.returncode == 0
        places = "/usr/libexec/hpcimg /usr/lib/hpcimg /opt/hpcimg/bin/hpcimg"
        files = f"find {places} -type f -exec stat -c %i {{}} +"
        before = ask(site, files, "bdw1")
        for node in NODES:
            ask(site, _INSTALL, node)
        assert not {*before.split()} & {*ask(site, files, "bdw1").split()}
        assert job.step("bench").output == BROADWELL
        ended = site.shell("touch ~/go; until grep -q code ~/long; do sleep 0.1; done; cat ~/long")
        assert ended.stdout == f"{BROADWELL}went on\ncode 0\n"
