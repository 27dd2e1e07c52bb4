"""What must hold for every index and every node."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from indexes import index_with
from nodes import node, other_gpus

from hpcimg import targets
from hpcimg.features import parse_feature
from hpcimg.gpu_rules import NO_QUALITY, gpu_quality
from hpcimg.policy import Avoid, Policy
from hpcimg.satisfaction import unsatisfied
from hpcimg.selection import select

_WORDS = ("broadwell", "skylake", "zen2", "x86_64_v3", "cpuflag:avx2", "cpuflag:avx512f",
          "nvcap:5.2", "nvcap:7.0+ptx", "nvcap:7.0|8.0", "nvidia-390-30", "odd", "x86_64_v4",
          "zen3", "cuda:9.2", "cuda:11.8", "gfx90a", "smt:on",
          "fabric:ib", "kernel:5.14", "mpi:mpich", "cpu:=skylake", "cpu:zen3|skylake",
          "cpuflag:avx512f|avx2", "amx_tile|avx2", "nvdrv:=396.44", "nvcap:>=7.0", "nvcap:=7.0",
          "kernel:=5.14", "rocm:6.2", "compute_70", "site.rack:a", "nvdrv:400|390.30")  # fmt: skip
_entries = st.lists(
    st.lists(st.sampled_from(_WORDS), max_size=3).map(tuple), min_size=1, max_size=8
)
_nodes = st.builds(
    node,
    st.sampled_from(["", "haswell", "broadwell", "skylake", "skylake512", "zen", "zen3", "zen4"]),
    st.sampled_from(["5.2", "7.0", "7.5", "8.6"]),
    ids=st.sampled_from([None, (), ("0",)]),
)


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
    """Newer drivers run what older ones ran, unless the author asks for just one."""
    index = index_with(*entries)
    older = select(node("broadwell", "7.0", driver=driver), index).candidates
    newer = select(node("broadwell", "7.0", driver="535.10"), index).candidates
    assert all(
        before.verdict == "rejected" or after.verdict != "rejected" or "nvdrv:=" in before.label
        for before, after in zip(older, newer, strict=True)
    )


_policies = st.sampled_from([
    Policy(),
    Policy(kind="exact"),
    Policy(prefer=("cpu:zen2", "nvcap:5.2")),
    Policy(avoid=tuple(Avoid(f) for f in parse_feature("cpuflag:avx512f"))),
    Policy(weights={"cpu:broadwell": 2.0}),
    Policy(allow_generic=False),
])  # fmt: skip


def as_good(profile, one, other):
    """Whether one image is at least as good as another on every axis of dominance."""

    def axes(entry):
        code = [f for f in entry.features if f.kind in {"nvcap", "amdgpu", "intelgpu"}]
        return (
            any(f.is_for_gpu for f in entry.features),
            min((gpu_quality(profile.gpus, f) for f in code), default=NO_QUALITY),
        )

    def cpus(entry):
        # Of several targets in one word the one that this node runs best.
        words = [f.alternatives for f in entry.features if f.kind == "cpu"]
        return [next(one for one in profile.compatible if one in word) for word in words]

    def descends(target):
        return any(target == one or target in targets.ancestors(one) for one in cpus(one_entry))

    one_entry, other_entry = one.entry, other.entry
    words = {str(f) for f in one_entry.features}
    # An MPI counts only where the site offers just that one.
    extra = {
        str(f)
        for f in other_entry.features
        if f.kind != "cpu" and (f.kind != "mpi" or str(f) in profile.words)
    }
    return (
        all(a >= b for a, b in zip(axes(one_entry), axes(other_entry), strict=True))
        and all(descends(target) for target in cpus(other_entry))
        and extra <= words
    )


@given(_nodes, _entries)
def test_the_pick_is_never_dominated(profile, entries):
    """No image that fits is at least as good in everything and better in something."""
    resolution = select(profile, index_with(*entries))
    for other in resolution.candidates:
        if other.verdict == "fits" and as_good(profile, other, resolution.pick):
            assert as_good(profile, resolution.pick, other), (resolution.pick.label, other.label)


@given(_nodes, _entries, _policies)
def test_no_policy_makes_an_illegal_pick(profile, entries, policy):
    """Legal always: preferences order what fits, they admit nothing."""
    pick = select(profile, index_with(*entries), policy).pick
    if pick is not None:
        assert not any(
            unsatisfied(profile, one, pick.entry.features) for one in pick.entry.features
        )


def truly_runs(profile, feature):
    """Judge a few kinds once more, by other means than the code: archspec and plain numbers."""
    values = feature.value.split("|")
    if feature.kind == "cpu":
        mine = {profile.target, *targets.ancestors(profile.target)}
        return bool(mine & {*values}) and (not feature.comparator or profile.target in values)
    if feature.kind == "cpuflag":
        return bool({*values} & {*profile.flags})
    if feature.kind == "nvdrv":
        numbers = [tuple(map(int, value.split("."))) for value in values]
        have = (396, 44)
        return have in numbers if feature.comparator else any(have >= one for one in numbers)
    if feature.kind == "nvcap" and not feature.comparator:
        return all(
            any(
                gpu.capability >= one[:3] and ("+ptx" in one or gpu.capability[0] == one[0])
                for one in values
            )
            for gpu in profile.gpus.devices
        )
    return True


@given(_nodes, _entries, _policies)
def test_the_pick_truly_runs(profile, entries, policy):
    """By a second judge, which shares nothing with the first."""
    pick = select(profile, index_with(*entries), policy).pick
    for feature in pick.entry.features if pick else ():
        assert truly_runs(profile, feature), (profile.target, str(feature))
        if feature.is_for_gpu:
            assert profile.gpus.devices


@given(_entries, st.sampled_from(["smt:on", "fabric:ib", "os:rhel:9"]))
def test_a_further_trait_never_loses_a_candidate(entries, trait):
    """A port, a type, a setting that is found only adds."""
    plain = node("zen3")
    index = index_with(*entries)
    pairs = zip(
        select(plain, index).candidates,
        select(replace(plain, traits=(trait,)), index).candidates,
        strict=True,
    )
    assert all(b.verdict == "rejected" or a.verdict != "rejected" for b, a in pairs)


@given(_entries)
def test_a_gpu_in_the_job_never_loses_an_image_of_the_same_node(entries):
    """What ran without it runs with it; the pick may be a better one."""
    index = index_with(*entries)
    pairs = zip(
        select(node("broadwell", "5.2", ids=()), index).candidates,
        select(node("broadwell", "5.2", ids=("0",)), index).candidates,
        strict=True,
    )
    assert all(b.verdict == "rejected" or a.verdict != "rejected" for b, a in pairs)


@given(st.sampled_from(["gfx90a", "gfx942", "gfx942:sramecc+:xnack-"]), _entries)
def test_only_images_for_amd_use_an_amd_gpu(target, entries):
    """Another vendor's words never count as using the job's GPU."""
    pick = select(other_gpus("amd", target), index_with(*entries)).pick
    assert pick is None or not {f.kind for f in pick.entry.features} & {"nvcap", "nvdrv", "cuda"}


_PROGRAM = """
import sys
sys.path[:0] = sys.argv[1:]
from indexes import BENCH, CV_TF, index_with
from nodes import node
from hpcimg.selection import select
for profile in (node("broadwell", "5.2"), node("skylake512", "7.0"), node("zen4"), node("icelake")):
    for index in (BENCH, CV_TF, (("zen3",), ("x86_64_v4",)), (("cannonlake",), ("cascadelake",))):
        for one in select(profile, index_with(*index)).candidates:
            print(one.descriptor.digest, one.verdict, one.reason)
"""


def test_the_same_input_gives_the_same_answer_in_any_locale_and_hash_seed():
    """Sets and collation must not decide."""
    here = Path(__file__).parent
    answers = {
        subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(here), str(here.parents[1])],
            env={**os.environ, "PYTHONHASHSEED": seed, "LC_ALL": locale},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, locale in (("0", "C"), ("1", "tr_TR.UTF-8"), ("2", "C.UTF-8"))
    }
    assert len(answers) == 1
    assert "chosen" in answers.pop()
