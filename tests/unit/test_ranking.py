"""The order among images that fit, and how a site's policy changes it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from indexes import BENCH, digest, entries_from, entry, index_with
from nodes import AMD64, node, other_gpus

from hpcimg.errors import UsageError
from hpcimg.features import parse_feature
from hpcimg.node.words import profile_from_words
from hpcimg.oci.reference import parse_reference
from hpcimg.policy import Avoid, Policy, PolicyRule, policy_for
from hpcimg.requirements import WEIGHT_ANNOTATION
from hpcimg.selection import select

ORDER = [
    # node, entries, pick, deciding rule of the second
    (node("zen4"), [("zen3",), ("x86_64_v4",)], 0, "is built for a closer CPU target"),
    (node("", "8.6"), [("nvcap:8.0",), ("nvcap:8.6",)], 1, "suits the job's GPU better"),
    (node("", "8.6"), [("nvcap:8.0+ptx",), ("nvcap:7.0+ptx",)], 0, "suits the job's GPU better"),
    (node("", "9.0"), [("nvcap:7.0+ptx",), ("nvcap:8.0+ptx",)], 1, "suits the job's GPU better"),
    (node("broadwell", "7.0"), [("broadwell",), ("nvcap:7.0",)], 1, "uses the job's GPU"),
    (node("broadwell"), [("broadwell",), ("broadwell", "cpuflag:avx2")], 1, "is more specific"),
    (
        node("", "7.0"),
        [("nvidia-390-30",), ("nvidia-396-44",)],
        1,
        "is built for a newer toolkit or driver",
    ),
    (
        node("", "8.0", driver="535.1"),
        [("cuda:12.4",), ("cuda:11.8",)],
        0,
        "is built for a newer toolkit or driver",
    ),
    (node("", "8.0"), [("nvidia-396-44",), ("nvcap:7.0+ptx",)], 1, "suits the job's GPU better"),
    (
        node("", "10.3", driver="580.1"),
        [("nvcap:10.0f",), ("nvcap:10.3",)],
        1,
        "suits the job's GPU better",
    ),
    (
        other_gpus("amd", "gfx942"),
        [("gfx9-4-generic",), ("gfx942",)],
        1,
        "suits the job's GPU better",
    ),
    (
        other_gpus("amd", "gfx942"),
        [("gfx942",), ("gfx942:xnack-",)],
        1,
        "suits the job's GPU better",
    ),
    (
        other_gpus("intel", "pvc"),
        [("intelgpu:spirv",), ("intelgpu:pvc",)],
        1,
        "suits the job's GPU better",
    ),
    (node("broadwell"), [(), ("haswell",)], 1, "is built for a closer CPU target"),
    (node("icelake"), [("cannonlake",), ("cascadelake",)], 1, "is built for a closer CPU target"),
    (node(), [(), ()], 0, "comes first in the index"),
]


@pytest.mark.parametrize(("profile", "entries", "pick", "why"), ORDER)
def test_the_order_among_those_that_fit(profile, entries, pick, why):
    """The first difference decides, and is the reason that both show."""
    resolution = select(profile, index_with(*entries))
    assert resolution.pick.descriptor.digest == digest(pick)
    assert resolution.candidates[1 - pick].reason == f"fits, but {resolution.pick.label} {why}"


def test_a_condition_on_the_gpu_says_nothing_of_the_code():
    """`>=` comes from variables and artifacts; the code's own word tells how well it suits."""
    index = index_with(("nvcap:7.0+ptx",), ("nvcap:8.0", "nvcap:>=7.0"))
    assert select(node("", "8.6"), index).pick.descriptor.digest == digest(1)


@pytest.mark.parametrize(("nodes", "pick"), [(1, 0), (2, 1)])
def test_a_fabric_counts_only_where_the_job_leaves_the_node(nodes, pick):
    """On one node the build for the fabric has nothing to offer."""
    profile = replace(node("zen3"), traits=("fabric:ib",), job_nodes=nodes)
    index = index_with(("zen3",), ("zen3", "fabric:ib"))
    assert select(profile, index).pick.descriptor.digest == digest(pick)


def test_only_an_alternative_that_fits_makes_a_toolkit_newer():
    """What the driver cannot run is no advantage."""
    index = index_with(("cuda:11.0|13.0", "nvcap:8.0"), ("cuda:11.4", "nvcap:8.0"))
    assert select(node("", "8.0", driver="470.60"), index).pick.descriptor.digest == digest(1)


def avoiding(word, *on):
    """A policy that puts the images with a word last on these targets."""
    return Policy(avoid=tuple(Avoid(feature, on) for feature in parse_feature(word)))


AVX512 = index_with((), ("skylake",), ("skylake512",))


@pytest.mark.parametrize(
    ("profile", "policy", "pick"),
    [
        (node("skylake512"), Policy(), 2),
        (node("skylake512"), avoiding("cpuflag:avx512f", "skylake_avx512", "cascadelake"), 1),
        (node("cascadelake"), avoiding("cpuflag:avx512f", "skylake_avx512", "cascadelake"), 1),
        (node("icelake"), avoiding("cpuflag:avx512f", "skylake_avx512", "cascadelake"), 2),
        (node("icelake"), avoiding("cpuflag:avx512f"), 1),
        (node("skylake512"), avoiding("cpu:skylake_avx512"), 1),
    ],
)
def test_avx512_is_demoted_where_the_site_says(profile, policy, pick):
    """After the best image without it, on those targets alone; a CPU word stands for its flags."""
    assert select(profile, AVX512, policy).pick.descriptor.digest == digest(pick)


def test_demoted_is_not_excluded():
    """Where nothing else but the generic image fits, the avoided one still goes before it."""
    index = index_with((), ("skylake512",))
    resolution = select(node("skylake512"), index, avoiding("cpuflag:avx512f"))
    assert resolution.pick.label == "cpu:skylake_avx512"


def test_a_measured_weight_overrides_the_demotion():
    """What was measured is not to be guessed."""
    policy = replace(avoiding("cpuflag:avx512f"), weights={"cpu:skylake_avx512": 1.2})
    resolution = select(node("skylake512"), AVX512, policy)
    assert resolution.pick.label == "cpu:skylake_avx512"
    assert resolution.candidates[1].reason == (
        "fits, but cpu:skylake_avx512 was measured to be faster"
    )


def test_a_site_prefers_by_an_explicit_list():
    """On zen4 neither of the two descends from the other; the first word of the list wins."""
    index = index_with(("zen3",), ("x86_64_v4",))
    assert select(node("zen4"), index).pick.label == "cpu:zen3"
    policy = Policy(prefer=("cpu:x86_64_v4", "cpu:zen3"))
    resolution = select(node("zen4"), index, policy)
    assert resolution.pick.label == "cpu:x86_64_v4"
    assert resolution.candidates[0].reason == "fits, but cpu:x86_64_v4 is preferred by the site"


@pytest.mark.parametrize(("weight", "pick"), [("5", 0), ("-5", 1), ("much", 1), ("0", 1)])
def test_an_authors_weight_goes_before_the_cpu_target(weight, pick):
    """A text that is no number is no weight."""
    first = entry(0, "haswell")
    first["annotations"] = {WEIGHT_ANNOTATION: weight}
    index = entries_from(first, entry(1, "broadwell"))
    assert select(node("broadwell"), index).pick.descriptor.digest == digest(pick)


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


EXACT_TABLE = [
    # entries, node, pick: 0 is always the generic one
    ((("broadwell", "nvcap:5.2", "nvidia-396-44"),), node("broadwell", "5.2"), 1),
    ((("broadwell", "nvcap:5.2", "nvidia-390-30"),), node("broadwell", "5.2"), 0),
    ((("broadwell", "nvcap:5.2", "smt:on"),), node("broadwell", "5.2"), 0),
    ((("nvcap:5.2",),), node("broadwell", "5.2"), 0),
    ((("broadwell", "nvcap:5.2"),), node("broadwell", "5.2", ids=()), 0),
    ((("broadwell", "nvcap:5.2"),), node("broadwell", "5.2", "7.0"), 0),
    ((("broadwell",),), node("skylake"), 0),
    ((("broadwell", "nvcap:5.2|7.0"),), node("broadwell", "5.2", "7.0"), 1),
    ((("broadwell", "nvcap:5.2|7.0"),), node("broadwell", "5.2"), 0),
    ((("nvcap:5.0", "cpu:broadwell"),), node("broadwell", "5.2"), 0),
    ((("zen3", "gfx90a"),), other_gpus("amd", "gfx90a:sramecc+"), 1),
    ((("zen3", "gfx90a:sramecc+"),), other_gpus("amd", "gfx90a:sramecc+"), 1),
    ((("zen3", "gfx90a:sramecc-"),), other_gpus("amd", "gfx90a:sramecc+"), 0),
    ((("zen3", "gfx90a|gfx942"),), other_gpus("amd", "gfx90a:sramecc+"), 0),
]


@pytest.mark.parametrize(("entries", "profile", "pick"), EXACT_TABLE)
def test_exact_on_a_detected_node(entries, profile, pick):
    """Target and GPUs must be named, and each further word be just what the node has."""
    resolution = select(profile, index_with((), *entries), EXACT)
    assert resolution.pick.descriptor.digest == digest(pick)


NAME = parse_reference("registry:5000/qnib/bench:1")
RULES = (
    PolicyRule(policy="compatible"),
    PolicyRule(repository="registry:5000/qnib/*", policy="exact"),
    PolicyRule(targets=("zen3",), allow_generic=False),
    PolicyRule(nodes=("login*", "n1"), prefer=("cpu:zen2",)),
    PolicyRule(repository="docker.io/*", strict=True),
)


def test_rules_are_for_repositories_nodes_and_machine_types():
    """A later rule changes what it says and leaves the rest."""
    assert policy_for(RULES, NAME, node("zen3")) == Policy(
        "exact", allow_generic=False, prefer=("cpu:zen2",)
    )
    other = parse_reference("docker.io/library/debian")
    assert policy_for(RULES, other, replace(node("broadwell"), node="n2")) == Policy(strict=True)
    assert policy_for(RULES, NAME, node("zen2"), kind="compatible").kind == "compatible"
