"""Write the machines of this folder; see README.md."""

from __future__ import annotations

import shutil
from pathlib import Path

from hpcimg import targets

HERE = Path(__file__).parent
PCI = "sys/bus/pci/devices"
NODES = "sys/class/kfd/kfd/topology/nodes"
RHEL = {"etc/os-release": 'NAME="Red Hat Enterprise Linux"\nID="rhel"\nVERSION_ID="9.4"\n'}
# The line that the library prints when it is run, and has among its strings.
LIBC = "GNU C Library (Debian GLIBC 2.36-9+deb12u8) stable release version 2.36."

Files = dict[str, str]


def x86(target: str, model: str, *more: str) -> Files:
    """Give a processor of two cores by archspec's flags."""
    facts = targets.facts_of(target, "amd64")
    flags = " ".join(sorted({"lm", *facts.flags, *more}))
    core = f"vendor_id\t: {facts.vendor}\nmodel name\t: {model}\nflags\t\t: {flags}\n"
    cores = "\n".join(f"processor\t: {number}\n{core}" for number in range(2))
    return {"proc/cpuinfo": cores}


def kernel(release: str, name: str, boot: str = "b0070000-0000-4000-8000-000000000000") -> Files:
    """Give what the kernel says of itself."""
    sys = "proc/sys/kernel"
    return {
        f"{sys}/osrelease": release,
        f"{sys}/hostname": f"{name}.cluster",
        f"{sys}/random/boot_id": boot,
    }


def smt(control: str, active: int, siblings: str = "") -> Files:
    """Give the kernel's SMT control."""
    cpu = "sys/devices/system/cpu"
    files = {f"{cpu}/smt/control": control, f"{cpu}/smt/active": str(active)}
    return files | ({f"{cpu}/cpu0/topology/thread_siblings_list": siblings} if siblings else {})


def pci(slot: str, vendor: str, device: str, kind: str, driver: str = "") -> Files:
    """Give a device on the bus."""
    files = {"vendor": f"0x{vendor}", "device": f"0x{device}", "class": f"0x{kind}"}
    files["uevent"] = f"DRIVER={driver}" if driver else f"PCI_CLASS={kind.lstrip('0')}"
    return {f"{PCI}/{slot}/{name}": text for name, text in files.items()}


def net(name: str, driver: str = "", state: str = "up", kind: int = 1) -> Files:
    """Give a network device, a physical one when it has a driver."""
    place = f"sys/class/net/{name}"
    files = {f"{place}/operstate": state, f"{place}/type": str(kind)}
    return files | ({f"{place}/device/uevent": f"DRIVER={driver}"} if driver else {})


def rdma(name: str, driver: str, layer: str, state: str = "4: ACTIVE") -> Files:
    """Give an RDMA device with one port."""
    place = f"sys/class/infiniband/{name}"
    return {
        f"{place}/node_type": "1: CA",
        f"{place}/ports/1/state": state,
        f"{place}/ports/1/link_layer": layer,
        f"{place}/device/uevent": f"DRIVER={driver}",
    }


def kfd(gpus: int, version: int, name: str, board: str, capability: int) -> Files:
    """Give a topology of one CPU and some GPUs; bit 26 of their capability is sramecc."""
    cpu = "cpu_cores_count 64\nsimd_count 0\ngfx_target_version 0\nunique_id 0"
    files = {f"{NODES}/0/properties": cpu, f"{NODES}/0/name": ""}
    for at in range(1, gpus + 1):
        minor = 127 + at
        serial = 0x00C5A1F2D3E40000 + at
        files[f"{NODES}/{at}/properties"] = (
            f"cpu_cores_count 0\nsimd_count 440\ngfx_target_version {version}\n"
            f"capability {capability}\ndrm_render_minor {minor}\nunique_id {serial}"
        )
        files[f"{NODES}/{at}/name"] = name
        files[f"sys/class/drm/renderD{minor}/device/product_name"] = board
    return files


def nvidia(slot: str, device: str, model: str, uuid: str) -> Files:
    """Give a GPU as NVIDIA's driver tells of it."""
    told = f"Model: \t\t {model}\nIRQ:   \t\t 100\nGPU UUID: \t {uuid}\nBus Location: \t {slot}"
    return {
        **pci(slot, "10de", device, "030200", "nvidia"),
        f"proc/driver/nvidia/gpus/{slot}/information": told,
    }


MACHINES: dict[str, Files] = {
    "mi250x": {
        **x86("zen3", "AMD EPYC 7A53 64-Core Processor"),
        **kernel("5.14.21-150500.55.49-default", "amd1"),
        **smt("on", 1),
        **kfd(4, 90010, "aldebaran", "AMD Instinct MI250X", 0x2C7D6A80),
        "sys/module/amdgpu/version": "6.7.0",
        **net("eth0", "igb"),
        "etc/os-release": 'ID="sles"\nVERSION_ID="15.5"\n',
    },
    "mi300a": {
        **x86("zen4", "AMD Instinct MI300A Accelerator"),
        **kernel("6.8.0-45-generic", "apu1"),
        **smt("off", 0),
        **kfd(2, 90402, "ip discovery", "AMD Instinct MI300A", 0x2C7D6A80),
        **net("eno1", "igb"),
        "etc/os-release": 'ID=ubuntu\nVERSION_ID="22.04"\n',
    },
    "pvc": {
        **x86("sapphirerapids", "Intel(R) Xeon(R) Max 9470"),
        **kernel("5.14.0-427.el9.x86_64", "pvc1"),
        **smt("on", 1),
        **pci("0000:29:00.0", "8086", "0bd5", "038000", "i915"),
        **pci("0000:9a:00.0", "8086", "0bd5", "038000", "i915"),
        **pci("0000:02:00.0", "1a03", "2000", "030000", "ast"),
        **net("eno1", "ice"),
        **RHEL,
    },
    "ib-roce": {
        **x86("icelake", "Intel(R) Xeon(R) Platinum 8358 CPU @ 2.60GHz"),
        **kernel("5.14.0-427.el9.x86_64", "ib1"),
        **smt("on", 1),
        **pci("0000:00:02.0", "8086", "3e92", "030000", "i915"),
        **rdma("mlx5_0", "mlx5_core", "InfiniBand"),
        **rdma("mlx5_1", "mlx5_core", "Ethernet"),
        **rdma("mlx5_2", "mlx5_core", "InfiniBand", "1: DOWN"),
        **rdma("rxe0", "", "Ethernet"),
        "sys/class/infiniband/rxe0/parent": "eno1",
        **net("ib0", "mlx5_core", kind=32),
        **net("eno1", "mlx5_core"),
        **RHEL,
    },
    "slingshot": {
        **x86("zen3", "AMD EPYC 7763 64-Core Processor"),
        **kernel("5.14.21-150500.55.49-default", "ss1"),
        **smt("on", 1),
        "sys/class/cxi/cxi0/uevent": "DEVNAME=cxi0",
        **net("hsn0", "cxi_ss1"),
        **net("lo", kind=772),
        "etc/os-release": 'ID="sles"\nVERSION_ID="15.5"\n',
    },
    "efa": {
        **x86("skylake_avx512", "Intel(R) Xeon(R) Platinum 8124M CPU @ 3.00GHz", "hypervisor"),
        **kernel("6.1.109-118.189.amzn2023.x86_64", "c5n-1"),
        **smt("on", 1),
        "sys/class/dmi/id/sys_vendor": "Amazon EC2",
        "sys/class/dmi/id/product_name": "c5n.9xlarge",
        **rdma("rdmap0s6", "efa", "Unspecified"),
        **net("ens5", "ena"),
        "etc/os-release": 'ID="amzn"\nVERSION_ID="2023"\n',
    },
    "opa": {
        **x86("broadwell", "Intel(R) Xeon(R) CPU E5-2697 v4 @ 2.30GHz"),
        **kernel("4.18.0-553.el8.x86_64", "opa1"),
        **smt("off", 0),
        **rdma("hfi1_0", "hfi1", "InfiniBand"),
        **net("docker0"),
        **net("eno1", "igb", state="down"),
        "etc/os-release": 'ID="rocky"\nVERSION_ID="8.10"\n',
    },
    "power9-smt8": {
        "proc/cpuinfo": (
            "processor\t: 0\ncpu\t\t: POWER9 (architected), altivec supported\n"
            "clock\t\t: 2800.000000MHz\nrevision\t: 2.2 (pvr 004e 0202)\n\n"
            "platform\t: pSeries\nmachine\t\t: CHRP IBM,9009-22A\n"
        ),
        **kernel("4.18.0-553.el8.ppc64le", "p9"),
        **smt("notimplemented", 0, "0-7"),
        **net("env2", "ibmveth"),
        "etc/os-release": 'ID="rhel"\nVERSION_ID="8.10"\n',
    },
    "smt-off": {
        **x86("cascadelake", "Intel(R) Xeon(R) Gold 6252 CPU @ 2.10GHz"),
        **kernel("6.1.0-25-amd64", "clx1"),
        **smt("forceoff", 0, "0"),
        **net("eno1", "i40e"),
        "etc/os-release": 'ID=debian\nVERSION_ID="12"\n',
        "lib/x86_64-linux-gnu/libc.so.6": LIBC,
    },
    "nvidia-proc": {
        **x86("skylake_avx512", "Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz"),
        **kernel("6.1.0-25-amd64", "nv1"),
        **smt("on", 1),
        **nvidia("0000:3b:00.0", "1db6", "Tesla V100-PCIE-32GB", "GPU-11111111-aaaa"),
        **nvidia("0000:86:00.0", "1eb8", "Tesla T4", "GPU-????????-????"),
        "proc/driver/nvidia/version": (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 2024\n"
            "GCC version:  gcc version 12.2.0"
        ),
        **net("eno1", "i40e"),
        "etc/os-release": 'ID=debian\nVERSION_ID="12"\n',
    },
    "no-driver": {
        **x86("sapphirerapids", "Intel(R) Xeon(R) Platinum 8480+"),
        **kernel("5.14.0-427.el9.x86_64", "h100"),
        **smt("on", 1),
        **pci("0000:18:00.0", "10de", "2330", "030200"),
        **net("eno1", "ice"),
        **RHEL,
    },
}


def main() -> None:
    """Write them all anew."""
    for name, files in MACHINES.items():
        shutil.rmtree(HERE / name, ignore_errors=True)
        for path, text in files.items():
            place = HERE / name / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
