"""The GPUs of all vendors together, and those of a job."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpcimg.node.gpus import Gpu, GpuFacts, joined
from hpcimg.node.profile import NodeProfile

M60 = Gpu(0, "GPU-aaa", "Tesla M60", "5.2")
MI0 = Gpu(0, "GPU-00c5a1", "MI250X", vendor="amd", target="gfx90a")
MI1 = Gpu(1, "GPU-00c5a2", "MI250X", vendor="amd", target="gfx90a")
PVC = Gpu(0, "", "", vendor="intel", target="pvc")
NVIDIA = GpuFacts("present", driver="396.44", cuda="9.2", devices=(M60,))
AMD = GpuFacts("present", devices=(MI0, MI1), amd_driver="6.7.0")
NONE = GpuFacts("none", "no GPU of mine")
SLOW = GpuFacts("unknown", "NVML did not answer")


@pytest.mark.parametrize(
    ("parts", "state", "reason"),
    [
        ((), "none", ""),
        ((NONE, GpuFacts()), "none", "no GPU of mine"),
        ((NONE, SLOW), "unknown", "NVML did not answer"),
        ((NONE, AMD), "present", ""),
        ((SLOW, AMD), "present", "NVML did not answer"),
    ],
)
def test_one_vendor_s_unknown_hides_no_other_vendor_s_devices(parts, state, reason):
    """It stays as the reason, beside the devices."""
    facts = joined(parts)
    assert (facts.state, facts.reason) == (state, reason)


def test_all_vendors_facts_are_joined():
    """Each brings its own driver."""
    facts = joined((NVIDIA, AMD))
    assert facts.devices == (M60, MI0, MI1)
    assert (facts.driver, facts.cuda, facts.amd_driver) == ("396.44", "9.2", "6.7.0")


@pytest.mark.parametrize(
    ("ids", "devices"),
    [
        (("1",), (MI1,)),
        (("GPU-00c5a1",), (MI0,)),
        (("00c5a1", "0x00c5a2"), (MI0, MI1)),
        (("1", "GPU-00c5a2"), (MI1,)),
    ],
)
def test_amd_gpus_have_a_number_and_a_serial(ids, devices):
    """In every spelling that AMD's tools print."""
    assert AMD.allocated(ids).devices == devices


def test_intel_gpus_have_a_number_only():
    """The kernel tells no UUID; an empty one is no name."""
    facts = GpuFacts("present", devices=(PVC,))
    assert facts.allocated(("0",)).devices == (PVC,)
    assert facts.allocated(("1",)).state == "unknown"


def test_a_number_is_ambiguous_between_two_vendors():
    """Slurm counts within one type; a UUID is of one vendor only."""
    both = joined((NVIDIA, AMD))
    unclear = both.allocated(("0",))
    assert (unclear.state, unclear.wanted, unclear.devices) == ("unknown", True, ())
    assert unclear.reason == "the job's GPU numbers could be of NVIDIA or AMD"
    assert both.allocated(("GPU-aaa",)).devices == (M60,)


def test_a_number_is_ambiguous_beside_gpus_that_could_not_be_read():
    """GPU 0 could be theirs."""
    facts = joined((SLOW, AMD))
    assert facts.allocated(("0",)).reason == (
        "the job's GPU numbers could be of AMD or another: NVML did not answer"
    )
    assert facts.allocated(("GPU-00c5a1",)).devices == (MI0,)


def test_policy_exact_compares_every_vendor_s_word():
    """Each device by the kind of its vendor."""
    profile = NodeProfile("n1", "linux", "amd64", "zen3", gpus=joined((NVIDIA, AMD)))
    profile = replace(profile, gpus=replace(profile.gpus, devices=(M60, MI0, PVC)))
    assert profile.offered() == ("amdgpu:gfx90a", "cpu:zen3", "intelgpu:pvc", "nvcap:5.2")


def test_a_job_s_number_of_nodes_is_kept():
    """A fabric counts only between nodes; told profiles span nodes as well."""
    profile = NodeProfile("n1", "linux", "amd64", gpus=AMD)
    assert profile.allocated(("1",), nodes=4).job_nodes == 4
    assert profile.allocated(None, nodes=2).job_nodes == 2
    assert replace(profile, declared=True).allocated((), nodes=2) == replace(
        profile, declared=True, job_nodes=2
    )


SLICED = Gpu(1, "GPU-bbb", "A100", "8.0", mig=True, slices=("MIG-1", "MIG-2"))


def test_a_number_may_be_a_slice_s():
    """Slurm counts MIG slices as devices, in its own order: clear only where all are alike."""
    alike = GpuFacts("present", devices=(replace(SLICED, index=0), SLICED))
    (gpu,) = alike.allocated(("3", "0")).devices
    assert (gpu.capability, gpu.uuid) == ("8.0", "")
    assert alike.allocated(("4",)).reason == "the job has GPU '4', which detection did not see"
    assert alike.allocated(("MIG-2",)).devices == (SLICED,)
    mixed = GpuFacts("present", devices=(M60, SLICED))
    assert mixed.allocated(("0",)).reason == (
        "the job's GPU numbers count MIG slices, and the GPUs differ"
    )
    assert mixed.allocated(("GPU-aaa",)).devices == (M60,)
