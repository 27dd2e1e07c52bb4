"""What a node puts around an image, as `hpcimg get` says it, with FUSE and the kernel's mount."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from conftest import Cluster
from launching import NODE, Allocation, allocate, needs_kernel_mount
from mishaps import PYTHON, do, settings

pytestmark = pytest.mark.integration

IMAGE = "app"
LINES = "/run/around"
_SAYING = f"""\
#!/bin/sh
case " $* " in
*" get "*) "{PYTHON}.real" "$@" && cat {LINES} ;;
*) exec "{PYTHON}.real" "$@" ;;
esac
"""


@pytest.fixture(scope="module", params=["fuse", pytest.param("kernel", marks=needs_kernel_mount)])
def job(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Allocation]:
    """One job on a site that mounts images so."""
    with settings(cluster, mount=request.param):
        yield from allocate(cluster)


@contextmanager
def said_by_get(cluster: Cluster, *lines: str) -> Iterator[None]:
    """A node whose `hpcimg get` says these lines too; it is asked, whatever was asked before."""
    forget = f"rm -f /run/hpcimg/tickets/*/{IMAGE}~*"
    do(cluster, forget, NODE)
    text = "".join(f"{line}\n" for line in lines)
    do(cluster, f"cat >{LINES} <<'END'\n{text}END\nchmod 644 {LINES}", NODE)
    do(cluster, f"mv {PYTHON} {PYTHON}.real; cat >{PYTHON} <<'END'\n{_SAYING}END", NODE)
    do(cluster, f"chmod 755 {PYTHON}", NODE)
    try:
        yield
    finally:
        do(cluster, f"mv {PYTHON}.real {PYTHON}; {forget}", NODE)


def test_what_the_node_puts_in(cluster: Cluster, job: Allocation) -> None:
    """Files, variables, what is hidden, and no home; the second step has it from its ticket."""
    do(cluster, "mkdir -p '/site/a b'; echo one >'/site/a b/file'", NODE)
    lines = (
        "bind=/site/a b\t/put/a,b:c\tro,nosuid", "bind=/site\t/site\t", "bind=/gone\t/x\toptional",
        "bind=tmpfs\t/put/t\t", "setenv=FROM_SITE=a b=c", "setenv=PATH=/bin:/site/bin",
        "setenv=SLURM_JOB_ID=999999", "hide=/dev/zero", "hide=/nothing/here",
        "home=no", "unknown=x",
    )  # fmt: skip
    script = (
        "exec 2>&1; cat '/put/a,b:c/file'; echo x >'/put/a,b:c/x'; echo x >/put/t/x && ls /put/t;"
        'echo "$FROM_SITE,$PATH"; [ "$SLURM_JOB_ID" = 999999 ] && echo forged;'
        "head -c1 /dev/zero; pwd; bench"
    )
    expected = [
        "one", "sh: can't create /put/a,b:c/x: Read-only file system", "x",
        "a b=c,/bin:/site/bin", "head: /dev/zero: No such file or directory", "/app",
        "sh: bench: not found",
    ]  # fmt: skip
    with said_by_get(cluster, *lines):
        ours = job.step("sh", "-c", f"{script} || :", image=IMAGE)
        assert ours.output.splitlines() == expected, ours.errors
        do(cluster, f"echo garbage >{LINES}", NODE)
        ours = job.step("sh", "-c", f"{script} || :", image=IMAGE)
        assert ours.output.splitlines() == expected, ours.errors
        ours = job.step("--container-mount-home", "pwd", image=IMAGE)
        assert ours.output == "/home/alice\n", ours.errors


def test_a_missing_file_of_the_node(cluster: Cluster, job: Allocation) -> None:
    """What the site wants inside and the node lacks is named; nothing runs without it."""
    with said_by_get(cluster, "bind=/site/gone\t/x\tro"):
        ours = job.step("echo", "ran", image=IMAGE)
    assert (ours.code, ours.output) == (125, "")
    assert 'the source "/site/gone" of a mount cannot be used: No such file' in ours.errors


def test_libraries_are_many(cluster: Cluster, job: Allocation) -> None:
    """A ticket holds hundreds of them, and a step has them all."""
    make = "mkdir -p /site/many; for i in $(seq 300); do echo $i >/site/many/lib-$i; done"
    do(cluster, make, NODE)
    place = "/put/" + "d" * 100
    lines = [f"bind=/site/many/lib-{i}\t{place}/lib-{i}\tro,nosuid,nodev" for i in range(1, 301)]
    count = ("sh", "-c", f"cat {place}/* | sort -n | tail -1; ls {place} | wc -l")
    with said_by_get(cluster, *lines):
        for _ in range(2):
            assert job.step(*count, image=IMAGE).output == "300\n300\n"
            do(cluster, f": >{LINES}", NODE)


def test_options_with_it(job: Allocation) -> None:
    """All that changes a container works however its image is mounted."""
    words = (
        "-n2 --container-writable --container-remap-root --container-entrypoint "
        "--container-unshare=net,ipc,uts --container-mounts=tmpfs:/s,umount:/tmp "
        "--container-env=PATH --container-workdir=/s"
    )
    script = "echo x >>/app/data && pwd; id -u; echo $APP_READY; ls -A /tmp | wc -l"
    ours = job.step(*words.split(), "sh", "-c", f"PATH=/bin; {script}", image=IMAGE)
    assert sorted(ours.output.split()) == sorted(["/s", "0", "yes", "0"] * 2), ours
    assert job.step("cat", "/app/data", image=IMAGE).output == "1\n"
