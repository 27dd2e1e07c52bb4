"""The choice: golden tables of node and index, the refusals, and what must always hold."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from indexes import BENCH, CV_TF, digest, entries_from, entry, index_with

from hpcimg.errors import NoCandidateError, UsageError
from hpcimg.node.profile import Gpu, GpuFacts
from hpcimg.node.words import profile_from_words
from hpcimg.oci.model import OCI_INDEX
from hpcimg.oci.reference import parse_reference
from hpcimg.policy import Policy
from hpcimg.satisfaction import unsatisfied
from hpcimg.selection import check_single, require, select

NAME = parse_reference("registry:5000/qnib/bench")
AMD64 = "linux/amd64"


def node(words="", *capabilities, driver="396.44", ids=None):
    """Make a detected profile of a CPU and GPUs, restricted to the job's GPUs."""
    profile = profile_from_words(f"{AMD64}:{words}" if words else AMD64, node="n1")
    devices = tuple(Gpu(at, f"GPU-{at}", "", one) for at, one in enumerate(capabilities))
    gpus = GpuFacts("present", "", driver, None, devices) if devices else GpuFacts("none", "none")
    return replace(profile, gpus=gpus, declared=False, words=()).allocated(ids)


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
    ("mpi:openmpi", node(), "this node does not offer any mpi"),
    ("variant:v9", node(), "an unknown word, which this node does not offer"),
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


ORDER = [
    # node, entries, pick, deciding rule of the second
    (node("zen4"), [("zen3",), ("x86_64_v4",)], 0, "is built for a closer CPU target"),
    (node("", "8.6"), [("nvcap:8.0",), ("nvcap:8.6",)], 1, "suits the job's GPU better"),
    (node("", "8.6"), [("nvcap:8.0+ptx",), ("nvcap:7.0+ptx",)], 0, "suits the job's GPU better"),
    (node("", "9.0"), [("nvcap:7.0+ptx",), ("nvcap:8.0+ptx",)], 1, "suits the job's GPU better"),
    (node("broadwell", "7.0"), [("broadwell",), ("nvcap:7.0",)], 1, "uses the job's GPU"),
    (node("broadwell"), [("broadwell",), ("broadwell", "cpuflag:avx2")], 1, "is more specific"),
    (node("", "7.0"), [("nvidia-390-30",), ("nvidia-396-44",)], 1, "is built for a newer driver"),
    (node(), [(), ()], 0, "comes first in the index"),
]


@pytest.mark.parametrize(("profile", "entries", "pick", "why"), ORDER)
def test_the_order_among_those_that_fit(profile, entries, pick, why):
    """The first difference decides, and is the reason that both show."""
    resolution = select(profile, index_with(*entries))
    assert resolution.pick.descriptor.digest == digest(pick)
    assert resolution.candidates[1 - pick].reason == f"fits, but {resolution.pick.label} {why}"


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


EXACT = Policy(kind="exact")


@pytest.mark.parametrize(
    ("words", "pick"),
    [("broadwell", 2), ("broadwell:nvcap:5.2", 3), ("skylake512", 0), ("broadwell:x", 0)],
)
def test_exact_takes_only_the_same_words(words, pick):
    """As the background posts compare; the generic entry stays the last resort."""
    resolution = select(profile_from_words(f"{AMD64}:{words}"), index_with(*BENCH), EXACT)
    assert resolution.pick.descriptor.digest == digest(pick)


def test_exact_on_a_detected_node_means_its_target_and_gpus():
    """What compatible would take from an older target, exact does not."""
    index = index_with(*BENCH)
    assert select(node("broadwell", "5.2"), index, EXACT).pick.label == "cpu:broadwell,nvcap:5.2"
    assert select(node("skylake512"), index, EXACT).pick.label == "the generic image"


def test_a_site_may_refuse_generic_images():
    """For sites that want no silent slow runs."""
    policy = Policy(allow_generic=False)
    resolution = select(node("zen3"), index_with(*BENCH), policy)
    assert resolution.pick is None
    assert resolution.candidates[0].reason == "is generic, which the site does not allow"


def test_an_unknown_policy_is_refused():
    """A typing error in the settings must not mean the default."""
    with pytest.raises(UsageError, match="policy 'exakt' is not known"):
        Policy(kind="exakt")


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


_WORDS = ("broadwell", "skylake", "zen2", "x86_64_v3", "cpuflag:avx2", "cpuflag:avx512f",
          "nvcap:5.2", "nvcap:7.0+ptx", "nvcap:7.0|8.0", "nvidia-390-30", "odd")  # fmt: skip
_entries = st.lists(
    st.lists(st.sampled_from(_WORDS), max_size=3).map(tuple), min_size=1, max_size=8
)
_nodes = st.builds(
    node,
    st.sampled_from(["", "haswell", "broadwell", "skylake", "skylake512", "zen", "zen3", "zen4"]),
    st.sampled_from(["5.2", "7.0", "7.5", "8.6"]),
    ids=st.sampled_from([None, (), ("0",)]),
)


@given(_nodes, _entries)
def test_the_pick_passes_the_hard_test(profile, entries):
    """Legal always."""
    pick = select(profile, index_with(*entries)).pick
    if pick is not None:
        assert [unsatisfied(profile, one) for one in pick.entry.features] == [
            "" for _ in pick.features
        ]


@given(_nodes, _entries, st.randoms())
def test_the_order_of_entries_decides_only_a_declared_tie(profile, entries, random):
    """The same entries in any order give the same requirements."""
    shuffled = list(entries)
    random.shuffle(shuffled)
    first, second = (select(profile, index_with(*one)).pick for one in (entries, shuffled))
    assert (first is None) == (second is None)
    if first is not None and first.features != second.features:
        resolution = select(profile, index_with(*entries))
        reasons = {one.features: one.reason for one in resolution.candidates}
        assert reasons[second.features].endswith("comes first in the index")


@given(_nodes, _entries, st.sampled_from(["avx512f", "sha_ni"]))
def test_a_further_flag_never_loses_a_candidate(profile, entries, flag):
    """More capabilities only add."""
    richer = replace(profile, flags=(*profile.flags, flag), words=(*profile.words, "odd"))
    index = index_with(*entries)
    for before, after in zip(
        select(profile, index).candidates, select(richer, index).candidates, strict=True
    ):
        assert before.verdict == "rejected" or after.verdict != "rejected", before.label


@given(_entries, st.sampled_from(["390.30", "396.44", "450.1"]))
def test_a_newer_driver_never_loses_a_candidate(entries, driver):
    """Newer drivers run what older ones ran."""
    index = index_with(*entries)
    older = select(node("broadwell", "7.0", driver=driver), index).candidates
    newer = select(node("broadwell", "7.0", driver="535.10"), index).candidates
    assert all(
        before.verdict == "rejected" or after.verdict != "rejected"
        for before, after in zip(older, newer, strict=True)
    )
