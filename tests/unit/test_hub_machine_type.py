"""What a machine type may say, and the profile that it makes."""

from __future__ import annotations

import pytest

from hpcimg.errors import UsageError
from hpcimg.hub.machine_type import MachineType, split_name


def of(*words, **more):
    """A type of these words."""
    return MachineType("qnib", "type1", words, **more)


def test_names():
    """Its full name is for people, its login for machines."""
    assert of().full_name == "qnib/type1"
    assert of().login_name == "qnib-type1"
    assert split_name("qnib/type1") == ("qnib", "type1")


@pytest.mark.parametrize("name", ["", "Type1", "-a", "a/b", "a b", "a" * 64, "é", "a\n", "a:b"])
def test_names_that_cannot_be(name):
    """A name stands in a login, a path and a URL."""
    with pytest.raises(UsageError, match="is not the name of a machine type"):
        MachineType("qnib", name)
    with pytest.raises(UsageError, match="is not the name of an account"):
        MachineType(name, "type1")


@pytest.mark.parametrize("name", ["type1", "/", "a/", "/b", "a/b/c"])
def test_full_names_that_cannot_be(name):
    """It is an account's name and a type's."""
    with pytest.raises(UsageError, match="is not the"):
        split_name(name)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"answer": "both"}, "answer is manifest or index, not 'both'"),
        ({"policy": "newest"}, "policy is compatible or exact, not 'newest'"),
        ({"words": ("",)}, "'' cannot be a feature of a machine type"),
        ({"words": ("a\nb",)}, r"'a\\nb' cannot be a feature"),
        ({"words": ("a" * 513,)}, "cannot be a feature"),
        ({"words": ("a",) * 101}, "a machine type has at most 100 features"),
        ({"words": ("windows/amd64",)}, "platform 'windows/amd64' is not known"),
        ({"words": ("linux/sparc",)}, "platform 'linux/sparc' is not known"),
        ({"description": "a\nb"}, "a description is one line of at most 500 characters"),
    ],
)
def test_what_cannot_be_said(more, says):
    """It is refused when it is made, so that what is kept can be used."""
    with pytest.raises(UsageError, match=says):
        MachineType("qnib", "type1", **more)


def test_profile_of_the_announcement():
    """Words are what a node of the type offers."""
    profile = of("cpu:broadwell", "nvcap:5.2").profile()
    assert (profile.node, profile.os, profile.architecture) == ("qnib/type1", "linux", "amd64")
    assert profile.target == "broadwell"
    assert [gpu.capability for gpu in profile.gpus.devices] == ["5.2"]
    assert profile.words == ("cpu:broadwell", "nvcap:5.2")
    assert profile.declared


def test_words_with_commas_are_several():
    """As the announcement's own list of features has them."""
    assert of("cpu:broadwell,nvcap:5.2").profile() == of("cpu:broadwell", "nvcap:5.2").profile()


@pytest.mark.parametrize(
    "words",
    [
        ("linux/arm64", "cpu:neoverse_n1"),
        ("linux/arm64:neoverse-n1",),
        ("LINUX/arm64,neoverse_n1",),
    ],
)
def test_a_platform_comes_first(words):
    """Alone or with words, in any spelling of --platform."""
    profile = of(*words).profile()
    assert (profile.architecture, profile.target) == ("arm64", "neoverse_n1")
    of(*words).check()


def test_a_variant_is_a_level():
    """A platform's variant offers that level of the processor."""
    assert of("linux/amd64/v3").profile().target == "x86_64_v3"


def test_no_words_are_any_machine():
    """Such a type gets what runs everywhere."""
    assert of().profile().target == "x86_64"


def test_free_words_are_taken():
    """Those that are known, in MetaHub's spelling, and those of the site alone."""
    free = of("instType:c5", "instSize:9xl", "instHT:off", "ourOwn", "site.rack:7")
    free.check()
    assert free.useless_words() == ()
    assert free.unknown_words() == ("ourown",)
    assert {"inst:c5", "instsize:9xl", "smt:off", "ourown"} < {*free.profile().words}


def test_the_announcements_misspelt_processor():
    """It stands for the one that was meant."""
    assert of("cpu:coffelake").profile().target == "skylake"


@pytest.mark.parametrize("word", ["cpu:nosuch", "cpu:skylake|zen3", "nvcap:high", "kernel:new"])
def test_words_that_never_match(word):
    """They are refused when asked, told when not, and the type serves without them."""
    kind = of("cpu:broadwell", word, "own")
    with pytest.raises(UsageError):
        kind.check()
    assert kind.useless_words() == (word,)
    assert kind.unknown_words() == ("own",)
    assert kind.profile() == of("cpu:broadwell", "own").profile()
