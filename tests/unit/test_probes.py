"""The probes' parsers: GPUs of AMD, Intel and NVIDIA, fabrics, SMT, distribution, instance."""

from __future__ import annotations

import pytest

from hpcimg.node.amd import parse_topology, probe_amd, target_of
from hpcimg.node.cloud import Dmi, find_instance
from hpcimg.node.fabric import name_of_link
from hpcimg.node.gpus import Gpu
from hpcimg.node.host import parse_os_release, parse_smt
from hpcimg.node.intel import probe_intel
from hpcimg.node.nvidia import parse_proc, parse_smi
from hpcimg.node.pci import PciGpu

CPU_NODE = "cpu_cores_count 64\nsimd_count 0\n"
MI250X = "simd_count 440\ngfx_target_version 90010\ndrm_render_minor 128\nunique_id 255\n"


@pytest.mark.parametrize(
    ("version", "target"),
    [
        (90010, "gfx90a"),
        (90402, "gfx942"),
        (90008, "gfx908"),
        (90006, "gfx906"),
        (100300, "gfx1030"),
        (110001, "gfx1101"),
        (120001, "gfx1201"),
        (0, ""),
    ],
)
def test_kfd_s_number_is_a_target(version, target):
    """Two decimal digits a part, minor and stepping in hexadecimal."""
    assert target_of(version) == target


def test_gpus_are_counted_without_the_cpus():
    """Slurm's numbers begin with the first GPU, not with the first node."""
    devices, notes, unknown = parse_topology([CPU_NODE, CPU_NODE, MI250X], ["", "", "MI250X"])
    assert devices == (Gpu(0, "GPU-00000000000000ff", "MI250X", vendor="amd", target="gfx90a"),)
    assert (notes, unknown) == ((), "")


@pytest.mark.parametrize(
    ("version", "capability", "target"),
    [
        (90010, 0x04000000, "gfx90a:sramecc+"),
        (90010, 0x28000000, "gfx90a:sramecc-"),
        (90402, 0x04000000, "gfx942:sramecc+"),
        # Its code knows no such mode.
        (100300, 0x04000000, "gfx1030"),
    ],
)
def test_the_kernel_tells_sramecc(version, capability, target):
    """Where the processor has the mode; without the line it stays open, as xnack always does."""
    text = MI250X.replace("90010", str(version))
    (gpu,), _, _ = parse_topology([f"{text}capability {capability}\n"], [""])
    assert gpu.target == target
    (silent,), _, _ = parse_topology([text], [""])
    assert silent.target == target.partition(":")[0]


def test_a_hidden_gpu_keeps_its_place():
    """A job's device cgroup denies the properties of the GPUs that are not its own."""
    devices, notes, unknown = parse_topology([CPU_NODE, "", MI250X], ["", "", "x"])
    assert [gpu.index for gpu in devices] == [1]
    assert notes == ("AMD GPU 0 (KFD node 1) is hidden from this process",)
    assert unknown == ""


def test_graphics_inside_a_processor_is_not_counted():
    """It would make the numbers of the real GPUs ambiguous."""
    inside = MI250X.replace("90010", "100306")
    devices, notes, _ = parse_topology([CPU_NODE, inside, MI250X], ["", "", ""])
    assert [gpu.index for gpu in devices] == [0]
    assert notes == ("AMD graphics gfx1036 is part of the processor: not counted as a GPU",)


def test_a_kernel_that_does_not_tell_the_target():
    """Before 5.10 the property is missing; a guess would be no fact."""
    devices, _, unknown = parse_topology([MI250X.replace("90010", "0")], [""])
    assert devices == ()
    assert unknown == "the kernel does not tell the target of AMD GPU 0"


@pytest.mark.parametrize(
    ("screen", "state", "said"),
    [(False, "unknown", "is amdgpu loaded?"), (True, "none", "has no compute driver")],
)
def test_an_amd_gpu_without_its_driver(tmp_path, screen, state, said):
    """A board controller's graphics is none; a compute card may only wait for its module."""
    found = probe_amd(tmp_path, [PciGpu("0000:01:00.0", "1002", "7408", has_screen=screen)])
    assert found.gpus.state == state
    assert said in (found.gpus.reason or found.notes[0])


def test_intel_gpus_are_told_by_the_table():
    """Of the bus's order; what is not in the table is no compute GPU."""
    found = probe_intel(
        [
            PciGpu("0000:00:02.0", "8086", "3e92", "i915", has_screen=True),
            PciGpu("0000:29:00.0", "8086", "56c0", "xe"),
            PciGpu("0000:3a:00.0", "8086", "0bd5", "i915"),
            PciGpu("0000:4a:00.0", "10de", "1eb8", "nvidia"),
        ]
    )
    assert [(gpu.index, gpu.word) for gpu in found.gpus.devices] == [
        (0, "intelgpu:ats-m"),
        (1, "intelgpu:pvc"),
    ]
    assert found.notes == ("Intel graphics 3e92 is no known compute GPU: not counted",)


@pytest.mark.parametrize("driver", ["", "vfio-pci"])
def test_an_intel_gpu_without_its_driver_is_unknown(driver):
    """It is there, but no job can use it yet."""
    found = probe_intel([PciGpu("0000:29:00.0", "8086", "0bd5", driver)])
    assert (found.gpus.state, found.gpus.reason) == (
        "unknown",
        "an Intel GPU (pvc) is on the PCI bus, but neither i915 nor xe drives it",
    )


T4 = PciGpu("0000:86:00.0", "10de", "1eb8")
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  545.23.08  Release Build"


def test_the_driver_s_files_tell_gpus_in_the_bus_s_order():
    """NVML counts so; the open module spells its version otherwise."""
    v100 = PciGpu("0000:3b:00.0", "10de", "1DB6")
    card = "Model: \t Tesla T4\nGPU UUID: \t GPU-a\n"
    facts = parse_proc(OPEN, {T4.slot: card}, [T4, v100])
    assert facts.driver == "545.23.08"
    assert facts.devices == (Gpu(0, "", "", "7.0"), Gpu(1, "GPU-a", "Tesla T4", "7.5"))


@pytest.mark.parametrize(
    ("version", "bus", "state", "reason"),
    [
        ("", (), "none", "the PCI bus shows none"),
        (OPEN, (), "none", "the PCI bus shows none"),
        ("", (T4,), "unknown", "NVIDIA's driver is not loaded"),
        (OPEN, (PciGpu("0000:01:00.0", "10de", "ffff"),), "unknown", "PCI id 'ffff'"),
    ],
)
def test_the_driver_s_files_do_not_always_tell(version, bus, state, reason):
    """A GPU that the table lacks is unknown, never a guess."""
    facts = parse_proc(version, {}, bus)
    assert facts.state == state
    assert reason in facts.reason


def test_nvidia_smi_tells_several_gpus():
    """Mixed ones, with and without slices; `[N/A]` is what old cards say of MIG."""
    text = (
        "0, GPU-a, Tesla M60, 535.1, 0x13F210DE, 5.2, [N/A]\n"
        "1, GPU-b, NVIDIA A100-SXM4-40GB, 535.1, 0x20B010DE, 8.0, Enabled\n"
    )
    listing = (
        "GPU 0: Tesla M60 (UUID: GPU-a)\n"
        "GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-b)\n"
        "  MIG 3g.20gb     Device  0: (UUID: MIG-1)\n"
        "  MIG 1g.5gb      Device  1: (UUID: MIG-GPU-b/7/0)\n"
    )
    facts = parse_smi(text, listing)
    assert (facts.state, facts.driver, facts.cuda) == ("present", "535.1", None)
    assert facts.devices == (
        Gpu(0, "GPU-a", "Tesla M60", "5.2"),
        Gpu(
            1,
            "GPU-b",
            "NVIDIA A100-SXM4-40GB",
            "8.0",
            mig=True,
            slices=("MIG-1", "MIG-GPU-b/7/0"),
        ),
    )


@pytest.mark.parametrize(
    ("text", "state", "reason"),
    [
        ("", "none", "nvidia-smi lists no device"),
        ("Unable to determine the device handle\n", "unknown", "answer is not readable"),
        ("0, GPU-a, New One, 999.1, 0xFFFF10DE\n", "unknown", "of GPU 0 ('New One', PCI id"),
    ],
)
def test_nvidia_smi_says_other_things(text, state, reason):
    """It prints complaints where its table should be."""
    facts = parse_smi(text)
    assert facts.state == state
    assert reason in facts.reason


@pytest.mark.parametrize(
    ("device", "driver", "node_type", "layer", "fabric"),
    [
        ("mlx5_0", "mlx5_core", "1: CA", "InfiniBand", "ib"),
        ("mlx5_1", "mlx5_core", "1: CA", "Ethernet", "roce"),
        ("irdma0", "irdma", "4: RNIC", "Ethernet", ""),
        ("hfi1_0", "", "1: CA", "InfiniBand", "opa"),
        ("efa_0", "", "1: CA", "Unspecified", "efa"),
        ("rdmap0s31", "efa", "7: <unknown>", "Unspecified", "efa"),
        ("usnic_0", "usnic", "5: usNIC", "Unspecified", ""),
    ],
)
def test_an_rdma_port_names_its_fabric(device, driver, node_type, layer, fabric):
    """Omni-Path and EFA by their driver, iWARP is none of them."""
    assert name_of_link(device, driver, node_type, layer) == fabric


@pytest.mark.parametrize(
    ("control", "active", "state"),
    [
        ("on", "1", "on"),
        ("on", "0", "off"),
        ("off", "0", "off"),
        ("forceoff", "0", "off"),
        ("notsupported", "0", "off"),
        ("notimplemented", "0", ""),
        ("8", "1", "on"),
        ("4", "1", "on"),
        ("1", "0", "off"),
        ("", "", ""),
    ],
)
def test_the_kernel_s_smt_control(control, active, state):
    """Four and eight threads are on; what the kernel cannot control it does not know."""
    assert parse_smt(control, active) == state


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('ID=debian\nVERSION_ID="12"\n', "debian:12"),
        ('ID="rhel"\nVERSION_ID="9.4"\n', "rhel:9"),
        ("ID=ubuntu\nVERSION_ID='22.04'\n", "ubuntu:22.04"),
        ("ID=Arch\n", "arch"),
        ("# nothing\n", ""),
    ],
)
def test_the_distribution_in_a_word(text, word):
    """The release that decides what is in it."""
    assert parse_os_release(text) == word


@pytest.mark.parametrize(
    ("product", "traits"),
    [
        ("c5.9xlarge", ("inst:c5", "instsize:9xl")),
        ("hpc7g.16xlarge", ("inst:hpc7g", "instsize:16xl")),
        ("m5.xlarge", ("inst:m5", "instsize:xl")),
        ("t3.large", ("inst:t3", "instsize:large")),
        ("c5.metal", ("inst:c5", "instsize:metal")),
        ("u-6tb1.112xlarge", ("inst:u-6tb1", "instsize:112xl")),
    ],
)
def test_amazon_s_instances_name_their_type(product, traits):
    """Size as the announcement spells it."""
    assert find_instance(Dmi("Amazon EC2", product)).traits == traits


@pytest.mark.parametrize(
    ("dmi", "unknown"),
    [
        (Dmi("Dell Inc.", "PowerEdge R740"), ()),
        (Dmi(), ()),
        (Dmi("Amazon EC2", ""), ("inst: an Amazon EC2 machine without its type in DMI",)),
        (
            Dmi("Google", "Google Compute Engine"),
            ("inst: Google Cloud does not tell the instance's type in DMI",),
        ),
        (
            Dmi("Microsoft Corporation", "Virtual Machine", "7783-7084-3265-9085-8269-3286-77"),
            ("inst: Azure does not tell the instance's type in DMI",),
        ),
        (Dmi("Microsoft Corporation", "Virtual Machine"), ()),
    ],
)
def test_other_machines_have_no_type(dmi, unknown):
    """One's own hardware lacks nothing; another cloud's type is unknown and said to be."""
    found = find_instance(dmi)
    assert (found.traits, found.unknowns) == ((), unknown)
