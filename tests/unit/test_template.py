"""Tags read by a template, and the recipe that comes of them."""

from __future__ import annotations

import pytest

from hpcimg.errors import UsageError
from hpcimg.oci.reference import parse_reference
from hpcimg.template import parse_template
from hpcimg.workflow.create import recipe_of_tags

REPOSITORY = parse_reference("r.example:5000/qnib/tool")


@pytest.mark.parametrize(
    ("template", "tag", "words"),
    [
        ("{cpu}-{gpu}", "cpu_broadwell-nvcap_52", ("cpu:broadwell", "nvcap:5.2")),
        ("{cpu}-{gpu}", "broadwell_nvcap52", ("cpu:broadwell", "nvcap:5.2")),
        ("{cpu}_{gpu}", "broadwell-nvcap52", ("cpu:broadwell", "nvcap:5.2")),
        ("{cpu}-{gpu}", "skylake-avx512-sm_70", ("cpu:skylake_avx512", "nvcap:7.0")),
        ("{cpu}-{gpu}", "CPU-Skylake", ("cpu:skylake",)),
        ("{cpu}-{gpu}", "nvcap-7-0", ("nvcap:7.0",)),
        ("{cpu}-{gpu}", "zen3-gfx90a", ("amdgpu:gfx90a", "cpu:zen3")),
        ("{cpu}-{gpu}", "skylake512-nogpu", ("cpu:skylake_avx512",)),
        ("{cpu}-{gpu}", "generic", ()),
        ("{cpu}-{gpu}", "amd64", ()),
        ("{cpu}-{gpu}", "latest", None),
        ("{cpu}-{gpu}", "cpu-nosuch", None),
        ("{cpu}-{gpu}", "skylake-", None),
        ("{cpu}-{gpu}", "nvcap52-skylake", None),
        ("{cpu}", "broadwell-nvcap52", None),
        ("{driver}-{cpu}", "nvidia-396-44-broadwell", ("cpu:broadwell", "nvdrv:396.44")),
        ("{driver}-{cpu}", "cuda-12.4-zen3", ("cpu:zen3", "cuda:12.4")),
        ("{driver}-{cpu}", "cuda-new-zen3", None),
        ("{any}-{cpu}", "build7-zen3", ("cpu:zen3",)),
        ("{any}-{cpu}", "latest", None),
        ("1.2-{any}-{cpu}", "1.2-mpi", ()),
        ("1.2-{cpu}", "1.2-zen3", ("cpu:zen3",)),
        ("1.2-{cpu}", "1.2", ()),
        ("1.2-{cpu}", "1.3-zen3", None),
    ],
)
def test_words(template, tag, words):
    """A tag's words stand in their places, which may be missing; nothing else fits."""
    found = parse_template(template).read(tag)
    assert (None if found is None else found.words) == words


@pytest.mark.parametrize(
    ("tag", "words", "version"),
    [
        ("broadwell_nvcap52_1.12.0", ("cpu:broadwell", "nvcap:5.2"), "1.12.0"),
        ("skylake_1.12.0-rev6", ("cpu:skylake",), "1.12.0-rev6"),
        ("1.12.0", (), "1.12.0"),
        ("v2", (), "v2"),
    ],
)
def test_version(tag, words, version):
    """A version is no word, and has to be there."""
    template = parse_template("{cpu}_{gpu}_{version}")
    found = template.read(tag)
    assert (found.words, found.version) == (words, version)
    assert template.read("broadwell_nvcap52") is None


def test_hostile_tag():
    """The longest tag of a stranger is refused at once, however it could be divided."""
    template = parse_template("{any}-{version}-{cpu}-{gpu}-{driver}")
    assert template.read("-".join("1" * 64)[:127] + "x") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latest", "template 'latest' has no place for a word"),
        ("{cpu}-{arch}", "template '{cpu}-{arch}': '{arch}' is no place"),
        ("{cpu}-{cpu}", "template '{cpu}-{cpu}' has a place twice"),
    ],
)
def test_bad_template(text, message):
    """A template that cannot be read says why, and how to write one."""
    with pytest.raises(UsageError) as caught:
        parse_template(text)
    assert caught.value.message == message
    assert "{driver}" in caught.value.hint


def create(template, *tags, target=None):
    """Make the recipe of tags as (name, [(tag, words)], left out)."""
    made = recipe_of_tags(REPOSITORY, parse_template(template), tags, target)
    start = f"{REPOSITORY.name}:"
    entries = [(e.image.removeprefix(start), e.features) for e in made.recipe.entries]
    return made.recipe.image.removeprefix(start), entries, dict(made.left_out)


def test_recipe():
    """The generic image comes first; what does not fit, or says the same, is left out by name."""
    tags = ("amd64", "cpu-skylake", "generic", "latest", "nvcap_52", "skylake")
    assert create("{cpu}-{gpu}", *tags) == (
        "latest",
        [("amd64", ()), ("cpu-skylake", ("cpu:skylake",)), ("nvcap_52", ("nvcap:5.2",))],
        {
            "generic": "says the same as amd64",
            "latest": "does not fit the template",
            "skylake": "says the same as cpu-skylake",
        },
    )


def test_recipe_of_one_version():
    """The version names the index, unless its author does."""
    assert create("{cpu}_{version}", "1.12", "zen3_1.12")[0] == "1.12"
    assert create("{cpu}_{version}", "zen3_1.12", target="other:x")[0] == "other:x"


def test_recipe_of_several_versions():
    """Builds of two versions never stand behind one name."""
    with pytest.raises(UsageError, match=r'qnib/tool" have 2 versions: 1.12, 1.13') as caught:
        create("{cpu}_{version}", "zen3_1.12", "zen3_1.13")
    assert "in the place of {version}" in caught.value.hint


def test_recipe_of_nothing():
    """A template that no tag fits makes no empty index."""
    with pytest.raises(UsageError, match=r'no tag of "r.example:5000/qnib/tool" fits'):
        create("{cpu}", "latest")
