"""Features in plain words."""

from __future__ import annotations

import pytest

from hpcimg.description import describe_feature, describe_features
from hpcimg.features import parse_feature
from hpcimg.vocabulary import facts

WORDS = {
    "broadwell": "an Intel Broadwell processor, or a later one that runs its code",
    "cpu:=zen3": "an AMD Zen 3 (Milan) processor, and no other",
    "cpu:haswell|zen2": (
        "an Intel Haswell processor or an AMD Zen 2 (Rome) processor, "
        "or a later one that runs its code"
    ),
    "cpu:x86_64_v3": "any processor of level x86-64-v3",
    "cpu:x86_64": "any x86_64 processor",
    "cpu:nosuch": "a processor 'nosuch', which is not known, or a later one that runs its code",
    "power9le": "an IBM Power9le processor, or a later one that runs its code",
    "cpuflag:avx512f": "a processor with avx512f",
    "nvcap:5.2": "NVIDIA GPUs of compute capability 5.2 (Maxwell: M40, M60)",
    "nvcap:9.0a": ("NVIDIA GPUs of compute capability exactly 9.0 (Hopper: H100, H200, GH200)"),
    "nvcap:8.0+ptx": ("NVIDIA GPUs of compute capability 8.0 (Ampere: A100, A30) or any later GPU"),
    "nvcap:10.0f": (
        "NVIDIA GPUs of compute capability 10.0 (Blackwell: B200, GB200) "
        "or later ones of its family"
    ),
    "nvcap:>=7.0": "NVIDIA GPUs of compute capability 7.0 (Volta: V100) or higher",
    "nvcap:odd": "NVIDIA GPUs of compute capability odd",
    "nvdrv:396.44": "NVIDIA GPUs with driver 396.44 or newer",
    "nvdrv:=396.44": "NVIDIA GPUs with driver 396.44",
    "cuda:12.4": "NVIDIA GPUs, and a driver that runs CUDA 12.4",
    "gfx90a": "AMD GPUs of target gfx90a (Instinct MI210, MI250)",
    "amdgpu:gfx9-4-generic": "AMD GPUs of target gfx9-4-generic",
    "rocm:6.2": "AMD GPUs, and a driver that runs ROCm 6.2",
    "intelgpu:pvc": "Intel GPUs of target pvc (Data Center GPU Max)",
    "fabric:ib": "InfiniBand as the network",
    "mpi:openmpi4": "an MPI that works with Open MPI 4",
    "glibc:2.28": "GPU libraries of the host that work with GNU C library 2.28",
    "kernel:5.14": "Linux kernel 5.14 or newer",
    "ht:on": "simultaneous multithreading on",
    "inst:c5": "a cloud instance of type c5",
    "instsize:9xl": "a cloud instance of size 9xl",
    "os:rhel:9": "a node that runs rhel 9",
    "site.rack:a": "a node for which the site says site.rack:a",
    "banana": "a node for which somebody says 'banana': the word is not known",
}


@pytest.mark.parametrize("word", WORDS)
def test_a_feature_in_words(word):
    """Who builds or buys for it understands it without the vocabulary."""
    (feature,) = parse_feature(word)
    assert describe_feature(feature) == WORDS[word]


def test_each_kind_has_words():
    """No known kind is told as if nobody knew it."""
    for kind in facts()["kinds"]:
        (feature,) = parse_feature(f"{kind}:1")
        assert "site says" not in describe_feature(feature), kind
    told = {feature.kind for word in WORDS for feature in parse_feature(word)}
    assert told >= set(facts()["kinds"])


def test_an_entry_in_words():
    """All its features, or any node of its architecture."""
    features = [f for word in ("kernel:5.14", "fabric:ib") for f in parse_feature(word)]
    told = describe_features(features, "amd64")
    assert told == "Linux kernel 5.14 or newer; InfiniBand as the network"
    assert describe_features([], "amd64") == "any amd64 node"
    assert describe_features([], "") == "any node"


def test_names_belong_to_known_words():
    """A name that no word leads to is never shown."""
    for word in facts()["names"]:
        (feature,) = parse_feature(word)
        assert str(feature) == word
