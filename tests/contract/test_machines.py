"""Recorded machines, read whole from their trees: what each comes out as."""

from __future__ import annotations

import runpy
import shutil
import struct
from pathlib import Path

import pytest

from hpcimg.errors import UsageError
from hpcimg.node.detect import detect, recorded
from hpcimg.node.injected import find_injected, needed_glibc
from hpcimg.node.profile import NodeProfile

TREES = Path(__file__).parent.parent / "data" / "nodes"

# folder: CPU target, GPUs, drivers, traits, notes, unknown beside the C libraries
GOLDEN = {
    "mi250x": (
        "zen3", ["amdgpu:gfx90a:sramecc+"] * 4, "amdgpu 6.7.0",
        "fabric:eth os:sles:15.5 smt:on", [], [],
    ),
    "mi300a": (
        "zen4", ["amdgpu:gfx942:sramecc+"] * 2, "",
        "fabric:eth os:ubuntu:22.04 smt:off", [], [],
    ),
    "pvc": (
        "sapphirerapids", ["intelgpu:pvc"] * 2, "",
        "fabric:eth os:rhel:9 smt:on", [], [],
    ),
    "ib-roce": (
        "icelake", [], "",
        "fabric:eth fabric:ib fabric:roce os:rhel:9 smt:on",
        [
            "Intel graphics 3e92 is no known compute GPU: not counted",
            "RDMA device mlx5_2 has no active port: not counted as a fabric",
        ], [],
    ),
    "slingshot": (
        "zen3", [], "", "fabric:eth fabric:slingshot os:sles:15.5 smt:on", [], [],
    ),
    "efa": (
        "skylake_avx512", [], "",
        "fabric:efa fabric:eth inst:c5n instsize:9xl os:amzn:2023 smt:on",
        ["it runs under a hypervisor: Amazon EC2"], [],
    ),
    "opa": ("broadwell", [], "", "fabric:opa os:rocky:8 smt:off", [], []),
    "power9-smt8": ("power9le", [], "", "fabric:eth os:rhel:8 smt:on", [], []),
    "smt-off": ("cascadelake", [], "", "fabric:eth os:debian:12 smt:off", [], []),
    "nvidia-proc": (
        "skylake_avx512", ["nvcap:7.0", "nvcap:7.5"], "nvidia 535.183.01",
        "fabric:eth os:debian:12 smt:on", [],
        ["gpus: MIG slices of NVIDIA's are not known: only its files were recorded"],
    ),
    "no-driver": (
        "sapphirerapids", "unknown", "",
        "fabric:eth os:rhel:9 smt:on", [],
        ["gpus: an NVIDIA GPU is on the PCI bus, but NVIDIA's driver is not loaded"],
    ),
}  # fmt: skip


def test_every_machine_is_in_the_table():
    """A new folder needs its line."""
    assert sorted(GOLDEN) == sorted(path.name for path in TREES.iterdir() if path.is_dir())


def test_the_trees_are_what_make_writes():
    """A file that was changed by hand would be lost with the next machine."""
    written = runpy.run_path(str(TREES / "make.py"))["MACHINES"]
    for machine, files in written.items():
        tree = TREES / machine
        paths = (path for path in tree.rglob("*") if path.is_file())
        found = {str(path.relative_to(tree)): path.read_text() for path in paths}
        assert found == {path: text.rstrip("\n") + "\n" for path, text in files.items()}


@pytest.mark.parametrize("machine", GOLDEN)
def test_a_recorded_machine_comes_out_as_it_is(machine):
    """By its files alone: nothing of the machine that runs the test."""
    target, gpus, driver, traits, notes, unknowns = GOLDEN[machine]
    profile = detect(root=TREES / machine)
    found = profile.gpus
    assert profile.target == target
    assert gpus == (found.state if found.state == "unknown" else [g.word for g in found.devices])
    drivers = {"nvidia": found.driver, "amdgpu": found.amd_driver}
    assert driver == " ".join(f"{name} {version}" for name, version in drivers.items() if version)
    assert " ".join(profile.traits) == traits
    assert list(profile.notes) == notes
    assert [why for why in profile.unknowns if not why.startswith("glibc:")] == unknowns
    assert NodeProfile.from_json(profile.to_json()) == profile


def test_a_recorded_machine_tells_its_own_name_and_kernel():
    """And where each fact stands in its tree."""
    profile = detect(root=TREES / "smt-off")
    assert (profile.node, profile.kernel, profile.glibc) == ("clx1", "6.1.0-25-amd64", "2.36")
    assert profile.boot_id.startswith("b0070000")
    assert dict(profile.sources) == {
        "cpu": "/proc/cpuinfo",
        "fabric": "/sys/class/net",
        "glibc": "/lib/x86_64-linux-gnu/libc.so.6",
        "kernel": "/proc/sys/kernel",
        "nvidia": "/proc/driver/nvidia and PCI ids",
        "os": "/etc/os-release",
        "smt": "/sys/devices/system/cpu/smt",
    }


def test_a_job_s_gpus_of_recorded_machines():
    """By number, by UUID, and one that the driver has not named yet."""
    nvidia = detect(root=TREES / "nvidia-proc")
    names = [nvidia.allocated((one,)).gpus.devices for one in ("0", "GPU-11111111-aaaa", "1")]
    assert [gpu.word for (gpu,) in names] == ["nvcap:7.0", "nvcap:7.0", "nvcap:7.5"]
    amd = detect(root=TREES / "mi250x")
    (gpu,) = amd.allocated(("GPU-00c5a1f2d3e40003",)).gpus.devices
    assert (gpu.index, gpu.name) == (2, "AMD Instinct MI250X")


def test_a_folder_without_a_cpu_is_no_machine(tmp_path):
    """It is named, with what it should have."""
    with pytest.raises(UsageError, match="is no recorded machine: it has no proc/cpuinfo"):
        recorded(tmp_path)
    assert recorded(TREES / "opa") == TREES / "opa"


def library(*versions: str) -> bytes:
    """Make an ELF file that has nothing but needed versions."""
    strings = b"\0libc.so.6\0" + b"".join(version.encode() + b"\0" for version in versions)
    header = struct.pack("<16s24xQ10xHH2x", b"\x7fELF\x02\x01\x01", 64 + len(strings), 64, 2)
    names = struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, 64, len(strings), 0, 0, 0, 0)
    needs = struct.pack("<IIQQQQIIQQ", 0, 0x6FFFFFFE, 0, 0, 0, 0, 0, 0, 0, 0)
    return header + strings + names + needs


def test_a_library_tells_the_c_library_that_it_needs(tmp_path):
    """The highest version by number, out of the table of versions only."""
    path = tmp_path / "libcuda.so.1"
    path.write_bytes(library("GLIBC_2.2.5", "GLIBC_2.14", "GLIBC_2.3.4") + b"\0GLIBC_2.99\0")
    assert needed_glibc(path) == "2.14"


@pytest.mark.parametrize("raw", [b"", b"\x7fELF", b"#!/bin/sh\n" * 99, library()[:80]])
def test_what_is_no_library_needs_nothing(tmp_path, raw):
    """Detection never fails on a file."""
    (tmp_path / "x").write_bytes(raw)
    assert needed_glibc(tmp_path / "x") == ""


def test_the_gpus_vendor_says_which_libraries_count(tmp_path):
    """Without its GPU a library is bound into no container."""
    place = tmp_path / "usr/lib64"
    place.mkdir(parents=True)
    (place / "libcuda.so.1").write_bytes(library("GLIBC_2.17"))
    (place / "libnvidia-ml.so.1").write_bytes(library("GLIBC_2.27"))
    assert find_injected(tmp_path, ["nvidia"])[0] == "2.27"
    assert find_injected(tmp_path, ["intel"])[0] == ""
    version, found = find_injected(tmp_path, ["amd"])
    assert (version, found.unknowns) == (
        "",
        ("glibc: libamdhip64.so, which containers get, is not found",),
    )


def test_a_recorded_kernel_s_own_word_tells_32_bit(tmp_path):
    """The processor's flags are those of a 64-bit one."""
    shutil.copytree(TREES / "opa", tmp_path, dirs_exist_ok=True)
    assert detect(root=tmp_path).architecture == "amd64"
    (tmp_path / "proc/sys/kernel/arch").write_text("i686\n")
    assert detect(root=tmp_path).architecture == "386"
