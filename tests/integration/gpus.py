"""GPUs of any vendor on gpu1: device files, what the kernel and NVML tell, and Slurm's count.

Nothing but files: the devices can be opened, and that is all that is asked of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import mishaps
from conftest import Cluster

NODE = "gpu1"
SEEN = "cd /dev; ls -d nvidia* kfd dri/* 2>/dev/null | sort | tr '\\n' ' '; echo"
"""What a task sees of all vendors' device files, on one line."""
SRUN = f"srun -Q -w {NODE} --mem=100"
# One GPU is somebody else's, so that a job's numbers do not begin with 0.
OTHERS = f"""
other=$(sbatch --parsable -w {NODE} --mem=100 --gres=gpu:1 -o /dev/null --wrap 'sleep 100')
trap 'scancel $other' EXIT
for i in $(seq 100); do [ "$(squeue -h -j $other -o %t)" = R ] && break; sleep 0.1; done
"""
_KEPT = "/root/kept"
_SITE_FILES = ("slurm.conf", "gres.conf")


@dataclass(frozen=True)
class Gpus:
    """What a node has: `devices` below /dev, what `nvml` answers, and `files` of /sys and /proc.

    `files` lie in file systems that are put over the directories `covered`.
    """

    count: int
    gres: str
    devices: Sequence[str]
    nvml: str = "count 0"
    covered: Sequence[str] = ()
    files: Sequence[tuple[str, str]] = ()


M60 = "name Tesla M60\\ncapability 5.2\\ndriver 396.44\\ncuda 9020"
FOUR_M60 = Gpus(
    4, "/dev/nvidia[0-3]", ("nvidia1", "nvidia2", "nvidia3"), f"count 4\\n{M60}\\nmig off"
)
_MIG = "/proc/driver/nvidia/capabilities/gpu0/mig"
A100_IN_TWO = Gpus(
    1,
    "/dev/nvidia0",
    tuple(f"nvidia-caps/nvidia-cap{number}" for number in (2, 12, 13, 21, 22)),
    "count 1\\nname A100\\ncapability 8.0\\ndriver 396.44\\ncuda 9020\\nmig on",
    covered=("/proc/driver",),
    files=tuple(
        (f"{_MIG}/{place}/access", f"DeviceFileMinor: {minor}\\nDeviceFileMode: 292\\n")
        for place, minor in (("gi1", 12), ("gi1/ci0", 13), ("gi2", 21), ("gi2/ci0", 22))
    ),
)
"""One GPU in two slices; Slurm's numbers do not tell them, the UUIDs that it gives programs do."""
_KFD = "/sys/class/kfd/kfd/topology/nodes"
_MI250 = "simd_count 440\\ngfx_target_version 90010\\ndrm_render_minor {}\\n"
TWO_MI250 = Gpus(
    2,
    "/dev/dri/renderD[128-129]",  # codespell:ignore
    ("kfd", "dri/renderD128", "dri/renderD129", "dri/card1", "dri/card2", "dri/card0"),
    covered=("/sys/class",),
    files=(
        (f"{_KFD}/0/properties", "simd_count 0\\n"),
        (f"{_KFD}/1/properties", _MI250.format(128)),
        (f"{_KFD}/2/properties", _MI250.format(129)),
        ("/sys/class/drm/renderD128/device", "-> ../../../0000:c1:00.0"),
        ("/sys/class/drm/renderD129/device", "-> ../../../0000:d1:00.0"),
        ("/sys/class/drm/card1/device", "-> ../../../0000:c1:00.0"),
        ("/sys/class/drm/card2/device", "-> ../../../0000:d1:00.0"),
    ),
)
_PVC = ("0x038000", "0x8086", "0x0bd5")
TWO_PVC = Gpus(
    2,
    "/dev/dri/renderD[128-129]",  # codespell:ignore
    ("dri/renderD128", "dri/renderD129"),
    covered=("/sys/class", "/sys/bus/pci/devices"),
    files=(
        *(
            (f"/sys/bus/pci/devices/0000:{slot}:00.0/{name}", text)
            for slot in ("4d", "5d")
            for name, text in zip(("class", "vendor", "device"), _PVC, strict=True)
        ),
        ("/sys/bus/pci/devices/0000:4d:00.0/driver", "-> /none/i915"),
        ("/sys/bus/pci/devices/0000:5d:00.0/driver", "-> /none/i915"),
        ("/sys/class/drm/renderD128/device", "-> ../../../0000:4d:00.0"),
        ("/sys/class/drm/renderD129/device", "-> ../../../0000:5d:00.0"),
    ),
)


@contextmanager
def node_with(cluster: Cluster, gpus: Gpus) -> Iterator[None]:
    """Let gpu1 have these GPUs, and Slurm count them."""
    keep = "; ".join(f"cp -p /etc/slurm/{name} {_KEPT}" for name in _SITE_FILES)
    mishaps.do(cluster, f"mkdir -p {_KEPT}; {keep}")
    try:
        mishaps.do(cluster, _node_script(gpus), NODE)
        mishaps.do(
            cluster,
            f"printf 'AutoDetect=off\\nNodeName={NODE} Name=gpu File={gpus.gres}\\n'"
            " >/etc/slurm/gres.conf;"
            f" sed -i 's/Gres=gpu:1/Gres=gpu:{gpus.count}/' /etc/slurm/slurm.conf;"
            f" {_reconfigure(gpus.count)}",
        )
        yield
    finally:
        mishaps.do(cluster, _undo_script(gpus), NODE)
        put = "; ".join(f"cp -p {_KEPT}/{name} /etc/slurm/{name}" for name in _SITE_FILES)
        mishaps.do(cluster, f"{put}; {_reconfigure(1)}")


@contextmanager
def denied_to_others(cluster: Cluster) -> Iterator[None]:
    """Let a control group deny a job the four GPUs of NVIDIA's that are not its own.

    Their files get numbers of no driver's: denied would be what else has them, as /dev/null.
    """
    make = "; ".join(f"mknod -m 666 /dev/nvidia{n} c {{}}" for n in range(4))
    swap = f"rm -f /dev/nvidia[0-3]; {make}"
    cgroup = "/etc/slurm/cgroup.conf"
    mishaps.do(cluster, swap.format(*(f"195 {n}" for n in range(4))), NODE)
    own = mishaps.do(cluster, f"cat {cgroup}; echo ConstrainDevices=yes >>{cgroup}")
    mishaps.do(cluster, _reconfigure(4))
    try:
        yield
    finally:
        mishaps.do(cluster, f"printf '{own}' >{cgroup}; {_reconfigure(4)}")
        mishaps.do(cluster, swap.format(*["1 3"] * 4), NODE)


def _reconfigure(count: int) -> str:
    """Have all daemons read their files; it is done when the node counts anew, and is free."""
    state = f"sinfo -h -N -p gpu -n {NODE} -o '%G %t'"
    return (
        "scontrol reconfigure; for i in $(seq 100); do"
        f' [ "$({state})" = "gpu:{count} idle" ] && exit 0; sleep 0.1; done; {state}; exit 1'
    )


def _node_script(gpus: Gpus) -> str:
    lines = ["mkdir -p /root/kept; cp /etc/nvml-stub /root/kept/nvml-stub"]
    lines += [f"printf '{gpus.nvml}\\n' >/etc/nvml-stub"]
    lines += [f"mount -t tmpfs -o mode=755 gpus {path}" for path in gpus.covered]
    for path, text in gpus.files:
        make = f"ln -s {text[3:]} {path}" if text[:3] == "-> " else f"printf '{text}' >{path}"
        lines.append(f"mkdir -p $(dirname {path}); {make}")
    lines += [
        f"mkdir -p /dev/$(dirname {name}); mknod -m 666 /dev/{name} c 1 3" for name in gpus.devices
    ]
    lines.append(_PUBLISH)
    return "; ".join(lines)


def _undo_script(gpus: Gpus) -> str:
    lines = [f"rm -f /dev/{name}" for name in gpus.devices]
    lines += ["rm -rf /dev/dri /dev/nvidia-caps", "mv /root/kept/nvml-stub /etc/nvml-stub"]
    lines += [f"umount {path}" for path in reversed(gpus.covered)]
    return "; ".join([*lines, _PUBLISH])


_PUBLISH = "rm -f /run/hpcimg/node.json; hpcimg node publish >/dev/null"


def lines(cluster, script):
    """Run a user's script on the login node that has to succeed: its lines."""
    done = cluster.shell(f"set -e; {script}")
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.strip() for line in done.stdout.splitlines()]
