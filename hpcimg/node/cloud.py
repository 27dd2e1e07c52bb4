"""The probe for cloud instances and virtual machines: what the firmware's DMI table says.

Makes no network request: only Amazon writes the instance's type there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpcimg.node.probe import Finding, read_text

if TYPE_CHECKING:
    from pathlib import Path

_DMI = "sys/class/dmi/id"
_AMAZON = "Amazon EC2"
_INSTANCE = re.compile(r"([a-z0-9-]+)\.([a-z0-9-]+)")
_CLOUDS = {
    "Google": "Google Cloud",
    "Alibaba Cloud": "Alibaba Cloud",
    "DigitalOcean": "DigitalOcean",
    "Hetzner": "Hetzner",
    "OpenStack Foundation": "OpenStack",
    "OracleCloud.com": "Oracle Cloud",
    # Azure's mark on the chassis; a plain Hyper-V machine has another one.
    "7783-7084-3265-9085-8269-3286-77": "Azure",
}
_HYPERVISORS = {
    "QEMU": "QEMU",
    "Red Hat": "KVM",
    "VMware, Inc.": "VMware",
    "Microsoft Corporation": "Hyper-V",
    "Xen": "Xen",
    "innotek GmbH": "VirtualBox",
    _AMAZON: _AMAZON,
    "Google": "Google Cloud",
    "OpenStack Foundation": "OpenStack",
    "Alibaba Cloud": "Alibaba Cloud",
}


@dataclass(frozen=True)
class Dmi:
    """Who made the machine, what he calls it, and the mark on its chassis."""

    vendor: str = ""
    product: str = ""
    chassis: str = ""

    @property
    def hypervisor(self) -> str:
        """Name who would run it if it were virtual, as well as the table tells."""
        return _HYPERVISORS.get(self.vendor, self.vendor)


def read_dmi(root: Path) -> Dmi:
    """Read the parts of the DMI table that everybody may read."""
    names = ("sys_vendor", "product_name", "chassis_asset_tag")
    return Dmi(*(read_text(root / _DMI / name) for name in names))


def find_instance(dmi: Dmi) -> Finding:
    """Tell the instance's type and size; another cloud is noted, its type unknown."""
    if dmi.vendor == _AMAZON:
        match = _INSTANCE.fullmatch(dmi.product)
        if match is None:
            return Finding("", unknowns=("inst: an Amazon EC2 machine without its type in DMI",))
        size = re.sub("xlarge$", "xl", match[2])
        return Finding(f"/{_DMI}", (f"inst:{match[1]}", f"instsize:{size}"))
    cloud = _CLOUDS.get(dmi.chassis) or _CLOUDS.get(dmi.vendor)
    if cloud is None:
        return Finding("")
    unknown = f"inst: {cloud} does not tell the instance's type in DMI"
    return Finding("", notes=(f"it is an instance of {cloud}",), unknowns=(unknown,))
