"""The device files of a node's GPUs, read from recorded trees of /dev, /sys and /proc."""

from __future__ import annotations

from hpcimg.gpu_files import DeviceFile
from hpcimg.node.gpu_files import find_files, read_device_files


def write(root, path, text=""):
    """Write a file of a recorded tree."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def drm(root, name, slot):
    """Add a file of /dev/dri and its device on the bus."""
    write(root, f"dev/dri/{name}")
    (root / "sys/class/drm" / name).mkdir(parents=True)
    (root / "sys/class/drm" / name / "device").symlink_to(f"../../../{slot}")


def found(root):
    """Give what is found, in order."""
    return sorted(read_device_files(root), key=lambda one: one.path)


def test_nvidias_files_are_told_apart(tmp_path):
    """Cards by number, the driver's own for all, a slice's capabilities by the driver's list."""
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null", "nvram"):
        write(tmp_path, f"dev/{name}")
    for number in (1, 12, 13):
        write(tmp_path, f"dev/nvidia-caps/nvidia-cap{number}")
    mig = "proc/driver/nvidia/capabilities/gpu1/mig/gi7"
    write(tmp_path, f"{mig}/access", "DeviceFileMinor: 12\nDeviceFileMode: 292\n")
    write(tmp_path, f"{mig}/ci0/access", "DeviceFileMinor: 13\nDeviceFileMode: 292\n")
    card = "proc/driver/nvidia/gpus/0000:3b:00.0/information"
    write(tmp_path, card, "Model: \t\t A100\nDevice Minor: \t 1\n")
    drm(tmp_path, "card1", "0000:3b:00.0")
    assert found(tmp_path) == [
        DeviceFile("/dev/dri/card1", "nvidia", 1),
        DeviceFile("/dev/nvidia-caps/nvidia-cap1", "nvidia"),
        DeviceFile("/dev/nvidia-caps/nvidia-cap12", "nvidia", 1, "7"),
        DeviceFile("/dev/nvidia-caps/nvidia-cap13", "nvidia", 1, "7/0"),
        DeviceFile("/dev/nvidia-uvm", "nvidia"),
        DeviceFile("/dev/nvidia0", "nvidia", 0),
        DeviceFile("/dev/nvidia1", "nvidia", 1),
        DeviceFile("/dev/nvidiactl", "nvidia"),
    ]


def test_amds_render_devices_are_those_of_the_topology(tmp_path):
    """The order is KFD's, not that of the numbers; a partition has a device of its own."""
    nodes = "sys/class/kfd/kfd/topology/nodes"
    write(tmp_path, f"{nodes}/0/properties", "cpu_cores_count 64\nsimd_count 0\n")
    for node, minor in ((1, 130), (2, 128), (3, 131)):
        facts = f"simd_count 440\ngfx_target_version 90010\ndrm_render_minor {minor}\n"
        write(tmp_path, f"{nodes}/{node}/properties", facts)
    write(tmp_path, "dev/kfd")
    drm(tmp_path, "renderD130", "0000:c1:00.0")
    drm(tmp_path, "renderD131", "0000:c1:00.0")
    drm(tmp_path, "renderD128", "0000:d1:00.0")
    drm(tmp_path, "card0", "0000:d1:00.0")
    drm(tmp_path, "card9", "0000:02:00.0")
    assert found(tmp_path) == [
        DeviceFile("/dev/dri/card0", "amd", 1),
        DeviceFile("/dev/dri/renderD128", "amd", 1),
        DeviceFile("/dev/dri/renderD130", "amd", 0),
        DeviceFile("/dev/dri/renderD131", "amd", 2),
        DeviceFile("/dev/kfd", "amd"),
    ]


def test_intels_compute_gpus_and_not_a_processors_graphics(tmp_path):
    """By the places on the bus; what is no compute GPU stays as it is."""
    for slot, device in (("0000:00:02.0", "0x3e9b"), ("0000:4d:00.0", "0x0bd5")):
        place = f"sys/bus/pci/devices/{slot}"
        for key, text in (("class", "0x038000"), ("vendor", "0x8086"), ("device", device)):
            write(tmp_path, f"{place}/{key}", text)
    drm(tmp_path, "renderD128", "0000:00:02.0")
    drm(tmp_path, "renderD129", "0000:4d:00.0")
    assert found(tmp_path) == [DeviceFile("/dev/dri/renderD129", "intel", 0)]


def test_a_node_without_gpus_has_no_such_files(tmp_path):
    """Neither files nor directories are needed for it."""
    assert found(tmp_path) == []


def test_patterns_find_files(tmp_path):
    """Each tells what it found, also where that is nothing."""
    write(tmp_path, "libx.so.1")
    write(tmp_path, "liby.so.1")
    pattern, missing = f"{tmp_path}/lib*.so.1", f"{tmp_path}/libz.so.1"
    assert find_files([pattern, missing]) == {
        pattern: (tmp_path / "libx.so.1", tmp_path / "liby.so.1"),
        missing: (),
    }
