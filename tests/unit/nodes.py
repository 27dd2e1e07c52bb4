"""Node profiles for the tests, as detection would have made them."""

from __future__ import annotations

from dataclasses import replace

from hpcimg.node.profile import Gpu, GpuFacts, NodeProfile
from hpcimg.node.words import profile_from_words

AMD64 = "linux/amd64"


def node(words="", *capabilities, driver="396.44", ids=None) -> NodeProfile:
    """Make a detected profile of a CPU and NVIDIA GPUs, restricted to the job's GPUs."""
    profile = profile_from_words(f"{AMD64}:{words}" if words else AMD64, node="n1")
    devices = tuple(Gpu(at, f"GPU-{at}", "", one) for at, one in enumerate(capabilities))
    gpus = GpuFacts("present", "", driver, None, devices) if devices else GpuFacts("none", "none")
    return replace(profile, gpus=gpus, declared=False, words=()).allocated(ids)


def other_gpus(vendor, *targets, **more) -> NodeProfile:
    """Make a detected profile with GPUs of AMD or Intel, by the target of each."""
    devices = tuple(Gpu(at, "", "", vendor=vendor, target=one) for at, one in enumerate(targets))
    return replace(node("zen3"), gpus=GpuFacts("present", devices=devices, **more))
