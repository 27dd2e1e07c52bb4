"""The hard tests: one rule for each kind of feature."""

from __future__ import annotations

from dataclasses import replace

import pytest
from indexes import index_with
from nodes import node, other_gpus

from hpcimg import vocabulary
from hpcimg.node.words import profile_from_words
from hpcimg.selection import select


def speaking(cuda, *capabilities):
    """A node whose driver says which CUDA it speaks, but not its own version."""
    profile = node("", *capabilities)
    return replace(profile, gpus=replace(profile.gpus, driver=None, cuda=cuda))


def found(*traits, **facts):
    """A detected node with traits and other facts."""
    return replace(node("zen3"), traits=traits, **facts)


ONE_WORD = [
    # required            node                                         reason
    ("cpuflag:avx2", node("broadwell"), ""),
    ("cpuflag:sse4.2", node("broadwell"), ""),
    ("cpuflag:avx512f", node("broadwell"), "this CPU does not have it"),
    ("cpuflag:avx512", node("skylake512"), ""),
    ("cpu:x86_64_v3", node("zen3"), ""),
    ("cpu:x86_64_v4", node("zen3"), "this node is zen3"),
    ("cpu:x86_64_v4", node("zen4"), ""),
    ("cpu:=skylake", node("skylake512"), "this node is skylake_avx512"),
    ("cpu:zen3|skylake", node("skylake512"), ""),
    ("cpu:nosuchcpu", node("zen3"), "this node is zen3"),
    ("nvcap:7.0", node("", "7.5"), ""),
    ("nvcap:7.5", node("", "7.0"), "GPU 0 has 7.0"),
    ("nvcap:7.0", node("", "8.0"), "GPU 0 has 8.0"),
    ("nvcap:7.0+ptx", node("", "8.0"), ""),
    ("nvcap:9.0a", node("", "9.0"), ""),
    ("nvcap:10.0a", node("", "10.3"), "GPU 0 has 10.3"),
    ("nvcap:10.0f", node("", "10.3"), ""),
    ("nvcap:10.0f", node("", "12.0"), "GPU 0 has 12.0"),
    ("nvcap:10.0f+ptx", node("", "12.0"), "GPU 0 has 12.0"),
    ("nvcap:9.0a+ptx", node("", "10.0"), "GPU 0 has 10.0"),
    ("nvcap:8.6", node("", "8.7"), "GPU 0 has 8.7"),
    ("nvcap:8.7", node("", "8.7"), ""),
    ("nvcap:7.0|8.0", node("", "7.0", "8.6"), ""),
    ("nvcap:7.0", node("", "7.0", "8.6"), "GPU 1 has 8.6"),
    ("nvcap:>=7.0", node("", "9.0"), ""),
    ("nvcap:=7.0", node("", "7.5"), "GPU 0 has 7.5"),
    ("nvcap:abc", node("", "7.5"), "GPU 0 has 7.5"),
    ("nvcap:5.2", node(), "none"),
    ("nvcap:5.2", profile_from_words("linux/amd64:nvidia-390-30"),
     "no GPU with a known capability is offered"),
    ("nvdrv:390.30", node("", "5.2"), ""),
    ("nvdrv:396.9", node("", "5.2"), ""),
    ("nvdrv:410", node("", "5.2"), "the driver is 396.44"),
    ("nvdrv:=390.30", node("", "5.2"), "the driver is 396.44"),
    ("nvdrv:390.30", node("", "5.2", driver=None), "the driver's version is unknown"),
    ("nvdrv:new", node("", "5.2"), "the driver is 396.44"),
    ("infiniband", node(), "an unknown word, which this node does not offer"),
    ("infiniband", profile_from_words("linux/amd64:infiniband"), ""),
    ("variant:v9", node(), "an unknown word, which this node does not offer"),
    # CUDA toolkits: the driver's floor, and the GPUs that a toolkit knows
    ("cuda:9.2", node("", "5.2"), ""),
    ("cuda:10.0", node("", "5.2"), "the driver is 396.44, not 410.48"),
    ("cuda:12.4", node("", "8.0", driver="525.60"), ""),
    ("cuda:12", node("", "8.0", driver="525.60"), ""),
    ("cuda:12.4", node("", "8.0", driver="470.82"), "the driver is 470.82, not 525"),
    ("cuda:12.4", node("", "3.7", driver="535.1"),
     "GPU 0 has 3.7, which CUDA 12.4 no longer knows"),
    ("cuda:13.0", node("", "7.0", driver="580.1"),
     "GPU 0 has 7.0, which CUDA 13.0 no longer knows"),
    ("cuda:10.1", node("", "8.0", driver="535.1"),
     "GPU 0 has 8.0, which CUDA 10.1 does not know yet"),
    ("cuda:11.0|12.4", node("", "8.0", driver="470.82"), ""),
    ("rocm:6.2", profile_from_words("linux/amd64:nvidia-390-30"), "no AMD GPU is offered"),
    ("nvdrv:390.30", profile_from_words("linux/amd64:rocm:6.2"), "no NVIDIA GPU is offered"),
    ("cuda:12.4", speaking("12.1", "8.0"), ""),
    ("cuda:12.4", speaking("11.8", "8.0"), "the driver speaks CUDA 11.8"),
    ("cuda:9.2", speaking("9.1", "7.0"), "the driver speaks CUDA 9.1"),
    ("cuda:new", node("", "8.0"), "which is no version"),
    # AMD
    ("amdgpu:gfx90a", other_gpus("amd", "gfx90a"), ""),
    ("amdgpu:gfx90a", other_gpus("amd", "gfx90a", "gfx908"), "GPU 1 has gfx908"),
    ("amdgpu:gfx908|gfx90a", other_gpus("amd", "gfx90a", "gfx908"), ""),
    ("gfx9-4-generic", other_gpus("amd", "gfx942"), ""),
    ("gfx9-4-generic", other_gpus("amd", "gfx90a"), "GPU 0 has gfx90a"),
    ("gfx942:xnack-", other_gpus("amd", "gfx942"), ""),
    ("gfx942:xnack+", other_gpus("amd", "gfx942"), "GPU 0 has gfx942"),
    ("gfx942:xnack+", other_gpus("amd", "gfx942:sramecc+:xnack+"), ""),
    ("gfx942:sramecc-", other_gpus("amd", "gfx942:sramecc+:xnack-"),
     "GPU 0 has gfx942:sramecc+:xnack-"),
    ("gfx942:sramecc-", other_gpus("amd", "gfx942"),
     "GPU 0 has gfx942, and its sramecc mode is unknown"),
    ("gfx942:sramecc-:xnack+", other_gpus("amd", "gfx942"), "GPU 0 has gfx942"),
    ("amdgpu:gfx90a:sramecc+", other_gpus("amd", "gfx942"), "GPU 0 has gfx942"),
    ("amdgpu:gfx90a", node("", "8.0"), "the job has no AMD GPU"),
    ("nvcap:8.0", other_gpus("amd", "gfx90a"), "the job has no NVIDIA GPU"),
    ("rocm:6.2", other_gpus("amd", "gfx90a"), ""),
    ("rocm:6.2", node("", "8.0"), "the job has no AMD GPU"),
    ("rocm:6.1", profile_from_words("linux/amd64:gfx90a:rocm:6.2"), ""),
    ("rocm:6.2", profile_from_words("linux/amd64:rocm:6.2"), ""),
    ("cuda:12.2", profile_from_words("linux/amd64:cuda:12.4"), ""),
    ("cuda:13.0", profile_from_words("linux/amd64:cuda:12.4"), "the driver speaks CUDA 12.4"),
    # Intel
    ("intelgpu:pvc", other_gpus("intel", "pvc"), ""),
    ("intelgpu:ats-m|pvc", other_gpus("intel", "pvc"), ""),
    ("intelgpu:ats-m", other_gpus("intel", "pvc"), "GPU 0 has pvc"),
    ("intelgpu:spirv", other_gpus("intel", "pvc", "bmg"), ""),
    # The host
    ("kernel:5.14", found(kernel="5.14.0-427.el9"), ""),
    ("kernel:5.15", found(kernel="5.14.0-427.el9"), "the kernel is 5.14.0-427.el9"),
    ("kernel:=5.14", found(kernel="5.14.0-427.el9"), ""),
    ("kernel:5.14", node(), "the kernel's version is unknown"),
    ("glibc:2.17", node(), ""),
    ("glibc:2.17", replace(node("", "8.0"), injected_glibc="2.27"),
     "the host's GPU libraries need glibc 2.27"),
    ("glibc:2.28", replace(node("", "8.0"), injected_glibc="2.27"), ""),
    ("mpi:openmpi", node(), ""),
    ("smt:on", found("smt:on"), ""),
    ("smt:on", found("smt:off"), "this node has smt:off"),
    ("smt:on", found(unknowns=("smt: no file says it",)), "unknown here: smt: no file says it"),
    ("fabric:ib", found("fabric:eth", "fabric:ib"), ""),
    ("fabric:opa|ib", found("fabric:eth", "fabric:ib"), ""),
    ("fabric:cxi", found("fabric:eth"), "this node has fabric:eth"),
    ("inst:c5", found("inst:c5"), ""),
    ("instsize:9xl", found("instsize:18xl"), "this node has instsize:18xl"),
    ("os:rhel:9", found("os:rhel:9"), ""),
    ("site.rack:a7", found(), "this node does not offer any site.rack"),
    ("site.rack:a7", replace(node(), words=("site.rack:a7",)), ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "profile", "reason"), ONE_WORD, ids=[f"{at}-{r[0]}" for at, r in enumerate(ONE_WORD)]
)
def test_the_hard_test_of_one_word(word, profile, reason):
    """One rule for each kind; the reason says what the node has instead."""
    (candidate,) = select(profile, index_with((word,))).candidates
    (required,) = candidate.features
    assert candidate.reason == (
        f"needs {required}; {reason}" if reason else "the only one that fits"
    )
    assert candidate.verdict == ("rejected" if reason else "chosen")


def test_amx_needs_a_kernel_that_grants_it():
    """The flag is in cpuinfo before the kernel hands out the state."""
    old = replace(node(), flags=("amx_tile",), kernel="4.18.0-553.el8")
    index = index_with(("cpuflag:amx_tile",))
    assert "kernel 4.18.0-553.el8 cannot grant it" in select(old, index).candidates[0].reason
    assert select(replace(old, kernel="6.1.0"), index).pick is not None


@pytest.mark.parametrize("words", ["avx2|amx_tile", "amx_tile|avx2"])
def test_one_alternative_that_the_kernel_refuses_leaves_the_other(words):
    """In whichever order they are written."""
    old = replace(node(), flags=("amx_tile", "avx2"), kernel="4.18.0-553.el8")
    assert select(old, index_with((f"cpuflag:{words}",))).pick is not None


@pytest.mark.parametrize(
    ("driver", "cuda", "fits"),
    [("525.60.13", "12.0", False), ("525.60.13", None, False), ("570.1", None, True),
     ("535.1", "12.8", True)],
)  # fmt: skip
def test_portable_code_of_a_newer_toolkit_is_not_compiled(driver, cuda, fits):
    """A driver of the same major number runs the toolkit, but not its newer portable code."""
    profile = node("", "9.0", driver=driver)
    profile = replace(profile, gpus=replace(profile.gpus, cuda=cuda))
    portable, native = select(
        profile, index_with(("cuda:12.8", "nvcap:8.0+ptx"), ("cuda:12.8", "nvcap:9.0"))
    ).candidates
    assert native.verdict == "chosen"
    assert portable.verdict == ("fits" if fits else "rejected")
    assert fits or "does not compile CUDA 12.8's code for GPU 0" in portable.reason


def test_a_fat_image_says_itself_which_gpus_it_has_code_for():
    """A toolkit that does not know a GPU yet may bring portable code for it."""
    index = index_with(("cuda:10.1", "nvcap:7.0+ptx"), ("cuda:10.1", "nvcap:7.5"))
    portable, fixed = select(node("", "8.0", driver="535.1"), index).candidates
    assert (portable.verdict, fixed.verdict) == ("chosen", "rejected")
    assert fixed.reason == "needs nvcap:7.5; GPU 0 has 8.0"


def test_an_image_for_one_vendor_does_not_run_on_a_job_with_another_beside_it():
    """It must run on every GPU that the job got."""
    profile = other_gpus("amd", "gfx90a")
    both = replace(profile, gpus=replace(profile.gpus, devices=(
        *profile.gpus.devices, *node("", "8.0").gpus.devices)))  # fmt: skip
    amd, nvidia = select(both, index_with(("gfx90a",), ("nvcap:8.0",))).candidates
    assert amd.reason == "needs amdgpu:gfx90a; GPU 0 is NVIDIA's"
    assert nvidia.reason == "needs nvcap:8.0; GPU 0 is AMD's"


def test_gpus_that_could_not_be_read_are_no_excuse_for_those_that_could():
    """One vendor's probe that fails says nothing of the other's devices."""
    profile = other_gpus("amd", "gfx90a")
    half = replace(profile, gpus=replace(profile.gpus, state="unknown", reason="NVML is slow"))
    amd, nvidia = select(half, index_with(("gfx90a",), ("nvcap:8.0",))).candidates
    assert amd.verdict == "chosen"
    assert nvidia.reason == "needs nvcap:8.0; the node's GPUs are unknown: NVML is slow"


@pytest.mark.parametrize(
    ("driver", "reason"),
    [
        ("6.8.5", ""),
        ("6.3.6", "needs rocm:6.2; the driver is 6.3.6, not 6.7"),
        (None, "needs rocm:6.2; the amdgpu driver's version is unknown"),
    ],
)
def test_a_sites_table_gives_rocm_its_oldest_driver(monkeypatch, driver, reason):
    """The vocabulary's own table is empty: what works is the site's experience."""
    monkeypatch.setitem(vocabulary.facts(), "rocm_drivers", {"6": "6.7"})
    profile = other_gpus("amd", "gfx90a", amd_driver=driver)
    (candidate,) = select(profile, index_with(("rocm:6.2",))).candidates
    assert candidate.reason == (reason or "the only one that fits")


@pytest.mark.parametrize("word", ["nvcap:5.2", "nvdrv:390.30", "cuda:9.0", "gfx90a", "rocm:6.2",
                                  "intelgpu:pvc"])  # fmt: skip
def test_a_job_without_gpu_gets_no_image_that_needs_one(word):
    """Whatever the node has, and whichever word says it."""
    for profile in (node("broadwell", "5.2", ids=()), node("broadwell")):
        (candidate,) = select(profile, index_with((word,))).candidates
        assert candidate.verdict == "rejected"


def test_words_that_offer_a_driver_alone_offer_a_gpu():
    """`linux/amd64:broadwell:nvidia-390-30` offers that driver though it names no capability."""
    profile = profile_from_words("linux/amd64:broadwell:nvidia-390-30")
    assert (profile.gpus.state, profile.gpus.devices) == ("present", ())
    (candidate,) = select(profile, index_with(("nvidia-390-30",))).candidates
    assert candidate.verdict == "chosen"
