"""The choice: golden tables of node and index, and the refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
from indexes import BENCH, CV_TF, digest, entries_from, entry, index_with
from nodes import node

from hpcimg.errors import NoCandidateError
from hpcimg.node.profile import GpuFacts
from hpcimg.node.words import profile_from_words
from hpcimg.oci.model import OCI_INDEX
from hpcimg.oci.reference import parse_reference
from hpcimg.policy import Policy
from hpcimg.selection import check_single, require, select

NAME = parse_reference("registry:5000/qnib/bench")


BENCH_TABLE = [
    # node                                      pick
    ("generic", node(), 0),
    ("broadwell", node("broadwell"), 2),
    ("haswell", node("haswell"), 0),
    ("skylake", node("skylake"), 1),
    ("skylake-sp", node("skylake512"), 1),
    ("zen3", node("zen3"), 0),
    ("broadwell-m60", node("broadwell", "5.2"), 3),
    ("broadwell-m60-no-gpu-in-job", node("broadwell", "5.2", ids=()), 2),
    ("broadwell-k80", node("broadwell", "3.7"), 2),
    ("broadwell-pascal", node("broadwell", "6.1"), 2),
    ("broadwell-5.3-integrated", node("broadwell", "5.3"), 2),
    ("broadwell-two-m60", node("broadwell", "5.2", "5.2"), 3),
    ("broadwell-mixed-gpus", node("broadwell", "5.2", "7.0"), 2),
    ("broadwell-mixed-gpus-one-in-job", node("broadwell", "5.2", "7.0", ids=("0",)), 3),
    ("skylake-sp-m60", node("skylake512", "5.2"), 3),
    ("zen3-m60", node("zen3", "5.2"), 0),
]

CV_TF_TABLE = [
    ("plain amd64", node(), 0),
    ("skylake", node("skylake"), 1),
    ("skylake512", node("skylake512"), 1),
    ("broadwell", node("broadwell"), 0),
    ("broadwell M60 396.44", node("broadwell", "5.2"), 10),
    ("broadwell M60 396.44, no GPU in the job", node("broadwell", "5.2", ids=()), 0),
    ("broadwell M60 390.30", node("broadwell", "5.2", driver="390.30"), 4),
    ("broadwell K80 396.44", node("broadwell", "3.7"), 9),
    ("skylake512 V100 396.44", node("skylake512", "7.0"), 7),
    ("skylake V100 396.44", node("skylake", "7.0"), 6),
    ("broadwell V100 396.44", node("broadwell", "7.0"), 5),
    ("zen3", node("zen3"), 0),
    ("zen3 M60 390.20", node("zen3", "5.2", driver="390.20"), 0),
    ("words of the post", profile_from_words("linux/amd64:broadwell:nv-compute-5-2:nvidia-396-44"),
     10),
    ("words with a driver only", profile_from_words("linux/amd64:broadwell:nvidia-390-30"), 4),
]  # fmt: skip


@pytest.mark.parametrize(
    ("profile", "pick"), [row[1:] for row in BENCH_TABLE], ids=[row[0] for row in BENCH_TABLE]
)
def test_golden_table_of_the_announcement(profile, pick):
    """Every node gets the build that the announcement promises."""
    resolution = select(profile, index_with(*BENCH))
    assert resolution.pick is not None
    assert resolution.pick.descriptor.digest == digest(pick)


@pytest.mark.parametrize(
    ("profile", "pick"), [row[1:] for row in CV_TF_TABLE], ids=[row[0] for row in CV_TF_TABLE]
)
def test_golden_table_of_the_eleven_entries(profile, pick):
    """CPU, GPU and driver together, as in the first post."""
    resolution = select(profile, index_with(*CV_TF))
    assert resolution.pick is not None
    assert resolution.pick.descriptor.digest == digest(pick)


BENCH_REASONS = [
    (
        node("broadwell", "5.2"),
        [
            ("fits", "fits, but cpu:broadwell,nvcap:5.2 uses the job's GPU"),
            ("rejected", "needs cpu:skylake; this node is broadwell"),
            ("fits", "fits, but cpu:broadwell,nvcap:5.2 uses the job's GPU"),
            ("chosen", "fits, and uses the job's GPU"),
        ],
    ),
    (
        node("broadwell", "5.2", ids=()),
        [
            ("fits", "fits, but cpu:broadwell is built for a closer CPU target"),
            ("rejected", "needs cpu:skylake; this node is broadwell"),
            ("chosen", "fits, and is built for a closer CPU target"),
            ("rejected", "needs nvcap:5.2; the job has no GPU"),
        ],
    ),
    (
        node("zen3"),
        [
            ("chosen", "the generic image; nothing more specific fits"),
            ("rejected", "needs cpu:skylake; this node is zen3"),
            ("rejected", "needs cpu:broadwell; this node is zen3"),
            ("rejected", "needs cpu:broadwell; this node is zen3"),
        ],
    ),
]


@pytest.mark.parametrize(("profile", "expected"), BENCH_REASONS)
def test_every_entry_has_its_reason(profile, expected):
    """In the order of the index, with the first failed test or the rule that decided."""
    candidates = select(profile, index_with(*BENCH)).candidates
    assert [(one.verdict, one.reason) for one in candidates] == expected


def test_entries_that_are_no_image_are_skipped():
    """Attestations and nested indexes are said to be what they are."""
    nested = {**entry(2), "mediaType": OCI_INDEX}
    chart = {**entry(3), "mediaType": "application/vnd.example+json"}
    attestation = entry(1, os="unknown", architecture="unknown")
    candidates = select(node(), entries_from(attestation, nested, chart)).candidates
    assert [(one.verdict, one.reason) for one in candidates] == [
        ("skipped", "is no image but an attestation"),
        ("skipped", "is an index inside the index, which is not read"),
        ("skipped", "is no image"),
    ]


def test_an_index_without_images_is_not_called_empty():
    """Nothing was rejected, but there are entries; an empty index is said to be empty."""
    nested = {**entry(2), "mediaType": OCI_INDEX}
    with pytest.raises(NoCandidateError, match=r"here: none of its entries is an image$"):
        require(select(node(), entries_from(nested)), NAME)
    with pytest.raises(NoCandidateError, match=r"here: it has no entries$"):
        require(select(node(), entries_from()), NAME)


def test_another_platform_is_rejected_and_a_missing_one_is_no_guess():
    """Even the generic entry of an index is for one architecture."""
    lost = entry(2)
    del lost["platform"]
    candidates = select(node(), entries_from(entry(1, architecture="aarch64"), lost)).candidates
    assert [one.reason for one in candidates] == [
        "is for linux/arm64; this node is linux/amd64",
        "does not say for which platform it is",
    ]


def test_no_fitting_entry_is_one_readable_line():
    """The message lists what failed, the hint says how to see more."""
    resolution = select(node("zen3"), index_with(("skylake",), ("broadwell",), ("nvcap:5.2",)))
    with pytest.raises(NoCandidateError) as caught:
        require(resolution, NAME)
    assert caught.value.message == (
        "no image of registry:5000/qnib/bench:latest runs here: needs cpu:skylake (this node is "
        "zen3); needs cpu:broadwell (this node is zen3); needs nvcap:5.2 (none)"
    )
    assert "hpcimg explain registry:5000/qnib/bench:latest" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "where", "option"),
    [
        ("", "here", ""),
        ("zen1", "on zen1", " --node zen1"),
        ("bdw1,zen1", "on bdw1,zen1", " --nodes bdw1,zen1"),
        ("n1,n2,n3 and 4 more", "on n1,n2,n3 and 4 more", " --nodes LIST"),
    ],
)
def test_the_hint_asks_for_the_node_that_refused(name, where, option):
    """Who reads it may sit on a login node, where the answer is another one."""
    with pytest.raises(NoCandidateError) as caught:
        require(select(node("zen3"), index_with(("skylake",))), NAME, name)
    assert f"qnib/bench:latest runs {where}: needs" in caught.value.message
    assert f"`hpcimg explain registry:5000/qnib/bench:latest{option}`" in caught.value.hint


def test_a_long_list_of_reasons_is_cut():
    """A thousand entries must not fill a user's screen."""
    words = [(f"cpuflag:f{at}",) for at in range(1000)]
    with pytest.raises(NoCandidateError, match=r"and 996 more$") as caught:
        require(select(node(), index_with(*words)), NAME)
    assert len(caught.value.message) < 400


def test_arm64_is_refused_with_the_platform_named_once():
    """The eleven entries are all for amd64."""
    resolution = select(profile_from_words("linux/arm64"), index_with(*CV_TF))
    with pytest.raises(NoCandidateError, match=r"here: is for linux/amd64 \(this node is linux/"):
        require(resolution, NAME)
    assert resolution.pick is None


def test_unknown_gpus_of_a_job_refuse_every_entry():
    """Unknown is not none: the CPU build on paid GPUs would be a guess."""
    blind = replace(node("broadwell"), gpus=GpuFacts("unknown", "NVML did not answer"))
    resolution = select(blind.allocated(("0",)), index_with(*BENCH))
    assert resolution.pick is None
    assert resolution.candidates[0].reason == (
        "is refused: the job has GPUs that could not be read (NVML did not answer)"
    )


@pytest.mark.parametrize(("ids", "entries"), [((), BENCH), (None, BENCH), (("0",), BENCH[:3])])
def test_unknown_gpus_do_not_matter_where_none_are_asked_for(ids, entries):
    """A job without GPU, GPUs that nobody manages, an index without GPU builds."""
    blind = replace(node("broadwell"), gpus=GpuFacts("unknown", "NVML did not answer"))
    assert select(blind.allocated(ids), index_with(*entries)).pick.label == "cpu:broadwell"


def test_a_lone_image_is_checked_and_passed():
    """There is nothing to choose; what does not fit is said, or refused when strict."""
    (fitting, other, foreign) = entries_from(
        entry(1, "haswell"), entry(2, "skylake"), entry(3, architecture="arm64")
    )
    profile = node("broadwell")
    assert check_single(profile, fitting).pick.reason == "the only image behind the name"
    assert check_single(profile, other).pick.reason == (
        "the only image, though it needs cpu:skylake; this node is broadwell"
    )
    assert check_single(profile, other, Policy(strict=True)).pick is None
    assert check_single(profile, foreign).pick is None


ARMS = entries_from(
    entry(0, architecture="arm", variant="v5"),
    entry(1, architecture="arm", variant="v6"),
    entry(2, architecture="arm", variant="7"),
    entry(3, architecture="arm64"),
)


@pytest.mark.parametrize(
    ("platform", "pick"),
    [("linux/arm/v5", 0), ("linux/arm/v6", 1), ("linux/arm/v7", 2), ("linux/arm/v8", 2),
     ("linux/arm/7", 2), ("linux/armhf", 2), ("linux/arm64", 3)],
)  # fmt: skip
def test_32_bit_arm_takes_the_highest_version_that_it_runs(platform, pick):
    """A version runs those below it; 64-bit Arm is another architecture."""
    chosen = require(select(profile_from_words(platform), ARMS), NAME)
    assert chosen.entry.descriptor.digest == digest(pick)


def test_a_label_is_bounded():
    """A stranger's index with megabytes of words does not reach the logs whole."""
    index = index_with(tuple(f"site.k{at}:{'v' * 200}" for at in range(100)))
    (candidate,) = select(node("zen3"), index).candidates
    assert len(candidate.label) < 200
    assert candidate.label.endswith("...")
