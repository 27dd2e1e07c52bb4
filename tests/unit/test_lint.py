"""Findings of `index lint`: contradictions first, then everything else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpcimg.contradictions import contradictions
from hpcimg.features import parse_feature
from hpcimg.lint import lint
from hpcimg.oci.model import DOCKER_MANIFEST, Descriptor, Platform
from hpcimg.requirements import FEATURES_ANNOTATION, WEIGHT_ANNOTATION, Requirement, entry_of


def required(*lines):
    """Make requirements of `SOURCE WORD` lines."""
    pairs = [line.split(" ", 1) for line in lines]
    return tuple(Requirement(f, source) for source, word in pairs for f in parse_feature(word))


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (
            ("annotation skylake", "features broadwell"),
            "its annotation says cpu:skylake, its features say cpu:broadwell",
        ),
        (
            ("annotation nvcap52,skylake", "features skylake", "features nvcap70"),
            "its annotation says nvcap:5.2, its features say nvcap:7.0",
        ),
        (("features zen3", "features skylake"), "no known CPU has both cpu:zen3 and cpu:skylake"),
        (
            ("features cpu:=broadwell", "features skylake"),
            "no known CPU has both cpu:=broadwell and cpu:skylake",
        ),
        (("features smt:on", "labels ht:off"), "no node has both smt:on and smt:off"),
        (("features inst:c5", "labels inst:m5"), "no node has both inst:c5 and inst:m5"),
        (
            ("features nvdrv:=396.44", "features nvdrv:=390.30"),
            "no node has both nvdrv:=396.44 and nvdrv:=390.30",
        ),
        (
            ("features nvdrv:=396.44", "environment nvdrv:410"),
            "no node has both nvdrv:=396.44 and nvdrv:410",
        ),
        (("features nvcap:5.2", "labels nvcap:7.0"), "no GPU has both nvcap:5.2 and nvcap:7.0"),
        (("features gfx90a", "features gfx942"), "no GPU has both amdgpu:gfx90a and amdgpu:gfx942"),
        (("features neoverse_v1",), "cpu:neoverse_v1 is no target of amd64"),
        (
            ("features nvcap:7.0", "labels gfx90a"),
            "no image runs on GPUs of two vendors, as nvcap:7.0 and amdgpu:gfx90a say",
        ),
        (
            ("features nvcap:7.0", "labels intelgpu:pvc"),
            "no image runs on GPUs of two vendors, as nvcap:7.0 and intelgpu:pvc say",
        ),
        (
            ("features intelgpu:pvc", "labels intelgpu:bmg"),
            "no GPU has both intelgpu:pvc and intelgpu:bmg",
        ),
        (
            ("features gfx90a:xnack+", "features gfx90a:xnack-"),
            "no GPU has both amdgpu:gfx90a:xnack+ and amdgpu:gfx90a:xnack-",
        ),
        (
            ("features kernel:=5.14", "labels kernel:6.0"),
            "no node has both kernel:=5.14 and kernel:6.0",
        ),
        (
            ("features cuda:13.0", "labels nvcap:=7.0"),
            "no GPU has both cuda:13.0 and nvcap:=7.0",
        ),
    ],
)
def test_contradiction(lines, sentence):
    """Sources that disagree, and words that exclude each other, are a sentence each."""
    assert sentence in contradictions(required(*lines), "amd64")


@pytest.mark.parametrize(
    "lines",
    [
        ("annotation broadwell", "features cpu_broadwell"),
        ("features zen4", "variant x86-64-v4"),
        ("features haswell", "features skylake_avx512"),
        ("features cpu:zen3|skylake", "features broadwell"),
        ("features nvdrv:396", "environment nvdrv:410"),
        ("features nvdrv:=410", "features nvdrv:396"),
        ("features nvcap:7.0", "environment nvcap:>=7.0"),
        ("features nvcap:5.2+ptx", "labels nvcap:7.0"),
        ("features fabric:ib", "features fabric:eth"),
        ("features gfx9-4-generic", "features gfx942"),
        ("features smt:on", "labels smt:on"),
        ("features nonsense", "features rubbish"),
        ("features intelgpu:pvc", "features intelgpu:spirv"),
        ("features intelgpu:pvc|bmg", "features intelgpu:bmg"),
        ("features gfx90a:xnack+", "features gfx90a:sramecc+"),
        ("features kernel:=5.14", "features kernel:5.14.3"),
        ("features kernel:=5", "features kernel:5.14"),
        ("features cuda:13.0", "features nvcap:7.0"),
        ("features cuda:12.4", "features nvcap:=7.0"),
    ],
)
def test_no_contradiction(lines):
    """What one machine can satisfy is none, however often it is said."""
    assert contradictions(required(*lines), "amd64") == ()


def test_contradiction_without_a_platform():
    """Without an architecture the targets are compared with each other only."""
    assert contradictions(required("features neoverse_v1")) == ()
    assert contradictions(required("features i686"), "386") == ()


def entry(
    at,
    *features,
    annotated=True,
    variant=None,
    architecture="amd64",
    annotation=None,
    weight=None,
    more=(),
    media_type=DOCKER_MANIFEST,
):
    """Make an entry of an index as `index push` writes it, or otherwise."""
    words = [str(f) for word in features for f in parse_feature(word)]
    annotations = {FEATURES_ANNOTATION: ",".join(words)} if words and annotated else {}
    annotations |= {FEATURES_ANNOTATION: annotation} if annotation else {}
    annotations |= {WEIGHT_ANNOTATION: weight} if weight else {}
    platform = Platform("linux" if architecture else "", architecture, variant, features)
    descriptor = Descriptor(media_type, f"sha256:{at:064d}", 1, platform, annotations)
    return entry_of(descriptor).requiring(required(*more))


def codes(*entries):
    """Lint entries and give `severity code where`, without the digests."""
    found = lint(entries)
    assert all(finding.message and finding.hint for finding in found)
    return [f"{f.severity} {f.code} {f.where.partition(' (')[0]}" for f in found]


GENERIC = entry(0)
SKYLAKE = entry(1, "skylake")


def test_nothing_to_say():
    """A generic image first, and others that say what they need in both places."""
    assert codes(GENERIC, SKYLAKE, entry(2, "broadwell", "nvcap52")) == []


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ((), ["error no-image the index"]),
        ((entry(0, media_type="text/plain"),), ["error no-image the index"]),
        ((SKYLAKE, GENERIC), ["error generic-not-first entry 1"]),
        ((SKYLAKE,), ["warning no-generic the index", "warning engine-pick entry 1"]),
        (
            (GENERIC, entry(2, "neoverse_v1", architecture="arm64")),
            ["warning no-generic the index", "warning engine-pick entry 2"],
        ),
        ((GENERIC, entry(1, "skylack")), ["warning unknown-word entry 2"]),
        ((GENERIC, entry(1, "cpu:skylack")), ["warning unknown-word entry 2"]),
        ((GENERIC, entry(1, "nvcap:x")), ["warning unknown-word entry 2"]),
        ((GENERIC, entry(1, "site.rack:7")), []),
        ((GENERIC, entry(1, "zen3", "skylake")), ["error contradiction entry 2"]),
        (
            (GENERIC, entry(1, "skylake", annotation="cpu:broadwell")),
            ["error contradiction entry 2"],
        ),
        ((GENERIC, SKYLAKE, entry(2, "cpu-skylake")), ["warning unreachable entry 3"]),
        ((GENERIC, SKYLAKE, entry(2, "skylake", weight="5")), ["warning unreachable entry 2"]),
        (
            (GENERIC, entry(1, "broadwell"), entry(2, "broadwell", "haswell")),
            ["warning unreachable entry 2"],
        ),
        (
            (GENERIC, entry(1, "broadwell", "haswell"), entry(2, "broadwell")),
            ["warning unreachable entry 3"],
        ),
        (
            (GENERIC, replace(SKYLAKE, skip="has a config that cannot be read")),
            ["error unreadable entry 2"],
        ),
        ((GENERIC, entry(2)), ["warning unreachable entry 2"]),
        ((GENERIC, SKYLAKE, entry(1, "zen3")), ["note same-image entry 3"]),
        ((GENERIC, entry(1, "coffeelake")), ["note approximate-name entry 2"]),
        ((GENERIC, entry(1, "cpu_kaby-lake")), ["note approximate-name entry 2"]),
        ((GENERIC, entry(1, "avx512")), ["warning unknown-word entry 2"]),
        ((GENERIC, entry(1, "cpuflag:avx512")), ["warning ambiguous-flag entry 2"]),
        ((GENERIC, entry(1, "cpuflag:sse3")), []),
        ((GENERIC, entry(1, "cpuflag:avx512f")), []),
        ((GENERIC, entry(1, architecture="")), ["error no-platform entry 2"]),
        ((GENERIC, entry(1, variant="v3")), ["warning variant entry 2"]),
        ((GENERIC, entry(1, "skylake", annotated=False)), ["note no-annotation entry 2"]),
        ((GENERIC, entry(1, "skylake", more=["labels skylake"])), []),
        (
            (GENERIC, entry(1, "skylake", more=["labels nvcap52"])),
            ["warning says-more entry 2"],
        ),
        (
            (GENERIC, entry(1, "skylake", more=["environment cuda:12.4"])),
            ["note says-more entry 2"],
        ),
        ((GENERIC, entry(1, "skylake", weight="much")), ["warning bad-weight entry 2"]),
    ],
)
def test_finding(entries, found):
    """Each thing that can be wrong has its code, its severity and its place."""
    assert codes(*entries) == found


def test_many_words_of_one_kind_are_judged_in_time():
    """A sentence for each pair is nobody's reading; a few of them show what is wrong."""
    words = [f"features cpu:=zen{1 + at % 5}|x{at}" for at in range(4)]
    many = [f"features nvcap:={at // 10}.{at % 10}" for at in range(10, 250)]
    assert len(contradictions(required(*words, *many), "amd64")) < 500


def test_a_name_of_many_words_is_cut():
    """What strangers write does not flood a terminal."""
    found = lint([GENERIC, entry(1, *[f"site.k{at}:v" for at in range(200)], annotated=False)])
    assert found
    assert all(len(one.where) < 90 for one in found)


def test_attestations_are_no_entries():
    """What nobody can run is passed over, but counted, so that the places stay true."""
    attestation = entry(7, architecture="unknown")
    assert codes(GENERIC, attestation, entry(1, "skylack")) == ["warning unknown-word entry 3"]


def test_an_image_that_stands_often_is_one_note():
    """A list of twenty such notes would hide what matters."""
    entries = (GENERIC, SKYLAKE, entry(1, "zen3"), entry(1, "zen2"))
    (note,) = [one for one in lint(entries) if one.code == "same-image"]
    assert note.where == "entries 3, 4"
    assert note.message.startswith("they are the same image as entry 2 (")


def test_the_worst_comes_first():
    """Errors, warnings, notes; each in the order of the entries."""
    assert codes(entry(1, "coffeelake", annotated=False), entry(2, "zen3", "skylake"), GENERIC) == [
        "error contradiction entry 2",
        "error generic-not-first entry 1",
        "note approximate-name entry 1",
        "note no-annotation entry 1",
    ]


def test_messages():
    """A finding says what is wrong and what to do, in a sentence each."""
    found = {finding.code: finding for finding in lint([SKYLAKE, GENERIC, entry(3, "avx_512")])}
    assert found["generic-not-first"].message == (
        "it is the first for linux/amd64, so docker, podman and containerd run it everywhere"
    )
    assert found["generic-not-first"].where == "entry 1 (cpu:skylake)"
    assert found["generic-not-first"].digest == SKYLAKE.descriptor.digest
    assert found["generic-not-first"].hint.startswith("put the generic image first")
    assert "avx_512 is no known word" in found["unknown-word"].message
