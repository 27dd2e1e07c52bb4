"""The vocabulary: every spelling that must parse, and the data file behind it."""

from __future__ import annotations

import json
import os
from importlib import resources

import archspec.cpu
import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from indexes import entry, index_of

from hpcimg.errors import SettingsError, UsageError
from hpcimg.features import (
    canonical_words,
    parse_feature,
    parse_platform_words,
)
from hpcimg.requirements import FEATURES_ANNOTATION, TARGET_ANNOTATION, entries_of
from hpcimg.vocabulary import facts, with_site

SPELLINGS = {
    "cpu:broadwell": "cpu:broadwell cpu-broadwell cpu_broadwell broadwell cpu#broadwell Broadwell "
    "x86_64/intel/broadwell cpu:x86_64/intel/broadwell cpu=broadwell cpu/broadwell CPU:Broadwell",
    "cpu:skylake": "skylake cpu:skylake cpu:coffelake cpu-coffelake coffeelake kabylake cometlake "
    "whiskeylake",
    "cpu:skylake_avx512": "skylake512 skylake-avx512 skx skylake_avx512 cpu:skylake512",
    "cpu:zen": "ryzen zen1 znver1 zen",
    "cpu:zen2": "znver2 zen2",
    "cpu:zen3": "znver3 milan",
    "cpu:zen4": "znver4 genoa",
    "cpu:zen5": "znver5 turin",
    "cpu:cascadelake cpuflag:avx512_bf16": "cooperlake cpu:cooperlake",
    "cpu:sapphirerapids": "emeraldrapids",
    "cpu:sapphirerapids cpuflag:amx_fp16": "graniterapids",
    "cpu:neoverse_v2": "grace nvidia/grace axion google/axion aarch64/google/axion graviton4 "
    "neoverse-v2",
    "cpu:neoverse_n1": "graviton2 altra",
    "cpu:neoverse_v1": "graviton3",
    "cpu:neoverse_n2": "cobalt100",
    "cpu:x86_64": "cpu:amd64 cpu:x86-64 x86_64 amd64/v1",
    "cpu:aarch64": "cpu:arm64 aarch64",
    "cpu:broadwell|haswell": "cpu:broadwell|haswell cpu:haswell|x86_64/intel/broadwell "
    "cpu:broadwell|cpu:haswell",
    "cpu:power9": "power9",
    "cpu:power9le": "power9le",
    "cpu:x86_64_v3": "amd64/v3 x86-64-v3 x86_64-v3 x86_64_v3 GOAMD64=v3",
    "nvcap:5.2": "nvcap:5.2 nvcap-5.2 nvcap_52 nvcap52 nv-compute-5-2 cc52 sm_52 sm52 "
    "nv-compute-capability-5-2 accel/nvidia/cc52 nv_compute_5_2",
    "nvcap:9.0a": "sm_90a",
    "nvcap:10.0f": "sm_100f",
    "nvcap:8.0+ptx": "compute_80 nvcap:8.0+ptx",
    "nvcap:0.1": "cc01",
    "nvcap:7.0|8.0|9.0+ptx": "nvcap:7.0|8.0|9.0+ptx nvcap:9.0+PTX|70|8.0",
    "nvcap:5.2|6.0": "sm_52|sm_60 sm_52|60 cc52|sm60 nvcap:sm_60|sm_52 nvcap:5.2|nvcap:6.0",
    "nvcap:8.0+ptx|9.0": "compute_80|sm_90 sm_90|compute_80",
    "nvcap:7.0+ptx|8.0+ptx": "compute_70|80",
    "amdgpu:gfx90a|gfx942": "amdgpu:gfx90a|amdgpu:gfx942",
    "nvdrv:396.44": "nvidia-396-44 nvidia_396.44 nvdrv:396.44 nvdrv:>=396.44",
    "nvdrv:=396.44": "nvdrv:=396.44",
    "nvdrv:545.23.08": "nvidia-545-23-08",
    "nvdrv:390.30": "nvidia-390-30",
    "amdgpu:gfx90a": "accel/amd/gfx90a gfx90a amdgpu:gfx90a",
    "amdgpu:gfx942:sramecc-:xnack+": "gfx942:xnack+:sramecc- gfx942:sramecc-:xnack+ "
    "amdgpu:gfx942:xnack+:sramecc- accel/amd/gfx942:xnack+:sramecc-",
    "amdgpu:gfx90a:sramecc+:xnack-|gfx942": "amdgpu:gfx90a:xnack-:sramecc+|gfx942",
    "inst:c5": "instType:c5 instance:c5",
    "instsize:9xl": "instSize:9xl size:9xl instsize:9xlarge",
    "smt:on": "instHT:on ht:on",
    "fabric:slingshot": "fabric:cxi fabric-slingshot",
    "fabric:ib|roce": "fabric:infiniband|roce",
    "kernel:5.14": "kernel:5.14 kernel-5-14",
    "glibc:2.28": "glibc:2.28 glibc_2.28",
    "rocm:6.2": "rocm:6.2 rocm-6-2",
    "intelgpu:pvc": "intelgpu:pvc intelgpu-pvc",
    "amdgpu:gfx9-4-generic": "gfx9-4-generic accel/amd/gfx9-4-generic",
    "cpuflag:sve2": "cpuflag:sve2 cpuflag-sve2",
    "mpi:openmpi": "mpi:openmpi",
    "cuda:12.4": "cuda:12.4 cuda-12-4",
    "os:rhel:9": "os:rhel:9",
    "site.rack:a7": "site.rack:A7",
    # Tags are split by the importer of tags only; as a feature this is no known target.
    "cpu:broadwell_nvcap_52": "cpu_broadwell-nvcap_52",
    "infiniband": "infiniband",
    # Any-of has one order; a comparison that nobody makes is no word of its kind.
    "cpuflag:avx2|avx512f": "cpuflag:avx512f|avx2|avx2 cpuflag:avx2|avx512f",
    "fabric:ib": "fabric:ib|infiniband",
    "cuda:=12.4": "cuda:=12.4",
    "cpuflag:>=avx2": "cpuflag:>=avx2",
    "os:>=rhel:8": "os:>=rhel:8",
    "nvdrv:|570": "nvdrv:|570",
    "nvidia-tesla": "nvidia-tesla",
    "foo:bar": "foo:bar",
}
ROWS = [(word, meant) for meant, words in SPELLINGS.items() for word in words.split()]


@pytest.mark.parametrize("start", ["cpuflag:avx2|", "a"])
def test_a_word_without_end_is_opaque_and_short(start):
    """It comes from strangers and gets into errors and records; nothing may ever satisfy it."""
    (feature,) = parse_feature(start + "x" * 1000)
    assert feature.kind == ""
    assert len(feature.value) < 100
    assert parse_feature(str(feature)) == (feature,)


@pytest.mark.parametrize(("word", "meant"), ROWS, ids=[word for word, _ in ROWS])
def test_every_spelling_has_one_canonical_form(word, meant):
    """The canonical word is what is compared, kept and printed."""
    assert " ".join(str(feature) for feature in parse_feature(word)) == meant


@pytest.mark.parametrize("word", ["cuda:=12.4", "cpuflag:>=avx2", "os:>=rhel:8", "nvdrv:|570"])
def test_a_comparison_that_nobody_makes_is_opaque(word):
    """To ignore it would judge something else than what was written."""
    assert [feature.kind for feature in parse_feature(word)] == [""]


def test_power_is_little_endian_where_the_platform_says_so():
    """Archspec names both; images say only POWER9."""
    assert [str(one) for one in parse_feature("power9", "ppc64le")] == ["cpu:power9le"]


@pytest.mark.parametrize("word", ["variant v3", "variant:v3", "variant=v3", "v3", "V3"])
def test_a_variant_as_a_word_needs_the_architecture(word):
    """Arm's v8 and x86's v3 are told apart by it alone."""
    assert [str(one) for one in parse_feature(word, "amd64")] == ["cpu:x86_64_v3"]
    assert [one.kind for one in parse_feature(word)] == [""]
    assert [one.kind for one in parse_feature(word, "arm64")] == [""]


def test_folders_do_not_multiply():
    """Of one text there are no more forms than it has folders, whoever wrote it."""
    assert parse_feature("aarch64/nvidia/" * 30 + "grace") == parse_feature("grace")


def test_unknown_words_are_opaque_and_cannot_drive_a_terminal():
    """Strangers write them, explain prints them."""
    (feature,) = parse_feature("\x1b[31mred\u202e")
    assert feature.kind == ""
    assert str(feature) == r"\x1b[31mred\x202e"


@given(st.text(max_size=30) | st.sampled_from([word for word, _ in ROWS]))
def test_canonical_words_stay_what_they_are(word):
    """Parsing never fails, and parsing its result changes nothing."""
    words = canonical_words([word])
    assert canonical_words(words) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("linux/amd64", ()),
        (
            "linux/amd64:broadwell:nv-compute-5-2:nvidia-396-44",
            ("cpu:broadwell", "nvcap:5.2", "nvdrv:396.44"),
        ),
        ("linux/x86_64:cpu:broadwell:nvcap:5.2", ("cpu:broadwell", "nvcap:5.2")),
        ("linux/amd64:cpu:broadwell,nvcap:5.2", ("cpu:broadwell", "nvcap:5.2")),
        ("linux/amd64:gfx942:xnack+:sramecc-", ("amdgpu:gfx942:sramecc-:xnack+",)),
        ("linux/ppc64le:power9", ("cpu:power9le",)),
        ("linux/amd64:variant:v3", ("cpu:x86_64_v3",)),
    ],
)
def test_platform_words_are_split_at_colons(text, words):
    """The first post's spelling, and canonical words with colons of their own."""
    assert tuple(str(feature) for feature in parse_platform_words(text)[3]) == words


@pytest.mark.parametrize("text", ["", "linux", "linux/", "amd64", "windows/amd64", "linux/amd46",
                                  "linux/amd64/v3/x", "linux /amd64"])  # fmt: skip
def test_a_platform_that_no_node_has_is_refused(text):
    """A typing error must not become a node that nothing fits."""
    with pytest.raises(UsageError, match=r"is not a platform|is not known") as caught:
        parse_platform_words(text)
    assert "linux/amd64:broadwell" in caught.value.hint


def test_a_descriptor_requires_the_union_of_all_places():
    """Annotations, features and variant are ANDed, so the stricter one decides."""
    one = entry(1, "nvcap-5.2", variant="v3")
    one["annotations"] = {
        FEATURES_ANNOTATION: "cpu:broadwell, nvcap:5.2",
        TARGET_ANNOTATION: "haswell",
    }
    (found,) = entries_of(index_of(one))
    words = [str(feature) for feature in found.features]
    assert words == ["cpu:broadwell", "cpu:haswell", "cpu:x86_64_v3", "nvcap:5.2"]


def test_a_variant_without_a_meaning_is_a_requirement_all_the_same():
    """To forget it would be to run a guess."""
    (found,) = entries_of(index_of(entry(1, variant="v9000")))
    assert [str(feature) for feature in found.features] == ["variant:v9000"]


@pytest.mark.parametrize(
    ("architecture", "variant", "words"),
    [
        ("amd64", "1", []),
        ("amd64", "v1", []),
        ("arm64", "v8.0", []),
        ("arm64", "8.0", []),
        ("riscv64", "rva20u64", []),
        ("riscv64", "rva23u64", ["variant:rva23u64"]),
        ("arm64", "v8.6", ["cpu:armv8.6a"]),
        # Each holds all of the older one, and archspec knows none between.
        ("arm64", "v8.7", ["cpu:armv9.2a"]),
        ("arm64", "v9.1", ["cpu:armv9.2a"]),
        ("arm64", "v8.8", ["variant:v8.8"]),
        ("arm64", "v9.5", ["variant:v9.5"]),
    ],
)
def test_what_a_variant_requires(architecture, variant, words):
    """Nothing where each CPU has it, else the nearest level that is known and not lower."""
    (found,) = entries_of(index_of(entry(1, architecture=architecture, variant=variant)))
    assert [str(feature) for feature in found.features] == words


def test_the_data_file_obeys_its_schema():
    """Sites and people edit it by hand."""
    folder = resources.files("hpcimg") / "data"
    jsonschema.validate(facts(), json.loads((folder / "features.schema.json").read_text()))
    assert set(facts()["kind_words"].values()) == set(facts()["kinds"])


def test_a_sites_files_add_rows(tmp_path):
    """A name of the site's own machines, a ROCm table; the package's own rows stay."""
    rows = {"cpu_aliases": {"fast": {"features": ["cpu:zen3"]}}, "rocm_drivers": {"6.2": "6.8"}}
    (tmp_path / "site.json").write_text(json.dumps(rows))
    found = with_site(facts(), tmp_path, os.geteuid())
    assert found["cpu_aliases"]["fast"] == {"features": ["cpu:zen3"]}
    assert found["rocm_drivers"] == {"6.2": "6.8"}
    assert found["cpu_aliases"]["skx"] == facts()["cpu_aliases"]["skx"]
    assert with_site(facts(), tmp_path / "none") == facts()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[]", "it is not an object"),
        ("{", "it is not JSON"),
        ('{"kinds": {}}', "'kinds' is no table; known: amd_generic, cpu_aliases"),
        ('{"cpu_aliases": []}', "'cpu_aliases' is not an object"),
        ('{"cpu_aliases": {"a": {"features": "cpu:zen"}}}', "'a' in 'cpu_aliases' is "),
        ('{"rocm_drivers": {"6.2": 6}}', "'6.2' in 'rocm_drivers' is '6'"),
        ('{"kind_words": {"gpu": "nogpu"}}', "'nogpu' is no kind"),
        ('{"cpu_aliases": {"a": {"features": ["cpu:zen33"]}}}', "'zen33' is no known CPU target"),
        (
            '{"cpu_aliases": {"my node": {"features": ["cpu:zen3"]}}}',
            "'my node' cannot be the name",
        ),
        ('{"rocm_drivers": {"six": "6.7"}}', "'six' cannot be the name of a row in 'rocm_drivers'"),
    ],
)
def test_a_wrong_file_of_the_site_is_named(tmp_path, text, why):
    """A silent mistake here would choose other images."""
    (tmp_path / "site.json").write_text(text)
    with pytest.raises(SettingsError) as caught:
        with_site(facts(), tmp_path, os.geteuid())
    assert f'vocabulary file "{tmp_path}/site.json": ' in caught.value.message
    assert why in caught.value.message


def test_what_lies_beside_a_site_s_files_is_left_alone(tmp_path):
    """An editor's hidden file and a link to nothing are no vocabulary."""
    (tmp_path / ".#site.json").write_text("{")
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    assert with_site(facts(), tmp_path, os.geteuid()) == facts()


@pytest.mark.parametrize("name", ["file", "x" * 5000])
def test_a_directory_that_cannot_be_read_is_named(tmp_path, name):
    """Facts that a user cannot see would be missed in silence."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"vocabulary directory .* cannot be read: "):
        with_site(facts(), tmp_path / name, os.geteuid())


def test_a_file_that_others_may_write_is_refused(tmp_path):
    """It decides what runs, also for root's stages."""
    (tmp_path / "site.json").write_text("{}")
    (tmp_path / "site.json").chmod(0o666)
    with pytest.raises(SettingsError, match=r"site\.json.: others than root may write it"):
        with_site(facts(), tmp_path, os.geteuid())


def test_the_cpu_names_are_those_of_archspec():
    """The launch path reads them from data, since importing archspec is too slow for it.

    Archspec does not tell the versions of 32-bit Arm apart.
    """
    named = [*archspec.cpu.TARGETS, *facts()["arm_versions"]]
    assert facts()["cpu_targets"] == sorted(named)


def test_every_alias_stands_for_a_known_target():
    """A renamed target must not turn an alias into an unknown word."""
    for alias, meaning in facts()["cpu_aliases"].items():
        targets = [word[4:] for word in meaning["features"] if word.startswith("cpu:")]
        assert targets, alias
        assert set(targets) <= set(facts()["cpu_targets"]), alias
