"""Node-feature-discovery's compatibility artifacts, in our words."""

from __future__ import annotations

import json
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcimg.compatibility import artifact_requirements

DOCUMENTED = dedent("""\
    version: v1alpha1
    compatibilities:
    - description: "My image requirements"
      rules:
      - name: "kernel and cpu"
        matchFeatures:
        - feature: kernel.loadedmodule
          matchExpressions:
            vfio-pci: {op: Exists}
        - feature: cpu.model
          matchExpressions:
            vendor_id: {op: In, value: ["Intel", "AMD"]}
      - name: "one of available nics"
        matchAny:
        - matchFeatures:
          - feature: pci.device
            matchExpressions:
              vendor: {op: In, value: ["0eee"]}
              class: {op: In, value: ["0200"]}
        - matchFeatures:
          - feature: pci.device
            matchExpressions:
              vendor: {op: In, value: ["0fff"]}
              class: {op: In, value: ["0200"]}
    """)
"""An artifact as its specification shows one; none of it can be said in our words."""


def read(raw, architecture="amd64"):
    """Read an artifact's words."""
    raw = raw if isinstance(raw, bytes) else raw.encode()
    found = artifact_requirements(raw, architecture)
    assert {one.source for one in found} <= {"compatibility"}
    return [str(one.feature) for one in found]


def artifact(*options):
    """Write an artifact of (weight, matchers) pairs as JSON, which is YAML."""
    listed = [
        {"weight": weight, "rules": [{"name": "x", "matchFeatures": terms}]}
        for weight, terms in options
    ]
    return json.dumps({"version": "v1alpha1", "compatibilities": listed})


def term(feature, **expressions):
    """Write one matcher; an expression is (operator, values…)."""
    written = {
        key.replace("__", "-"): {"op": op, "value": list(values)}
        for key, (op, *values) in expressions.items()
    }
    return {"feature": feature, "matchExpressions": written}


@pytest.mark.parametrize(
    ("feature", "expressions", "words"),
    [
        ("cpu.cpuid", {"AVX2": ("Exists",)}, ["cpuflag:avx2"]),
        (
            "cpu.cpuid",
            {"FMA3": ("Exists",), "AVX512VNNI": ("Exists",)},
            ["cpuflag:fma", "cpuflag:avx512_vnni"],
        ),
        ("cpu.cpuid", {"AVX2": ("DoesNotExist",)}, ["nfd:cpu.cpuid:avx2:doesnotexist"]),
        ("cpu.cpuid", {"NEWONE": ("Exists",)}, ["nfd:cpu.cpuid:newone:exists"]),
        ("cpu.topology", {"hardware_multithreading": ("IsFalse",)}, ["smt:off"]),
        ("cpu.topology", {"socket_count": ("Ge", "2")}, ["nfd:cpu.topology:socket_count:ge:2"]),
        ("kernel.version", {"major": ("Ge", "5")}, ["kernel:5"]),
        ("kernel.version", {"major": ("Gt", "5")}, ["kernel:6"]),
        (
            "kernel.version",
            {"major": ("Ge", "5"), "minor": ("Ge", "14")},
            ["kernel:5", "nfd:kernel.version:minor:ge:14"],
        ),
        ("kernel.version", {"major": ("In", "5")}, ["nfd:kernel.version:major:in:5"]),
        ("kernel.version", {"major": ("Ge", "x")}, ["nfd:kernel.version:major:ge:x"]),
        ("kernel.loadedmodule", {"nvidia": ("Exists",)}, ["nvcap:>=1.0"]),
        ("kernel.loadedmodule", {"lustre": ("Exists",)}, ["nfd:kernel.loadedmodule:lustre:exists"]),
        ("pci.device", {"vendor": ("In", "10de")}, ["nvcap:>=1.0"]),
        (
            "pci.device",
            {"vendor": ("In", "10de"), "class": ("In", "0300", "0302")},
            ["nvcap:>=1.0"],
        ),
        (
            "pci.device",
            {"vendor": ("In", "10de"), "class": ("In", "0680")},
            ["nfd:pci.device:class:in:0680:vendor:in:10de"],
        ),
        (
            "pci.device",
            {"vendor": ("In", "10de"), "device": ("In", "20b0")},
            ["nfd:pci.device:device:in:20b0:vendor:in:10de"],
        ),
        ("pci.device", {"vendor": ("In", "1002")}, ["nfd:pci.device:vendor:in:1002"]),
        ("pci.device", {"class": ("In", "0207")}, ["fabric:ib"]),
        (
            "system.osrelease",
            {"ID": ("In", "debian"), "VERSION_ID": ("In", "12")},
            ["os:debian:12"],
        ),
        ("system.osrelease", {"ID": ("In", "rhel"), "VERSION_ID": ("In", "9.4")}, ["os:rhel:9"]),
        (
            "system.osrelease",
            {"ID": ("In", "ubuntu"), "VERSION_ID": ("In", "22.04")},
            ["os:ubuntu:22.04"],
        ),
        ("system.osrelease", {"ID": ("In", "debian")}, ["nfd:system.osrelease:id:in:debian"]),
        ("local.label", {}, ["nfd:local.label"]),
    ],
)
def test_term(feature, expressions, words):
    """What our words can say is said in them; the rest is opaque and named."""
    assert read(artifact((0, [term(feature, **expressions)]))) == words


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("{op: Ge, value: ['5.14'], type: version}", "kernel:5.14"),
        ("{op: Gt, value: ['5.14'], type: version}", "kernel:5.14.1"),
        ("{op: Ge, value: ['5.14']}", "nfd:kernel.version:full:ge:5.14"),
    ],
)
def test_kernel_as_a_version(value, word):
    """Only versions are compared as such."""
    text = dedent(f"""\
        version: v1alpha1
        compatibilities:
        - rules:
          - matchFeatures:
            - feature: kernel.version
              matchExpressions:
                full: {value}
        """)
    assert read(text) == [word]


def test_documented_example():
    """What cannot be said is kept as opaque words; of a choice the first stands for all."""
    assert read(DOCUMENTED) == [
        "nfd:kernel.loadedmodule:vfio-pci:exists",
        "nfd:cpu.model:vendor_id:in:intel|amd",
        "nfd:pci.device:class:in:0200:vendor:in:0eee",
    ]


def test_flags_of_arm():
    """Arm's flags have Linux's names of Arm, and x86's none there."""
    text = artifact((0, [term("cpu.cpuid", ASIMRDM=("Exists",), AVX2=("Exists",))]))
    assert read(text, "arm64") == ["cpuflag:asimdrdm", "nfd:cpu.cpuid:avx2:exists"]
    assert read(text, None)[0] == "nfd:cpu.cpuid:asimrdm:exists"


@pytest.mark.parametrize(
    ("match", "word"),
    [
        ({"op": "In", "value": ["AVX2", "AVX"]}, "cpuflag:avx|avx2"),
        ({"op": "InRegexp", "value": ["^AVX"]}, "nfd:cpu.cpuid:name:inregexp:_avx"),
        ({"op": "In", "value": ["AVX2", "NEW"]}, "nfd:cpu.cpuid:name:in:avx2|new"),
    ],
)
def test_match_on_names(match, word):
    """Any one of several named flags will do."""
    assert read(artifact((0, [{"feature": "cpu.cpuid", "matchName": match}]))) == [word]


FLAG = {name: term("cpu.cpuid", **{name: ("Exists",)}) for name in ("AVX2", "AVX512F", "FMA3")}
OTHER = term("kernel.loadedmodule", lustre=("Exists",))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([(0, [FLAG["AVX2"]]), (9, [FLAG["AVX512F"]])], ["cpuflag:avx2|avx512f"]),
        ([(9, [FLAG["AVX2"], FLAG["FMA3"]]), (0, [FLAG["FMA3"]])], ["cpuflag:fma"]),
        (
            [(0, [FLAG["AVX2"], FLAG["FMA3"]]), (9, [FLAG["AVX512F"]])],
            ["cpuflag:avx512f"],
        ),
        (
            [(0, [FLAG["AVX2"], FLAG["FMA3"]]), (9, [FLAG["AVX512F"], OTHER])],
            ["cpuflag:avx2", "cpuflag:fma"],
        ),
        ([(0, [OTHER]), (0, [FLAG["AVX2"]])], ["cpuflag:avx2"]),
        ([(9, []), (0, [FLAG["AVX2"]])], []),
        ([(0, [OTHER]), (0, [OTHER])], ["nfd:kernel.loadedmodule:lustre:exists"]),
    ],
)
def test_alternatives(options, words):
    """The weaker of two, all in one word, or the heaviest that can be said whole."""
    assert read(artifact(*options)) == words


def test_match_any():
    """A rule's choice joins into one word beside what the rule requires at any rate."""
    any_of = [{"matchFeatures": [FLAG[name]]} for name in ("AVX2", "AVX512F")]
    rule = {"matchFeatures": [FLAG["FMA3"]], "matchAny": any_of}
    document = {"version": "v1alpha1", "compatibilities": [{"rules": [rule]}]}
    assert read(json.dumps(document)) == ["cpuflag:fma", "cpuflag:avx2|avx512f"]


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (b"\xff", "nfd:unreadable:not-yaml"),
        (b"a: [", "nfd:unreadable:not-yaml"),
        (b"- " * 30_000, "nfd:unreadable:not-yaml"),
        (b"[" * 30_000, "nfd:unreadable:not-yaml"),
        (b"#" * 70_000, "nfd:unreadable:too-long"),
        (b"", "nfd:unreadable:document"),
        (b"[]", "nfd:unreadable:document"),
        (b"{}", "nfd:unreadable:value"),
        (b"version: v2", "nfd:unreadable:version-v2"),
        (b"version: 0x" + b"f" * 9000, "nfd:unreadable:value"),
        (b"{version: v1alpha1, compatibilities: {}}", "nfd:unreadable:compatibilities"),
        (b"{version: v1alpha1, compatibilities: [x]}", "nfd:unreadable:compatibilities"),
        (b"{version: v1alpha1, compatibilities: [{rules: x}]}", "nfd:unreadable:rules"),
        (b"{version: v1alpha1, compatibilities: [{weight: x}]}", "nfd:unreadable:weight"),
        (b"a: &a [1]\nb: *a", "nfd:unreadable:aliases"),
        (b"&a [*a]", "nfd:unreadable:aliases"),
    ],
)
def test_unreadable(raw, word):
    """An artifact that cannot be read stays a requirement, one that nothing offers."""
    assert read(raw) == [word]


def test_nothing_required():
    """An artifact without compatibilities requires nothing."""
    assert read("version: v1alpha1") == []


def test_opaque_words_are_safe():
    """What a stranger writes cannot drive a terminal, forge a list, or flood a line."""
    word = read(artifact((0, [term("x\x1b[2J,\n", **{"y" * 200: ("Exists",)})])))[0]
    assert word.startswith("nfd:x_2j_:yyy")
    assert word.endswith("...")
    assert len(word) < 100


_KEYS = ("rules", "weight", "matchFeatures", "matchAny", "feature", "matchExpressions", "op")


def _nested(inner):
    """Nest a value in lists, and in objects of the specification's keys."""
    return st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4)


@given(st.recursive(st.none() | st.text(max_size=8) | st.integers(), _nested, max_leaves=20))
def test_any_document(document):
    """Whatever the form of a document, reading it ends in words that are safe to show."""
    whole = {"version": "v1alpha1", "compatibilities": document}
    assert all(word.isprintable() for word in read(json.dumps(whole)))
