"""The build that would be exact for a node, and how close a pick comes to it."""

from __future__ import annotations

import pytest
from indexes import BENCH, index_with

from hpcimg.node.profile import Gpu, GpuFacts, NodeProfile
from hpcimg.node.words import profile_from_words
from hpcimg.selection import select
from hpcimg.variant import closeness, exact_words, gpu_words, is_missed

M60 = Gpu(0, "GPU-a", "Tesla M60", "5.2")
V100 = Gpu(1, "GPU-b", "V100", "7.0")
A100 = Gpu(2, "GPU-c", "A100", "8.0")
MI250 = Gpu(0, "GPU-d", "MI250", target="gfx90a:sramecc+:xnack-", vendor="amd")
PVC = Gpu(0, "GPU-e", "Max 1550", target="pvc", vendor="intel")


def node(target="broadwell", *gpus):
    """Make the profile of a node with these GPUs."""
    state = "present" if gpus else "none"
    return NodeProfile(
        node="n1",
        os="linux",
        architecture="amd64",
        target=target,
        compatible=(target, "haswell", "x86_64_v3", "x86_64"),
        gpus=GpuFacts(state, driver="396.44" if gpus else None, devices=gpus),
    )


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        (node(), ("cpu:broadwell",)),
        (node("broadwell", M60), ("cpu:broadwell", "nvcap:5.2")),
        (node("zen3", A100, V100, A100), ("cpu:zen3", "nvcap:7.0|8.0")),
        (node("zen3", MI250), ("cpu:zen3", "amdgpu:gfx90a")),
        (node("sapphirerapids", PVC), ("cpu:sapphirerapids", "intelgpu:pvc")),
        (node("x86_64"), ()),
        (node("x86_64", M60), ("nvcap:5.2",)),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, tuple) else None,
)
def test_the_exact_build(profile, words):
    """The CPU target, and one word for all GPUs of a vendor; a family alone names nothing."""
    assert exact_words(profile) == words


def test_each_kind_of_gpu_is_a_word():
    """In the order of their numbers, each once."""
    ten = Gpu(3, "GPU-f", "B200", "10.0")
    assert gpu_words(node("zen4", ten, A100, A100)) == ("nvcap:8.0", "nvcap:10.0")


CLOSENESS = {
    "own target": (node(), ("cpu:broadwell",), "specific"),
    "older target": (node(), ("cpu:haswell",), "partly"),
    "a level": (node(), ("cpu:x86_64_v3",), "partly"),
    "a flag": (node(), ("cpuflag:avx2",), "partly"),
    "one of several targets": (node(), ("cpu:broadwell|zen3",), "specific"),
    "no words": (node(), (), "generic"),
    "a family": (node(), ("cpu:x86_64",), "generic"),
    "a kernel alone": (node(), ("kernel:4.18",), "generic"),
    "own target and GPU": (node("broadwell", M60), ("cpu:broadwell", "nvcap:5.2"), "specific"),
    "own target, GPU idle": (node("broadwell", M60), ("cpu:broadwell",), "partly"),
    "own GPU alone": (node("broadwell", M60), ("nvcap:5.2",), "partly"),
    "older code for the GPU": (node("broadwell", M60), ("cpu:broadwell", "nvcap:5.0"), "partly"),
    "portable code too": (node("broadwell", M60), ("cpu:broadwell", "nvcap:5.2+ptx"), "specific"),
    "one of two GPUs": (node("zen3", V100, A100), ("cpu:zen3", "nvcap:7.0"), "partly"),
    "both GPUs": (node("zen3", V100, A100), ("cpu:zen3", "nvcap:7.0|8.0"), "specific"),
    "an AMD GPU in any mode": (node("zen3", MI250), ("cpu:zen3", "amdgpu:gfx90a"), "specific"),
    "unknown target, own GPU": (node("x86_64", M60), ("nvcap:5.2",), "specific"),
}


@pytest.mark.parametrize("case", CLOSENESS)
def test_how_close_a_pick_is(case):
    """Specific is the node's own target and all its GPUs; less is partly; no hardware generic."""
    profile, words, wanted = CLOSENESS[case]
    (entry,) = index_with(words)
    assert closeness(profile, _candidate(entry)) == wanted


def _candidate(entry):
    from hpcimg.selection import Candidate

    return Candidate(entry, "chosen", "")


def test_no_pick_is_none():
    """What is refused has no closeness."""
    assert closeness(node(), None) == "none"


@pytest.mark.parametrize(
    ("words", "missed"),
    [
        ("linux/amd64:broadwell", False),
        ("linux/amd64:broadwell:nvcap-5-2", False),
        ("linux/amd64:skylake_avx512", True),
        ("linux/amd64:zen3", True),
        ("linux/amd64:broadwell:nvcap-7-0", True),
        ("linux/amd64", False),
    ],
)
def test_what_a_job_misses(words, missed):
    """A build for another target or a part of the hardware leaves an exact one to be wanted."""
    profile = profile_from_words(words)
    assert is_missed(profile, select(profile, index_with(*BENCH))) is missed


def test_a_refused_job_misses_its_build():
    """Where nothing fits, something is to be built."""
    profile = profile_from_words("linux/amd64:zen3")
    assert is_missed(profile, select(profile, index_with(("cpu:skylake",))))


def test_an_exact_image_that_stands_second_is_not_missed():
    """A rule of the site may put another one first; nobody has to build it again."""
    profile = node()
    resolution = select(profile, index_with(("cpu:broadwell",), ("cpu:broadwell", "kernel:3.10")))
    assert not is_missed(profile, resolution)
