"""Slurm's nodes: lists of names folded, and the features that it has of them."""

from __future__ import annotations

import pytest

from hpcimg.node.profile import Gpu, GpuFacts, NodeProfile
from hpcimg.slurm import (
    NodeFeatures,
    folded,
    is_feature,
    parse_features,
    update_features_argv,
)
from hpcimg.workflow.node_features import features_of, merged


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ((), ""),
        (("bdw1",), "bdw1"),
        (("bdw3", "bdw1", "bdw2", "bdw3"), "bdw[1-3]"),
        (("bdw1", "bdw2", "bdw4", "gpu1"), "bdw[1-2,4],gpu1"),
        (("n8", "n9", "n10"), "n[8-10]"),
        (("n08", "n09", "n10"), "n[08-10]"),
        (("login", "rack1-node1", "rack1-node2"), "login,rack1-node[1-2]"),
    ],
    ids=str,
)
def test_names_are_folded(names, text):
    """Neighbours become a range with the names' own zeros."""
    assert folded(names) == text


LINES = (
    "NodeName=bdw1 Arch=x86_64 AvailableFeatures=cpu:haswell,big,knl_a ActiveFeatures=cpu:haswell,"
    "big Gres=(null) OS=Linux 6.1 #1 SMP State=IDLE\n"
    "NodeName=zen1 AvailableFeatures=(null) ActiveFeatures=(null) Comment=NodeName=x\n"
)


def test_features_as_scontrol_tells_them():
    """Lists in their order; `(null)` is none."""
    assert parse_features(LINES) == {
        "bdw1": NodeFeatures(("cpu:haswell", "big", "knl_a"), ("cpu:haswell", "big")),
        "zen1": NodeFeatures(),
    }


def test_merging_keeps_the_sites_words():
    """Words of our kinds are replaced, the others stay, and stay inactive where they were."""
    known = parse_features(LINES)["bdw1"]
    found = merged(known, ("cpu:broadwell", "nvcap:5.2"))
    assert found == NodeFeatures(
        ("big", "knl_a", "cpu:broadwell", "nvcap:5.2"), ("big", "cpu:broadwell", "nvcap:5.2")
    )
    assert merged(found, ("cpu:broadwell", "nvcap:5.2")) == found


def test_the_command_that_sets_them():
    """Both lists, since Slurm keeps an inactive word only when it is told to."""
    argv = update_features_argv(("bdw1", "bdw2"), NodeFeatures(("big", "cpu:zen3"), ("cpu:zen3",)))
    assert argv == [
        "scontrol", "update", "NodeName=bdw[1-2]",
        "AvailableFeatures=big,cpu:zen3", "ActiveFeatures=cpu:zen3",
    ]  # fmt: skip


@pytest.mark.parametrize("word", ["nvcap:7.0|8.0", "a,b", "a&b", "a*2", "[a]", "(a)", "a=b", "'a'"])
def test_what_slurm_reads_otherwise(word):
    """Its own signs and quotes are never in a feature."""
    assert not is_feature(word)
    assert is_feature("cpu:armv8.2a")


def test_the_words_of_a_node():
    """Target, levels, GPUs and fabrics; with `compatible` each target it runs."""
    profile = NodeProfile(
        node="n1",
        os="linux",
        architecture="amd64",
        target="zen3",
        compatible=("zen3", "zen2", "x86_64_v3", "x86_64_v2", "x86_64"),
        gpus=GpuFacts("present", devices=(Gpu(0, "a", "A100", "8.0"), Gpu(1, "b", "M60", "5.2"))),
        traits=("fabric:ib", "smt:on"),
    )
    assert features_of(profile) == (
        "cpu:zen3", "cpu:x86_64_v3", "cpu:x86_64_v2", "nvcap:5.2", "nvcap:8.0", "fabric:ib",
    )  # fmt: skip
    assert features_of(profile, compatible=True)[:5] == (
        "cpu:zen3", "cpu:zen2", "cpu:x86_64_v3", "cpu:x86_64_v2", "cpu:x86_64",
    )  # fmt: skip
