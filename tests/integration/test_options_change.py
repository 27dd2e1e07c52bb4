"""What changes a container itself: root, writable, the entrypoint, namespaces of its own."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest
from conftest import Cluster
from launching import Allocation, allocate

pytestmark = pytest.mark.integration

IMAGE = "app"
BROKEN = "broken-entry"
MAKE_BROKEN = f"""\
import sys
sys.path.insert(0, "/usr/local/lib/cluster/images")
from make_images import *
push("registry:5000/{BROKEN}:latest", [pack(busybox_entries())], {{"Entrypoint": ["/bin/echo"]}})
"""


@pytest.fixture(scope="module")
def job(cluster: Cluster) -> Iterator[Allocation]:
    """One job for all steps of this file."""
    made = cluster.run("python3", "-c", MAKE_BROKEN, user="root")
    assert made.returncode == 0, made.stderr
    yield from allocate(cluster)


def inside(job: Allocation, words: str, script: str, image: str = IMAGE) -> str:
    """All that a script prints in a container with these options."""
    ended = job.step(*words.split(), "sh", "-c", f"exec 2>&1; {script}", image=image)
    return ended.output + ended.errors


DEB = (
    "mkdir -p pk/DEBIAN pk/usr/share/hello && echo hi >pk/usr/share/hello/file && printf "
    "'Package: hello\\nVersion: 1\\nArchitecture: all\\nMaintainer: a <a@b>\\nDescription: x\\n' "
    ">pk/DEBIAN/control && dpkg-deb --root-owner-group -b pk hello.deb"
)


def test_row_remap_root(job: Allocation) -> None:
    """Number 0 inside, oneself outside; a change of owner is said to work, and is none."""
    script = "id -u; touch made; chown 7:7 made && stat -c %u made; rm -f /usr/x"
    assert inside(job, "--container-remap-root", script) == "0\n0\n"
    assert inside(job, "--no-container-remap-root", "id -u") == "1001\n"
    assert job.on_node("stat -c %U /home/alice/made; rm /home/alice/made") == "alice\n"
    said = inside(
        job, "--container-remap-root", "cat /root/.profile /etc/shadow; mount -t tmpfs x /mnt"
    )
    assert "ermission denied" in said or "o such file" in said, said


def test_root_installs_a_package(job: Allocation) -> None:
    """With a writable container a package manager can work."""
    assert job.cluster.shell(f"cd; {DEB}").returncode == 0
    script = (
        "mkdir -p /var/lib/dpkg/info && touch /var/lib/dpkg/status && dpkg -i ~/hello.deb"
        " && stat -c %U /usr/share/hello/file && cat /usr/share/hello/file"
    )
    said = inside(job, "--container-remap-root --container-writable", script)
    assert said.splitlines()[-2:] == ["root", "hi"], said


def test_row_writable(job: Allocation) -> None:
    """What tasks change is there for all tasks of the step, and gone with it."""
    script = (
        "[ $SLURM_PROCID = 0 ] && { rm /app/data; echo x >/usr/made; touch made.flag; };"
        " until [ -e made.flag ]; do sleep 0.05; done; ls /app; cat /usr/made"
    )
    job.on_node("rm -f /home/alice/made.flag")
    assert inside(job, "-n2 --container-writable", script) == "enter\nx\n" * 2
    assert (
        inside(job, "", "ls /app /usr/made || :")
        == "ls: /usr/made: No such file or directory\n/app:\ndata\nenter\n"
    )
    said = inside(job, "--container-readonly", "echo x >/usr/made")
    assert "Read-only file system" in said, said


def test_what_is_written_counts_for_the_step(job: Allocation) -> None:
    """It is memory of the step, and nothing of it is left on the node."""
    script = "dd if=/dev/zero of=/usr/big bs=1M count=100 2>/dev/null && stat -c %s /usr/big"
    assert inside(job, "--container-writable", script) == f"{100 << 20}\n"
    assert job.on_node("grep hpcimg/memory /proc/1/mounts; ls -A /run/hpcimg/memory") == ""


def test_row_entrypoint(job: Allocation) -> None:
    """It runs once a node around the step, and what it exports reaches the tasks."""
    show = 'echo "<$APP_READY>"'
    assert inside(job, "", show) == "<>\n"
    assert inside(job, "--no-container-entrypoint", show) == "<>\n"
    assert inside(job, "-n2 --container-entrypoint", show) == "<yes>\n" * 2
    said = inside(job, "--container-entrypoint", "echo ran", BROKEN)
    assert "ran" not in said
    assert "its entrypoint ended and did not run the command that it was given" in said
    assert "hint: leave out --container-entrypoint" in said


def test_row_entrypoint_log(job: Allocation) -> None:
    """What it prints is shown once a node, and not otherwise."""
    words = "-n2 --container-entrypoint --container-entrypoint-log"
    assert sorted(inside(job, words, "echo ran").split("\n")) == [
        "", "ran", "ran", "the app is set up"
    ]  # fmt: skip


def test_row_unshare(job: Allocation) -> None:
    """Tasks of the step share namespaces of their own; the network has a loopback alone."""
    kinds = ("net", "ipc", "uts")
    script = "; ".join(f"readlink /proc/self/ns/{kind}" for kind in kinds)
    bare = job.step("sh", "-c", script, image=None).output.split()
    one, two, *rest = inside(job, "-n2 --container-unshare=net,ipc,uts", script).split()
    both = {one, two, *rest}
    assert len(both) == len(kinds)
    assert both.isdisjoint(bare)
    only = inside(job, "--container-unshare=ipc", script).split()
    assert [a == b for a, b in zip(only, bare, strict=True)] == [True, False, True]
    said = inside(job, "--container-unshare=net", "ip -o addr | cut -d' ' -f2 | sort -u")
    assert said == "lo\n"
    assert "this is no namespace" in inside(job, "--container-unshare=pid", "true")


def test_all_at_once(job: Allocation) -> None:
    """The options go together, also with a batch script inside."""
    words = (
        "--container-writable --container-remap-root --container-entrypoint "
        "--container-unshare=uts --container-mounts=tmpfs:/s --container-workdir=/s"
    )
    script = (
        "#!/bin/sh\nid -u; pwd; echo $APP_READY; hostname inside && hostname\n"
        "echo x >/usr/y && echo ok\n"
    )
    done = job.cluster.shell(
        f"cd; printf %s {shlex.quote(script)} >script; rm -f said; sbatch -W -w zen1 --mem=100 "
        f"-o ~/said --container-image={IMAGE} {words} script; cat said"
    )
    assert done.stdout.split("\n", 1)[1] == "0\n/s\nyes\ninside\nok\n", done


@pytest.mark.parametrize("words", ["--container-writable", "--container-mounts=tmpfs:/s"])
def test_what_is_written_ends_before_the_memory(cluster: Cluster, words: str) -> None:
    """There is no space left, where the kernel would else end what serves the image."""
    place = "/big" if "writable" in words else "/s/big"
    script = f"dd if=/dev/zero of={place} bs=1M count=200 2>&1; echo goes on"
    where = ("srun", "-w", "bdw1", "--mem=100", f"--container-image={IMAGE}", words)
    done = cluster.run(*where, "sh", "-c", script)
    assert "No space left on device" in done.stdout, done.stderr
    assert done.stdout.endswith("goes on\n")
