"""The node profile: JSON and back, the job's GPUs, profiles that are told in words."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hpcimg.errors import UsageError
from hpcimg.node.profile import Gpu, GpuFacts, NodeProfile
from hpcimg.node.words import profile_from_words

M60 = Gpu(0, "GPU-aaa", "Tesla M60", "5.2")
M60_2 = Gpu(1, "GPU-ccc", "Tesla M60", "5.2")
A100 = Gpu(1, "GPU-bbb", "A100", "8.0", mig=True, slices=("MIG-1", "MIG-2"))
PROFILE = NodeProfile(
    node="gpu1",
    os="linux",
    architecture="amd64",
    target="broadwell",
    compatible=("broadwell", "haswell", "x86_64_v3", "x86_64"),
    flags=("avx2", "sse2"),
    gpus=GpuFacts("present", "", "396.44", "9.2", (M60, A100)),
    kernel="6.1.0",
    boot_id="b0",
    notes=("it runs under a hypervisor",),
    sources={"cpu": "/proc/cpuinfo"},
)


def test_json_brings_back_the_same_profile():
    """Nodes publish it, login nodes read it."""
    assert NodeProfile.from_json(PROFILE.to_json()) == PROFILE
    assert NodeProfile.from_json(PROFILE.to_json().encode()) == PROFILE


def changed(**changes):
    """Write the profile's JSON with other values."""
    return json.dumps({**json.loads(PROFILE.to_json()), **changes})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON"),
        ("[]", "not an object of version 1"),
        (changed(version=2), "not an object of version 1"),
        (changed(surprise=1), "an unknown field 'surprise'"),
        (changed(node=3), "it.node is '3'"),
        (changed(flags="avx"), "it.flags is not a list"),
        (changed(flags=[1]), "it.flags is "),
        (changed(declared="yes"), "it.declared is 'yes'"),
        (changed(gpus=[]), "gpus is not an object"),
        (changed(gpus={"state": "maybe"}), "gpus.state is 'maybe'"),
        (changed(gpus={"devices": [{}]}), "gpus.devices lacks 'index'"),
        (changed(gpus={"devices": {}}), "gpus.devices is not a list"),
        ('{"version": 1}', "it lacks 'node'"),
        (" " * 300_000, "longer than"),
        (
            changed(gpus={"devices": [{"index": 0, "uuid": "", "name": "", "capability": "x"}]}),
            "capability is not MAJOR.MINOR",
        ),
    ],
)
def test_a_bad_profile_is_refused_with_what_is_wrong(text, why):
    """Files come from people and from older versions."""
    with pytest.raises(UsageError) as caught:
        NodeProfile.from_json(text)
    assert why in caught.value.message
    assert "hpcimg node show" in caught.value.hint


@pytest.mark.parametrize(
    ("ids", "devices"),
    [
        (None, (M60, A100)),
        (("GPU-aaa",), (M60,)),
        (("MIG-2",), (A100,)),
        (("MIG-1", "MIG-2"), (A100,)),
        ((), ()),
    ],
)
def test_only_the_gpus_of_the_job_count(ids, devices):
    """By UUID or MIG UUID; a slice counts as its parent."""
    assert PROFILE.allocated(ids).gpus.devices == devices


def test_no_gpu_in_the_job_is_none_and_says_so():
    """Whatever the node has, and whether or not it could be read."""
    assert PROFILE.allocated(()).gpus.state == "none"
    assert PROFILE.allocated(()).gpus.reason == "the job has no GPU"
    unknown = replace(PROFILE, gpus=GpuFacts("unknown", "slow"))
    assert unknown.allocated(()).gpus.state == "none"


def test_a_gpu_that_detection_did_not_see_is_unknown():
    """To judge by the other GPUs would be a guess."""
    two = replace(PROFILE, gpus=replace(PROFILE.gpus, devices=(M60, M60_2)))
    assert two.allocated(("1", "0")).gpus.devices == (M60_2, M60)
    gpus = two.allocated(("0", "7")).gpus
    assert (gpus.state, gpus.wanted) == ("unknown", True)
    assert gpus.reason == "the job has GPU '7', which detection did not see"


def test_nodes_of_one_type_have_one_digest():
    """Names, serial numbers and boots do not decide; capabilities, drivers and flags do."""
    twin = replace(
        PROFILE,
        node="gpu2",
        boot_id="b1",
        gpus=replace(PROFILE.gpus, devices=(replace(M60, uuid="GPU-zzz"), A100)),
    )
    assert twin.facts_digest() == PROFILE.facts_digest()
    others = [
        replace(PROFILE, flags=("sse2",)),
        replace(PROFILE, compatible=("x86_64",)),
        replace(PROFILE, gpus=replace(PROFILE.gpus, driver="390.30")),
        PROFILE.allocated(("GPU-aaa",)),
        PROFILE.allocated(()),
    ]
    assert len({one.facts_digest() for one in [PROFILE, *others]}) == 6


def test_words_say_what_is_offered_gpu_included():
    """The spelling of the first post."""
    profile = profile_from_words("linux/amd64:broadwell:nv-compute-5-2:nvidia-396-44")
    assert (profile.target, profile.compatible[:2]) == ("broadwell", ("broadwell", "haswell"))
    assert "x86_64_v3" in profile.compatible
    assert "avx2" in profile.flags
    assert (profile.gpus.state, profile.gpus.driver) == ("present", "396.44")
    assert [gpu.capability for gpu in profile.gpus.devices] == ["5.2"]
    assert profile.words == ("cpu:broadwell", "nvcap:5.2", "nvdrv:396.44")
    assert profile.allocated(()) == profile
    assert NodeProfile.from_json(profile.to_json()) == profile


@pytest.mark.parametrize(
    ("text", "target", "compatible"),
    [
        ("linux/amd64", "x86_64", ("x86_64",)),
        ("linux/amd64/v3", "x86_64_v3", ("x86_64_v3", "x86_64_v2", "x86_64")),
        ("linux/ppc64le:power9", "power9le", ("power9le", "power8le", "ppc64le")),
        ("linux/s390x", None, ()),
        ("linux/arm64:graviton2", "neoverse_n1", None),
    ],
)
def test_words_of_every_family(text, target, compatible):
    """Without a CPU word a node is the plainest of its architecture."""
    profile = profile_from_words(text)
    assert profile.target == target
    assert compatible is None or profile.compatible == compatible


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("linux/amd64:cpu:nosuch", "cpu 'nosuch' in"),
        ("linux/arm64:broadwell", "is not a known arm64 target"),
        ("linux/amd64:nvcap:7.0|8.0", "is a requirement, not what a node offers"),
        ("linux/amd64:nvdrv:=1.2", "is a requirement, not what a node offers"),
        ("linux/amd64:nvcap:9.0a", "offers a GPU without a capability"),
    ],
)
def test_words_that_no_node_can_offer_are_refused(text, why):
    """A typing error must not quietly mean the generic image."""
    with pytest.raises(UsageError) as caught:
        profile_from_words(text)
    assert why in caught.value.message


def test_instances_of_slices_are_written_where_there_are_some():
    """What an older release, which refuses a field it does not know, reads elsewhere."""
    plain = Gpu(0, "GPU-0", "", "8.0")
    sliced = replace(plain, index=1, mig=True, slices=("MIG-a",), instances=("1/0",))
    profile = replace(
        profile_from_words("linux/amd64"), gpus=GpuFacts("present", devices=(plain, sliced))
    )
    text = profile.to_json()
    assert [one.get("instances") for one in json.loads(text)["gpus"]["devices"]] == [None, ["1/0"]]
    assert NodeProfile.from_json(text) == profile
