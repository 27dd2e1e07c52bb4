"""Words that a site or `--platform` offers: into a profile of their own, or over a found one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpcimg.errors import UsageError
from hpcimg.node.profile import Gpu, GpuFacts, NodeProfile
from hpcimg.node.words import profile_from_words, with_offered

FOUND = NodeProfile(
    node="n1",
    os="linux",
    architecture="amd64",
    target="zen3",
    compatible=("zen3", "zen2", "x86_64"),
    flags=("avx2",),
    kernel="5.14.0",
    traits=("fabric:ib", "smt:on"),
    unknowns=("gpus: slow", "fabric: why"),
    sources={"cpu": "/proc/cpuinfo", "smt": "sysfs"},
)
MI250X = Gpu(0, "GPU-1", "MI250X", vendor="amd", target="gfx90a")


def test_every_kind_of_word_has_its_place():
    """GPUs of three vendors, versions and traits."""
    profile = profile_from_words(
        "linux/amd64:nvcap-8-0:cuda:12.4:amdgpu:gfx90a:rocm:6.2:intelgpu:pvc:kernel:5.14"
        ":glibc:2.28:fabric:ib:smt:on:inst:c5:instsize:9xl:os:debian:12"
    )
    assert [gpu.word for gpu in profile.gpus.devices] == [
        "nvcap:8.0",
        "amdgpu:gfx90a",
        "intelgpu:pvc",
    ]
    assert (profile.gpus.cuda, profile.kernel, profile.glibc) == ("12.4", "5.14", "2.28")
    assert profile.traits == ("fabric:ib", "inst:c5", "instsize:9xl", "os:debian:12", "smt:on")
    assert "rocm:6.2" in profile.words
    assert NodeProfile.from_json(profile.to_json()) == profile


def test_the_announcement_s_list_offers_what_its_words_do():
    """`platform-features` of daemon.json and `--platform` describe the same machine."""
    words = ("broadwell", "nv-compute-5-2", "nvidia-396-44")
    told = profile_from_words("linux/amd64:" + ":".join(words))
    declared = with_offered(FOUND.allocated(()), words)
    for field in ("target", "compatible", "flags", "gpus", "words"):
        assert getattr(declared, field) == getattr(told, field)
    assert declared.offered() == told.offered()
    assert declared.sources == {"cpu": "words", "nvidia": "words", "smt": "sysfs"}
    assert (declared.node, declared.traits, declared.declared) == ("n1", FOUND.traits, False)
    assert declared.unknowns == ("fabric: why",)


def test_a_word_replaces_only_its_own_group():
    """The other vendors' devices, the CPU and the other traits stay as found."""
    mixed = replace(FOUND, gpus=GpuFacts("present", "", "535.1", "12.2", (MI250X,)))
    declared = with_offered(mixed, ["nvcap:8.0", "smt:off", "mpi:mpich"])
    assert declared.gpus.devices == (Gpu(0, "", "", "8.0"), MI250X)
    assert (declared.gpus.driver, declared.gpus.cuda) == (None, None)
    assert declared.traits == ("fabric:ib", "smt:off")
    assert declared.target == "zen3"
    assert declared.words == ("mpi:mpich", "nvcap:8.0", "smt:off")
    amd = with_offered(mixed, ["amdgpu:gfx942"])
    assert [gpu.target for gpu in amd.gpus.devices] == ["gfx942"]
    assert amd.gpus.driver == "535.1"


def test_a_flag_alone_is_one_more():
    """What detection found of the CPU stays; with a CPU's name nothing of it does."""
    more = with_offered(FOUND, ["cpuflag:foo"])
    assert (more.target, more.compatible) == (FOUND.target, FOUND.compatible)
    assert more.flags == ("avx2", "foo")
    other = with_offered(FOUND, ["cpuflag:foo", "broadwell"])
    assert other.target == "broadwell"
    assert {"foo", "avx"} < set(other.flags)
    assert "foo" in profile_from_words("linux/amd64:cpuflag:foo").flags


def test_a_driver_alone_is_a_gpu_of_unknown_capability():
    """As the specification says of `nvidia-390-30`."""
    gpus = with_offered(FOUND, ["nvidia-390-30"]).gpus
    assert (gpus.state, gpus.driver, gpus.devices, gpus.wanted) == ("present", "390.30", (), True)


def test_no_words_change_nothing():
    """Most sites declare nothing."""
    assert with_offered(FOUND, []) is FOUND
    assert with_offered(FOUND, [" "]) is FOUND


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("nvcap:7.0|8.0", "is a requirement, not what a node offers"),
        ("kernel:=5.14", "is a requirement, not what a node offers"),
        ("glibc:new", "has no version"),
        ("cpu:nosuch", "is not a known amd64 target"),
        ("nvcap:9.0+ptx", "offers a GPU without a capability"),
    ],
)
def test_what_no_node_can_offer_is_refused(word, why):
    """A typing error in the settings must not quietly change what jobs get."""
    with pytest.raises(UsageError) as caught:
        with_offered(FOUND, [word])
    assert why in caught.value.message


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("linux/386", "x86"),
        ("linux/386:i686", "i686"),
        ("linux/i386:pentium4", "pentium4"),
        ("linux/arm", "arm"),
        ("linux/arm/v7", "armv7"),
        ("linux/arm64:armv8", "aarch64"),
    ],
)
def test_32_bit_platforms_have_targets(text, target):
    """Each known architecture has at least its family."""
    profile = profile_from_words(text)
    assert profile.target == target
    assert profile.compatible[0] == target
