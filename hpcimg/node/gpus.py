"""The GPUs of a node, of all vendors: what is known of them, and which of them a job has.

Knows no probe; unknown stays unknown, and one vendor's unknown hides no other vendor's devices.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hpcimg.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

VENDOR_NAMES = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel"}
CODE_KINDS = {"nvidia": "nvcap", "amd": "amdgpu", "intel": "intelgpu"}
"""Of which kind the words for a vendor's code are."""


@dataclass(frozen=True)
class Gpu:
    """One GPU. Of NVIDIA's it tells the `capability`, of the others' the code's `target`.

    `target` is AMD's as `gfx90a:sramecc+:xnack-`, Intel's device name as `pvc`. `slices` are the
    UUIDs of an NVIDIA GPU's MIG slices, which have its capability; `instances` are their numbers in
    the same order, as `1/0`. `index` counts one vendor's devices in the order of the bus; NVIDIA's
    have the number of their device file.
    """

    index: int
    uuid: str
    name: str
    capability: str = ""
    mig: bool = False
    slices: tuple[str, ...] = ()
    vendor: str = "nvidia"
    target: str = ""
    instances: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """Say in a canonical word which code it runs best."""
        return f"{CODE_KINDS[self.vendor]}:{self.capability or self.target}"

    def names(self) -> tuple[str, ...]:
        """List what a job may call it for sure: UUID, its slices; AMD's also by the bare id."""
        if self.vendor == "amd" and self.uuid:
            bare = self.uuid.removeprefix("GPU-")
            return self.uuid, bare, f"0x{bare}"
        return self.uuid, *self.slices


@dataclass(frozen=True)
class GpuFacts:
    """What is known of the GPUs.

    `state` is `present` as soon as one device is known; `unknown` when none is, but one may be
    there; else `none`. `reason` says why they are none or unknown; where devices are present, it
    says what else could not be read.
    `driver` and `cuda`, which it speaks, are NVIDIA's; `amd_driver` is the amdgpu module's version.
    `wanted` says that the job asked for GPUs, so that not knowing them is a refusal.
    """

    state: str = "none"
    reason: str = ""
    driver: str | None = None
    cuda: str | None = None
    devices: tuple[Gpu, ...] = ()
    wanted: bool = False
    amd_driver: str | None = None

    def of(self, vendor: str) -> tuple[Gpu, ...]:
        """Give one vendor's devices: `nvidia`, `amd` or `intel`."""
        return tuple(gpu for gpu in self.devices if gpu.vendor == vendor)

    def allocated(self, ids: tuple[str, ...]) -> GpuFacts:
        """Restrict them to those that a job has, by number, UUID or MIG UUID; none when empty."""
        if not ids:
            return GpuFacts("none", "the job has no GPU", self.driver, self.cuda)
        if self.state != "present":
            return replace(self, wanted=True)
        named = {name: gpu for gpu in self.devices for name in gpu.names()}
        if any(word.isdecimal() for word in ids):
            numbered, reason = self._numbered()
            if reason:
                return self._unknown(f"the job's GPU numbers {reason}")
            named |= numbered
        missing = [word for word in ids if word not in named]
        if missing:
            what = f"the job has GPU {quoted(missing[0])}, which detection did not see"
            return self._unknown(what)
        chosen = tuple(dict.fromkeys(named[word] for word in ids))
        return replace(self, devices=chosen, reason="", wanted=True)

    def _unknown(self, reason: str) -> GpuFacts:
        return replace(self, state="unknown", reason=reason, devices=(), wanted=True)

    def _numbered(self) -> tuple[dict[str, Gpu], str]:
        """Say which GPU each of Slurm's numbers means, or why that is not clear.

        Slurm counts what gres.conf lists: GPUs of all vendors and MIG slices, in its own order.
        """
        vendors = [name for key, name in VENDOR_NAMES.items() if self.of(key)]
        if len(vendors) > 1:
            return {}, f"could be of {' or '.join(vendors)}"
        if self.reason:
            return {}, f"could be of {vendors[0]} or another: {self.reason}"
        if not any(gpu.slices for gpu in self.devices):
            return {str(gpu.index): gpu for gpu in self.devices}, ""
        if len({gpu.word for gpu in self.devices}) > 1:
            return {}, "count MIG slices, and the GPUs differ"
        alike = replace(self.devices[0], uuid="", mig=True, slices=(), instances=())
        units = sum(len(gpu.slices) or 1 for gpu in self.devices)
        return {str(number): alike for number in range(units)}, ""


def joined(parts: Iterable[GpuFacts]) -> GpuFacts:
    """Join what the vendors' probes found."""
    found = tuple(parts)
    states = {part.state for part in found}
    state = next((one for one in ("present", "unknown", "none") if one in states), "none")
    reasons = [p.reason for p in found if p.reason and (p.state == "unknown" or state == "none")]
    return GpuFacts(
        state,
        "; ".join(reasons),
        driver=next((part.driver for part in found if part.driver), None),
        cuda=next((part.cuda for part in found if part.cuda), None),
        devices=tuple(gpu for part in found for gpu in part.devices),
        amd_driver=next((part.amd_driver for part in found if part.amd_driver), None),
    )
