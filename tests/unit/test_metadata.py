"""Requirements in an image's config: labels and NVIDIA's variables."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcimg.metadata import config_requirements

CUDA_12_4 = (
    "cuda>=12.4 brand=tesla,driver>=470,driver<471 brand=unknown,driver>=470,driver<471 "
    "brand=nvidia,driver>=525,driver<526 brand=tesla,driver>=535,driver<536"
)
"""The form that NVIDIA's own CUDA images have."""


def read(labels=None, env=(), **document):
    """Read a config with these labels and variables as (word, source) pairs."""
    document = {"architecture": "amd64", "config": {"Labels": labels, "Env": list(env)}, **document}
    found = config_requirements(json.dumps(document).encode())
    return [(str(one.feature), one.source) for one in found]


def require(*expressions):
    """Read the words that expressions in NVIDIA's variables require."""
    env = [f"NVIDIA_REQUIRE_{at}={text}" for at, text in enumerate(expressions)]
    return [word for word, _ in read(env=env)]


def test_labels():
    """Both labels count, in any spelling, each word once for every label."""
    labels = {
        "org.hpcimg.features": "broadwell, nvcap_52",
        "org.supercontainers.hardware.cpu.target.microarch": "Skylake-AVX512",
        "maintainer": "skylake",
    }
    assert read(labels) == [
        ("cpu:broadwell", "labels"),
        ("nvcap:5.2", "labels"),
        ("cpu:skylake_avx512", "labels"),
    ]


def test_label_of_another_architecture():
    """A name that two families share is read as the image's architecture means it."""
    labels = {"org.hpcimg.features": "power9"}
    assert read(labels, architecture="ppc64le") == [("cpu:power9le", "labels")]


def test_label_that_is_too_long():
    """A flooding label stays a requirement, one that nothing offers."""
    ((word, _),) = read({"org.hpcimg.features": "avx2," * 1000})
    assert word.startswith("too-long:")


def test_cuda_image():
    """The branch alternatives need the image's own driver libraries, so `cuda` counts."""
    assert read(env=["PATH=/bin", f"NVIDIA_REQUIRE_CUDA={CUDA_12_4}"]) == [
        ("cuda:12.4", "environment")
    ]


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("cuda>=9.2", ["cuda:9.2"]),
        ("cuda>=9.2,driver>=396.26", ["cuda:9.2", "nvdrv:396.26"]),
        ("driver>=396,driver<397", ["nvdrv:396"]),
        ("driver>=396 driver>=384.81", ["nvdrv:384.81"]),
        ("driver>=396,driver>=410 driver>=525", ["nvdrv:410"]),
        ("arch>=7.0", ["nvcap:>=7.0"]),
        ("arch>=8", ["nvcap:>=8.0"]),
        ("ARCH>=5.2", ["nvcap:>=5.2"]),
        ("cuda>12.3", ["cuda:12.3"]),
        ("cuda=12.4", ["cuda:12.4"]),
        ("brand=tesla,driver>=470", ["nvdrv:470"]),
        ("cuda>=12.4 arch>=9.0", []),
        ("cuda>=12.4 driver", []),
        ("cuda<12", []),
        ("cuda!=12.4", []),
        ("brand=tesla", []),
        ("cuda>=twelve", []),
        ("cuda>=1.2.3.4.5.6", []),
        ("csv-mounts=all", []),
        (",,, ,", []),
        ("", []),
    ],
)
def test_nvidia_expression(expression, words):
    """Lower bounds of all alternatives count, the least of each; nothing else does."""
    assert require(expression) == words


def test_all_variables_count():
    """Each variable is a condition of its own."""
    assert require("cuda>=12.0", "arch>=7.0") == ["cuda:12.0", "nvcap:>=7.0"]


@pytest.mark.parametrize(
    "variable",
    [
        "NVIDIA_DISABLE_REQUIRE=1",
        "NVIDIA_DISABLE_REQUIRE=true",
        "NVIDIA_VISIBLE_DEVICES=void",
        "NVIDIA_VISIBLE_DEVICES=none",
    ],
)
def test_variables_that_turn_it_off(variable):
    """What NVIDIA's tools take for no requirement is none here."""
    assert read(env=["NVIDIA_REQUIRE_CUDA=cuda>=12.4", variable]) == []


def test_no_requirement():
    """A toolkit's version alone, or a disabled switch, requires nothing."""
    assert read(env=["CUDA_VERSION=12.4.1"]) == []
    assert require("cuda>=12.4") == ["cuda:12.4"]
    assert read(env=["NVIDIA_DISABLE_REQUIRE=0", "NVIDIA_REQUIRE_CUDA=cuda>=9.0"]) == [
        ("cuda:9.0", "environment")
    ]


def test_the_last_value_of_a_variable_counts():
    """As in any environment."""
    env = ["NVIDIA_REQUIRE_CUDA=cuda>=12.4", "NVIDIA_REQUIRE_CUDA=cuda>=9.0"]
    assert read(env=env) == [("cuda:9.0", "environment")]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"config": []}',
        b'{"config": {"Labels": [], "Env": "x"}}',
        b'{"config": {"Labels": {"org.hpcimg.features": 1}, "Env": [1, null, "A"]}}',
        b'{"architecture": 7, "config": {}}',
        b"[" * 100_000,
        b'{"config": ' + b"9" * 5000 + b"}",
        b" " * (5 << 20) + b"{}",
    ],
)
def test_bad_configs(raw):
    """Whatever a stranger sends, it neither raises nor requires."""
    assert config_requirements(raw) == ()


def test_foreign_text_is_shown_safely():
    """A label cannot drive the terminal of whoever lists it."""
    ((word, _),) = read({"org.hpcimg.features": "a\x1b[2Jb\nc"})
    assert word == "a\\x1b[2jb\\x0ac"


@given(st.text(alphabet="cudariveh=<>!.,0123456789 ", max_size=40))
def test_any_expression(text):
    """Whatever a variable says, only our own words come of it."""
    assert {word.partition(":")[0] for word in require(text)} <= {"cuda", "nvdrv", "nvcap"}
