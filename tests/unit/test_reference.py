"""Names of images: what users write, what is meant, what is refused and how."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcimg.errors import HpcimgError, SettingsError, UsageError
from hpcimg.oci.reference import Reference, is_short, parse_reference

SHA = "sha256:" + "a" * 64
SHA512 = "sha512:" + "b" * 128

NAMES = [
    ("ubuntu", "docker.io/library/ubuntu:latest"),
    ("ubuntu:22.04", "docker.io/library/ubuntu:22.04"),
    ("qnib/bench", "docker.io/qnib/bench:latest"),
    ("docker://qnib/bench:1", "docker.io/qnib/bench:1"),
    ("index.docker.io/ubuntu", "docker.io/library/ubuntu:latest"),
    ("registry:5000/qnib/bench", "registry:5000/qnib/bench:latest"),
    ("registry:5000", "docker.io/library/registry:5000"),
    ("localhost/a", "localhost/a:latest"),
    ("[::1]:5000/a/b:c", "[::1]:5000/a/b:c"),
    ("Quay.IO/a/b", "quay.io/a/b:latest"),
    (f"quay.io/a/b@{SHA}", f"quay.io/a/b@{SHA}"),
    (f"quay.io/a/b:1@{SHA512}", f"quay.io/a/b:1@{SHA512}"),
    ("nvcr.io#nvidia/pytorch:23.05-py3", "nvcr.io/nvidia/pytorch:23.05-py3"),
    ("docker://nvcr.io#nvidia/a", "nvcr.io/nvidia/a:latest"),
    ("oci:1", "docker.io/library/oci:1"),
    ("dir:5000/a:1", "dir:5000/a:1"),
    ("a__b/c.d/e---f", "docker.io/a__b/c.d/e---f:latest"),
]

REFUSED = [
    ("", "is empty"),
    ("./x.sif", "is a path, not an image name"),
    ("/images/x.sqsh", "is a path, not an image name"),
    ("~/x.sif", "is a path, not an image name"),
    ("a b", "a space, a control"),
    ("a\nb", r"'a\nb' has a space, a control"),
    ("a\x1b[31m", r"'a\x1b[31m'"),
    ("im\u00e4ge", r"'im\xe4ge'"),
    ("Qnib/bench", "'Qnib' is not part of a name"),
    ("a//b", "'' is not part of a name"),
    ("a/../b", "'..' is not part of a name"),
    ("quay.io/", "'' is not part of a name"),
    ("-a", "'-a' is not part of a name"),
    ("a:", "'' is not a tag"),
    ("a:-x", "'-x' is not a tag"),
    ("a:" + "x" * 129, "is not a tag"),
    ("a@sha256:abc", "'sha256:abc' is not a sha256 or sha512 digest"),
    ("a@md5:" + "a" * 32, "is not a sha256 or sha512 digest"),
    ("a@" + SHA.upper(), "is not a sha256 or sha512 digest"),
    ("host:0/a", "'host:0' is not a registry"),
    ("host:99999/a", "'host:99999' is not a registry"),
    ("-bad.example/a", "'-bad.example' is not a registry"),
    ("oras://quay.io/a", "has the scheme 'oras'"),
    ("oci:dir:tag", "means a local image (oci), not a registry's"),
    ("dir:a/b", "means a local image (dir)"),
    ("docker-archive:x.tar", "means a local image (docker-archive)"),
    ("docker-daemon:a:1", "means a local image (docker-daemon)"),
    ("user@nvcr.io#a/b", "names a user"),
    ("hub#a/b", "'hub' could be a registry or a path"),
    ("a/" * 600 + "b", "is longer than 1024 characters"),
    ("a/" * 140 + "b", "the repository is longer than 255 characters"),
    ("$(reboot)", "'$(reboot)' is not part of a name"),
    ("a;b", "'a;b' is not part of a name"),
]


@pytest.mark.parametrize(("text", "meant"), NAMES)
def test_a_name_is_parsed_to_its_canonical_text(text, meant):
    """Defaults are filled in, synonyms of the default registry are one."""
    assert str(parse_reference(text)) == meant


@pytest.mark.parametrize(("text", "why"), REFUSED)
def test_what_is_no_name_is_refused_and_quoted(text, why):
    """The message says what is wrong on one line, with what could drive a terminal escaped."""
    with pytest.raises(UsageError, match=re.escape(why)) as caught:
        parse_reference(text)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 300
    assert caught.value.hint


def test_a_site_default_registry_adds_no_library():
    """Only docker.io keeps single names under library/."""
    assert str(parse_reference("bench", default_registry="registry:5000")) == (
        "registry:5000/bench:latest"
    )


def test_a_default_registry_that_could_be_a_path_is_the_sites_fault():
    """Its canonical text would be parsed as something else the second time."""
    with pytest.raises(SettingsError, match="default registry 'hub' is not a registry"):
        parse_reference("bench", default_registry="hub")


ALIASES = {
    "docker.io/qnib": "registry:5000/qnib",
    "bench": "registry:5000/qnib/bench",
    "docker.io": "mirror.example",
    "gone": "qnib/new",
}


@pytest.mark.parametrize(
    ("text", "default", "meant"),
    [
        ("docker.io/qnib/bench", "registry:5000", "registry:5000/qnib/bench:latest"),
        ("qnib/bench:1", "docker.io", "registry:5000/qnib/bench:1"),
        ("qnibble/bench", "docker.io", "mirror.example/qnibble/bench:latest"),
        ("ubuntu", "docker.io", "mirror.example/library/ubuntu:latest"),
        (f"bench@{SHA}", "docker.io", f"registry:5000/qnib/bench@{SHA}"),
        ("docker://docker.io/qnib/bench", "quay.io", "registry:5000/qnib/bench:latest"),
        ("gone", "docker.io", "docker.io/qnib/new:latest"),
        ("qnib/bench", "quay.io", "quay.io/qnib/bench:latest"),
    ],
)
def test_the_longest_alias_at_a_boundary_counts_once(text, default, meant):
    """Aliases see the name as written, then its docker.io form, and never their own result."""
    assert str(parse_reference(text, default_registry=default, aliases=ALIASES)) == meant


@pytest.mark.parametrize("value", ["registry:5000/a:tag", "a@b", "../a", "A/b", "", "a b"])
def test_an_alias_that_is_no_name_is_the_sites_fault(value):
    """The message names the alias."""
    with pytest.raises(SettingsError, match="alias 'bench' stands for"):
        parse_reference("bench", aliases={"bench": value})


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a", True), ("a/b:1", True), ("docker://a", True), ("a.b/c", False), ("localhost/c", False),
     ("r:5000/c", False), ("nvcr.io#a/b", False), ("a:5000", True)],
)  # fmt: skip
def test_short(name, expected):
    """A name is short where its registry is left to the defaults."""
    assert is_short(name) is expected


def test_short_names_are_whole_names():
    """A short name stands for itself, not for what begins with it; the site's aliases go first."""
    short = {"tool": "quay.io/a/tool"}
    assert str(parse_reference("tool:1", short_names=short)) == "quay.io/a/tool:1"
    assert str(parse_reference("tool/x", short_names=short)) == "docker.io/tool/x:latest"
    found = parse_reference("tool", aliases={"tool": "r:1/x"}, short_names=short)
    assert str(found) == "r:1/x:latest"


def test_pinning_drops_the_tag():
    """A tag moves on; beside a digest it would only mislead."""
    assert str(parse_reference("a:1").with_digest(SHA)) == f"docker.io/library/a@{SHA}"
    with pytest.raises(UsageError, match="'latest' is not a sha256 or sha512 digest"):
        parse_reference("a").with_digest("latest")


_component = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-{1,2})[a-z0-9]{1,8}){0,2}", fullmatch=True)
_references = st.builds(
    Reference,
    registry=st.sampled_from(["docker.io", "registry:5000", "localhost", "[::1]:1", "a-b.example"]),
    repository=st.lists(_component, min_size=2, max_size=5).map("/".join),
    tag=st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    digest=st.none() | st.sampled_from([SHA, SHA512]),
).filter(lambda reference: reference.tag or reference.digest)


@given(_references, st.sampled_from(["docker.io", "registry:5000", "quay.io"]))
def test_canonical_text_means_the_same_everywhere(reference, default):
    """What one program prints, another one reads back, whatever its default registry."""
    assert parse_reference(str(reference), default_registry=default) == reference


@given(st.text(max_size=60) | st.text("ab/:@#.-_0", max_size=40))
def test_any_text_is_parsed_or_refused(text):
    """Nothing but our own errors comes out, and what comes out round-trips."""
    try:
        reference = parse_reference(text)
    except HpcimgError:
        return
    assert parse_reference(str(reference)) == reference
