"""The probe for fabrics: RDMA devices with an active port, Slingshot, and plain Ethernet.

A device without an active port is noted, not counted; software devices are no fabric.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpcimg.node.probe import Finding, driver_of, entries, read_text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_RDMA, _NET, _CXI = "sys/class/infiniband", "sys/class/net", "sys/class/cxi"
_LINKS = {"InfiniBand": "ib", "Ethernet": "roce"}
_DRIVERS = {"hfi1": "opa", "efa": "efa"}
_IWARP = "RNIC"
_ETHERNET = "1"


def probe_fabric(root: Path) -> Finding:
    """Find the fabrics under `root`."""
    rdma, notes = _rdma(root)
    slingshot = {"slingshot"} if entries(root / _CXI) else set()
    found = rdma | slingshot | _net(root)
    names = tuple(f"fabric:{name}" for name in sorted(found))
    unknowns = () if (root / _NET).is_dir() else (f"fabric: there is no /{_NET}",)
    places = [one for one in (_RDMA, _CXI, _NET) if (root / one).is_dir()]
    return Finding(", ".join(f"/{one}" for one in places), names, tuple(notes), unknowns)


def name_of_link(device: str, driver: str, node_type: str, link_layer: str) -> str:
    """Name the fabric of an RDMA port, empty where it is none that images ask for."""
    for known, fabric in _DRIVERS.items():
        if driver == known or device.startswith(f"{known}_"):
            return fabric
    return "" if _IWARP in node_type else _LINKS.get(link_layer, "")


def _rdma(root: Path) -> tuple[set[str], list[str]]:
    found: set[str] = set()
    notes: list[str] = []
    for device in entries(root / _RDMA):
        # The software devices rxe and siw say on which network device they stand.
        if (device / "parent").exists():
            continue
        ports = entries(device / "ports")
        active = [port for port in ports if read_text(port / "state").endswith("ACTIVE")]
        if not active:
            notes.append(f"RDMA device {device.name} has no active port: not counted as a fabric")
        found |= set(_names(device, active))
    return found - {""}, notes


def _names(device: Path, ports: Iterable[Path]) -> Iterable[str]:
    driver, node_type = driver_of(device / "device"), read_text(device / "node_type")
    for port in ports:
        yield name_of_link(device.name, driver, node_type, read_text(port / "link_layer"))


def _net(root: Path) -> set[str]:
    """Tell what the physical network devices are that are up; virtual ones have no device."""
    found: set[str] = set()
    for net in entries(root / _NET):
        is_up = read_text(net / "operstate") == "up"
        if not is_up or not (net / "device").exists() or read_text(net / "type") != _ETHERNET:
            continue
        found.add("eth")
        if net.name.startswith("hsn") and driver_of(net / "device").startswith("cxi"):
            found.add("slingshot")
    return found
