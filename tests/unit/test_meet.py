"""What several nodes offer together: never more than each of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from indexes import index_with
from nodes import node, other_gpus

from hpcimg.errors import NoCandidateError
from hpcimg.node.meet import meet, name_nodes
from hpcimg.node.profile import GpuFacts
from hpcimg.node.words import profile_from_words
from hpcimg.policy import Policy
from hpcimg.selection import select
from hpcimg.workflow.uniform import check_single_for_all, select_for_all

_WORDS = ("broadwell", "skylake", "zen2", "x86_64_v3", "cpuflag:avx2", "cpuflag:avx512f",
          "nvcap:5.2", "nvcap:7.0+ptx", "nvcap:7.0|8.0", "nvidia-390-30", "nvidia-396-44", "odd",
          "cuda:9.2", "cuda:11.8", "gfx90a", "smt:on", "fabric:ib", "kernel:5.14",
          "mpi:mpich", "cpu:broadwell|zen3", "fabric:ib|roce", "smt:on|off",
          "kernel:=5.14|4.18", "nvcap:5.2|7.0")  # fmt: skip
_entries = st.lists(
    st.lists(st.sampled_from(_WORDS), max_size=3).map(tuple), min_size=1, max_size=6
)
_nodes = st.builds(
    lambda cpu, gpus, driver, traits, kernel: replace(
        node(cpu, *gpus, driver=driver), traits=traits, kernel=kernel
    ),
    st.sampled_from(["", "haswell", "broadwell", "skylake", "skylake512", "zen", "zen3", "zen4"]),
    st.sampled_from([(), ("5.2",), ("7.0",), ("7.0", "8.6")]),
    st.sampled_from(["390.30", "396.44", "535.10"]),
    st.sampled_from([(), ("smt:on",), ("fabric:ib", "smt:on"), ("fabric:roce",), ("smt:off",)]),
    st.sampled_from(["4.18.0", "5.14.0", "6.1.0-13-amd64"]),
)


def named(*profiles):
    """Give the profiles names of nodes."""
    return [replace(profile, node=f"n{at}") for at, profile in enumerate(profiles)]


@given(st.lists(_nodes, min_size=1, max_size=4), _entries)
def test_what_fits_the_meet_fits_each_node(profiles, entries):
    """Legal on all of them, but for a word that asks for just one version."""
    index = index_with(*entries)
    together = select(meet(named(*profiles)), index)
    for profile in profiles:
        alone = replace(profile, job_nodes=len(profiles))
        for common, own in zip(together.candidates, select(alone, index).candidates, strict=True):
            # The lowest kernel of all says nothing of a word that wants just one.
            asks_for_one = "kernel:=" in own.label
            assert common.verdict == "rejected" or own.verdict != "rejected" or asks_for_one


def for_all(profiles, index):
    """Choose one image for all nodes."""
    nodes = tuple((profile, Policy()) for profile in profiles)
    return select_for_all(nodes, index, meet(profiles), Policy())


@given(st.lists(_nodes, min_size=1, max_size=4), _entries)
def test_uniform_refuses_just_what_some_node_refuses(profiles, entries):
    """What every node accepts can be chosen, and what is chosen passes every node's own test."""
    index = index_with(*entries)
    profiles = [replace(profile, job_nodes=len(profiles)) for profile in named(*profiles)]
    together = for_all(profiles, index)
    alone = [select(profile, index).candidates for profile in profiles]
    for at, common in enumerate(together.candidates):
        accepted = all(each[at].verdict in {"chosen", "fits"} for each in alone)
        assert accepted == (common.verdict in {"chosen", "fits"}), common.reason
    assert (together.pick is None) == all(one.verdict == "rejected" for one in together.candidates)


@pytest.mark.parametrize(
    ("profiles", "word"),
    [
        ((node("zen4"), node("icelake")), "cpu:icelake|zen4"),
        (
            (
                replace(node("zen3"), traits=("fabric:ib",)),
                replace(node("zen3"), traits=("fabric:roce",)),
            ),
            "fabric:ib|roce",
        ),
    ],
)
def test_a_fat_image_is_for_nodes_that_differ(profiles, word):
    """Each node has another of the alternatives, and their meet has none of them."""
    profiles = named(*(replace(profile, job_nodes=2) for profile in profiles))
    pick = for_all(profiles, index_with((), (word,))).pick
    assert pick is not None
    assert pick.features == (word,)


def test_a_lone_image_is_judged_by_each_node():
    """What one node may not run is a warning that names it; a fat image is none."""
    nodes = tuple((profile, Policy()) for profile in named(node("zen4"), node("icelake")))
    fat, other = index_with(("cpu:icelake|zen4",), ("cpu:zen4",))
    assert check_single_for_all(nodes, fat).warning == ""
    found = check_single_for_all(nodes, other)
    assert found.pick is not None
    assert found.warning == "may not run here: it needs cpu:zen4; n1 is icelake"
    strict = tuple((profile, Policy(strict=True)) for profile, _ in nodes)
    (refused,) = check_single_for_all(strict, other).candidates
    assert (refused.verdict, refused.reason) == ("rejected", "needs cpu:zen4; n1 is icelake")


@given(_nodes, _entries)
def test_equal_nodes_choose_as_one_does(profile, entries):
    """The meet of equals is what each of them is."""
    index = index_with(*entries)
    together = select(meet(named(profile, profile)), index)
    alone = select(replace(profile, job_nodes=2), index)
    assert [one.verdict for one in together.candidates] == [one.verdict for one in alone.candidates]


@given(st.lists(_nodes, min_size=2, max_size=4), st.randoms())
def test_the_order_of_the_nodes_does_not_matter(profiles, random):
    """Every node computes the same."""
    profiles = named(*profiles)
    shuffled = list(profiles)
    random.shuffle(shuffled)
    assert meet(shuffled) == meet(profiles)


def test_cpus_of_one_line_meet_in_the_older():
    """A Skylake server runs all that a Broadwell runs."""
    common = meet(named(node("skylake512"), node("broadwell")))
    assert (common.target, common.compatible) == ("broadwell", node("broadwell").compatible)
    assert "avx512f" not in common.flags
    assert (common.node, common.job_nodes) == ("n0,n1", 2)


def test_cpus_of_two_makers_meet_in_a_generic_level():
    """What neither names as its own, both run."""
    assert meet(named(node("broadwell"), node("zen3"))).target == "x86_64_v3"


def test_versions_are_those_that_hold_everywhere():
    """The oldest kernel, libc and driver; the newest libc that injected libraries need."""
    old = replace(node("zen3", "7.0", driver="99.1"), kernel="5.9.1", glibc="2.9",
                  injected_glibc="2.17")  # fmt: skip
    new = replace(node("zen3", "8.0", driver="396.44"), kernel="5.14.0", glibc="2.28",
                  injected_glibc="2.4")  # fmt: skip
    common = meet(named(new, old))
    assert (common.kernel, common.glibc, common.injected_glibc) == ("5.9.1", "2.9", "2.17")
    assert (common.gpus.driver, [gpu.capability for gpu in common.gpus.devices]) == (
        "99.1",
        ["7.0", "8.0"],
    )


def test_a_node_without_gpu_leaves_none():
    """It is named."""
    bare = replace(node("zen3"), gpus=GpuFacts("none", "there is no GPU"))
    gpus = meet(named(node("zen3", "7.0"), bare)).gpus
    assert (gpus.state, gpus.reason, gpus.devices) == ("none", "n1: there is no GPU", ())


def test_unknown_gpus_stay_unknown():
    """Unknown is not none, and a driver that one node does not tell is not told."""
    blind = replace(node("zen3"), gpus=GpuFacts("unknown", "NVML hangs"))
    gpus = meet(named(node("zen3", "7.0"), blind)).gpus
    assert (gpus.state, gpus.reason) == ("unknown", "n1: NVML hangs")
    silent = node("zen3", "7.0", driver=None)
    assert meet(named(node("zen3", "7.0"), silent)).gpus.driver is None


def test_gpus_of_different_makers_have_no_code_in_common():
    """Each node has GPUs, and no image uses both kinds."""
    gpus = meet(named(node("zen3", "7.0"), other_gpus("amd", "gfx90a"))).gpus
    assert (gpus.state, gpus.reason) == ("none", "the nodes have GPUs of different vendors")


def test_platforms_do_not_meet():
    """No image runs on both, and the error says which nodes they are."""
    arm = profile_from_words("linux/arm64", node="arm1")
    with pytest.raises(NoCandidateError, match="arm1 is linux/arm64, n1 is linux/amd64"):
        meet([node("zen3"), arm])


def test_many_nodes_are_counted():
    """A line stays a line."""
    assert name_nodes(["a", "b", "c"]) == "a,b,c"
    assert name_nodes([f"n{at}" for at in range(9)]) == "n0,n1,n2 and 6 more"
