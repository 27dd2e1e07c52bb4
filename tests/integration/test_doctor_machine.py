"""The doctor on a node whose kernel, devices or programs are broken in one way at a time."""

from __future__ import annotations

import mishaps
import pytest
from examined import SICK, examine, hidden_by, spoiled
from launching import needs_kernel_mount

pytestmark = pytest.mark.integration

NODE = "zen1"
CONF = "/etc/apptainer/apptainer.conf"
LATE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *now)
{
    int (*real)(clockid_t, struct timespec *) =
        (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(id, now);
    if (code == 0 && id == CLOCK_REALTIME)
        now->tv_sec += 90;
    return code;
}
"""


def test_a_node_that_refuses_user_namespaces(cluster):
    """A real one is tried, as the store's account, in a step of that node."""
    with mishaps.without_user_namespaces(cluster, NODE):
        said = examine(cluster, "--nodes", f"bdw1,{NODE}")
        found = said.find("namespaces", "fail", "the kernel refuses user namespaces")
        assert found["machines"] == [NODE]
        assert "sysctl user.max_user_namespaces" in found["change"]
        assert said.code == SICK


def test_user_namespaces_that_a_switch_forbids(cluster):
    """The switch is named, and the command that sets it."""
    path = "/proc/sys/user/max_user_namespaces"
    with hidden_by(cluster, NODE, path, "0"):
        found = examine(cluster, node=NODE).find("namespaces", "fail", "max_user_namespaces=0")
        assert found["change"] == "sysctl -w user.max_user_namespaces=15000"


def test_dev_fuse_closed_or_missing(cluster):
    """Users must be able to open it; an ordinary user sees that too."""
    with spoiled(cluster, NODE, "chmod 600 /dev/fuse", "chmod 666 /dev/fuse"):
        said = examine(cluster, node=NODE, user="alice")
        found = said.find("fuse", "fail", "users may not open /dev/fuse (mode 0600)")
        assert found["change"].startswith("chmod 666 /dev/fuse")
    with mishaps.missing(cluster, NODE, "/dev/fuse"):
        found = examine(cluster, node=NODE).find("fuse", "fail", "there is no /dev/fuse")
        assert found["change"].startswith("modprobe fuse")


def test_squashfuse_missing(cluster):
    """It is looked for where Apptainer does, under both its names; mksquashfs as well."""
    with (
        mishaps.missing(cluster, NODE, "/usr/bin/squashfuse_ll"),
        mishaps.missing(cluster, NODE, "/usr/bin/squashfuse"),
        mishaps.missing(cluster, NODE, "/usr/bin/mksquashfs"),
    ):
        said = examine(cluster, "--nodes", f"bdw1,{NODE}")
        found = said.find("tools", "fail", "squashfuse is not installed")
        assert found["machines"] == [NODE]
        assert found["change"].startswith("install the package squashfuse")
        assert said.find("tools", "fail", "mksquashfs is not installed")


def test_apptainer_missing_of_another_version_or_forbidding(cluster):
    """Each is said with what to change."""
    path = "/usr/bin/apptainer"
    with mishaps.missing(cluster, NODE, path):
        found = examine(cluster, node=NODE).find("apptainer", "fail", "could not start 'apptainer'")
        assert "install Apptainer 1.1 or later" in found["change"]
    with hidden_by(cluster, NODE, CONF, "user bind control = no\nmount tmp = no"):
        said = examine(cluster, node=NODE)
        found = said.find("apptainer", "fail", f'"{CONF}" says "user bind control = no"')
        assert found["change"] == 'write "user bind control = yes" there'
        assert said.find("apptainer", "warn", '"mount tmp = no"')
    older = "#!/bin/sh\n[ $1 != --version ] && exec /usr/bin/apptainer $*; echo version 1.3.6"
    wrapper = "/usr/local/bin/apptainer"
    write = f"cat >{wrapper} <<'END'\n{older}\nEND\nchmod 755 {wrapper}"
    with spoiled(cluster, NODE, write, f"rm {wrapper}"):
        said = examine(cluster, "--nodes", f"bdw1,{NODE}")
        found = said.find("apptainer", "warn", "apptainer differs: 1.3.6 here, 1.4.5 on")
        assert found["machines"] == [NODE]


@needs_kernel_mount
def test_kernel_mounts_without_loop_devices(cluster):
    """Where the settings want them; the step then uses FUSE, and slower."""
    with (
        mishaps.settings(cluster, mount="kernel"),
        mishaps.missing(cluster, NODE, "/dev/loop-control"),
    ):
        found = examine(cluster, node=NODE).find("kernel mount", "warn", "lacks /dev/loop-control")
        assert "set mount: fuse" in found["change"]


def test_clocks_apart(cluster):
    """A node whose clock goes 90 s ahead is told by the one that asks, and by its registry."""
    build = f"printf '%s' '{LATE}' | gcc -shared -fPIC -x c -o /usr/local/lib/late.so -"
    preload = "echo /usr/local/lib/late.so >/etc/ld.so.preload"
    with spoiled(cluster, NODE, f"{build}; {preload}", "rm /etc/ld.so.preload"):
        said = examine(cluster, "--nodes", f"bdw1,{NODE}")
        found = said.find("clock", "fail", "ahead of login's")
        assert found["machines"] == [NODE]
        assert "chrony" in found["change"]
        assert said.find("clock", "fail", "ahead of registry:5000's")["machines"] == [NODE]
