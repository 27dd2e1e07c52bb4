"""The YAML of an index: the announcements' forms, and every mistake named with its line."""

from __future__ import annotations

from itertools import pairwise
from textwrap import dedent

import pytest

from hpcimg.errors import UsageError
from hpcimg.workflow.recipe import Recipe, RecipeEntry, parse_recipe, recipe_text

MANIFEST_LISTS = dedent("""\
    image: qnib/cv-tf:1.12.0-rev9
    manifests:
      - image: qnib/cv-tf-dev:1.12.0-rev11
        platform:
          architecture: amd64
          os: linux
      - image: qnib/cv-nccl92-tf-dev:broadwell_nvcap52_1.12.0-rev2
        platform:
          features:
            - broadwell
            - nv-compute-5-2
            - nvidia-396-44
    """)
"""The form of the first announcement, its dashes restored."""


def test_first_announcement():
    """An entry may name features only; words stay as they are written."""
    recipe = parse_recipe(MANIFEST_LISTS)
    assert recipe.image == "qnib/cv-tf:1.12.0-rev9"
    assert recipe.entries == (
        RecipeEntry("qnib/cv-tf-dev:1.12.0-rev11", "linux", "amd64"),
        RecipeEntry(
            "qnib/cv-nccl92-tf-dev:broadwell_nvcap52_1.12.0-rev2",
            features=("broadwell", "nv-compute-5-2", "nvidia-396-44"),
        ),
    )


def test_all_keys():
    """Every key of the platform is read, in each spelling of the tools."""
    recipe = parse_recipe(
        dedent("""\
        image: a
        tags: [1.10, latest]
        manifests:
        - image: b
          platform: {architecture: arm, os: windows, variant: v6, osFeatures: [win32k],
                     os.version: 10.0.17763}
        """)
    )
    assert recipe.tags == ("1.10", "latest")
    assert recipe.entries[0] == RecipeEntry(
        "b", "windows", "arm", "v6", (), "10.0.17763", ("win32k",)
    )


AS_PRINTED = """\
image: qnib/cv-tf:1.12.0-rev9
manifests:
    image: qnib/cv-tf-dev:1.12.0-rev11
    platform:
      architecture: amd64
      os: linux
    image: qnib/cv-tf-dev:skylake_1.12.0-rev6
    platform:
      features:
        - skylake
    image: qnib/cv-nccl90-tf-dev:1.12.0-rev1
    platform:
      features:
        - nvidia-390-30
    image: qnib/cv-nccl92-tf-dev:1.12.0-rev11
    platform:
      features:
        - nvidia-396-44
    image: qnib/cv-nccl90-tf-dev:broadwell_1.12.0-rev2
    platform:
      features:
        - broadwell
        - nvidia-390-30
    image: qnib/cv-nccl92-tf-dev:broadwell_1.12.0-rev8
    platform:
      features:
        - broadwell
        - nvidia-396-44
    image: qnib/cv-nccl92-tf-dev:skylake_1.12.0-rev6
    platform:
      features:
        - nvidia-396-44
        - skylake
    image: qnib/cv-nccl92-tf-dev:skylake512_1.12.0-rev8
    platform:
      features:
        - nvidia-396-44
        - skylake512
    image: qnib/cv-nccl92-tf-dev:nvcap52_1.12.0-rev3
    platform:
      features:
        - nv-compute-5-2
        - nvidia-396-44
    image: qnib/cv-nccl92-tf-dev:nvcap37_1.12.0-rev4
    platform:
      features:
        - nv-compute-3-7
        - nvidia-396-44
    image: qnib/cv-nccl92-tf-dev:broadwell_nvcap52_1.12.0-rev2
    platform:
      features:
        - broadwell
        - nv-compute-5-2
        - nvidia-396-44
"""
"""The first announcement's YAML as its page shows it, without its dashes."""


def test_lost_dashes():
    """Entries without dashes are one mapping whose keys stand twice; the hint says what to do."""
    with pytest.raises(UsageError) as caught:
        parse_recipe(AS_PRINTED)
    assert caught.value.message == "manifest.yml:7: 'image' stands twice in one mapping"
    assert caught.value.hint == "begin each entry of manifests with a dash"


def test_written_recipe():
    """What is written is read as the same, numbers that are texts and generic entries too."""
    entries = (RecipeEntry("r:5000/a:1.10"), RecipeEntry("r:5000/a:b", features=("nvcap:5.2",)))
    recipe = Recipe("r:5000/a:latest", (), entries)
    assert parse_recipe(recipe_text(recipe)) == recipe


def test_annotations_and_weight():
    """Both stand beside `platform`; a weight may be less than nothing."""
    text = "image: a\nmanifests: [{image: b, weight: -3, annotations: {y: 2, x: 1.10}}]\n"
    (entry,) = parse_recipe(text).entries
    assert (entry.annotations, entry.weight) == ((("x", "1.10"), ("y", "2")), -3)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("weight: heavy", '"weight" must be a whole number'),
        ("weight: 1.5", '"weight" must be a whole number'),
        ("annotations: [a]", '"annotations" must be a mapping of keys to texts'),
        ("annotations: {a: [b]}", '"a" must be a text'),
        ("annotations: {org.hpcimg.features: avx}", "'org.hpcimg.features' is written by hpcimg"),
    ],
)
def test_bad_annotations(keys, message):
    """What cannot be written into the index is an error with its line."""
    with pytest.raises(UsageError) as caught:
        parse_recipe(f"image: a\nmanifests:\n- image: b\n  {keys}\n")
    assert caught.value.message == f"manifest.yml:4: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "m.yml:1: the file is empty"),
        ("- a\n", "m.yml:1: the file must be a mapping of keys to values"),
        ("image: a\n", 'm.yml:1: "manifests" has no entry'),
        ("image: a\nmanifests: []\n", 'm.yml:2: "manifests" has no entry'),
        (
            "image: a\nmanifests: [{image: b,\n  platform: {os: linux,\n  cpu: x}}]\n",
            "m.yml:4: 'cpu' is no key of platform",
        ),
        ("manifests: [{image: a}]\n", 'm.yml:1: "image" is missing'),
        ("image: a\nimage: b\n", "m.yml:2: 'image' stands twice in one mapping"),
        ("image: a\nmanifest: []\n", "m.yml:2: 'manifest' is no key of the file"),
        (
            "image: a\nmanifests:\n- image: b\n  platform:\n    cpu: x\n",
            "m.yml:5: 'cpu' is no key of platform",
        ),
        ("image: a\nmanifests:\n- platform: {}\n", 'm.yml:3: "image" is missing'),
        (
            "image: a\nmanifests:\n  image: b\n",
            'm.yml:2: "manifests" must be a list',
        ),
        (
            "image: a\nmanifests:\n- image: b\n  platform:\n    features:\n    - nvcap: 5.2\n",
            'm.yml:6: "features" must be a text',
        ),
        (
            "image: a\nmanifests:\n- image: b\n  platform: {osfeatures: [a], osFeatures: [b]}\n",
            'm.yml:4: "osFeatures" stands twice, in two spellings',
        ),
        ("image: [\n", "m.yml:2: not YAML"),
        ("image: a\n---\nimage: b\n", "m.yml:2: not YAML"),
        ("a: " + "[" * 50 + "]" * 50, "m.yml:1: more than 8 levels"),
    ],
)
def test_mistakes(text, message):
    """A mistake is an error that names the file, the line and what is wrong there."""
    with pytest.raises(UsageError) as caught:
        parse_recipe(text, source="m.yml")
    assert caught.value.message.startswith(message)


def test_forgotten_dashes():
    """The announcement without its dashes, as it was printed, is told from a good recipe."""
    text = "image: a\nmanifests:\n    image: b\n    platform:\n      os: linux\n    image: c\n"
    with pytest.raises(UsageError, match=r":6: 'image' stands twice") as caught:
        parse_recipe(text)
    assert caught.value.hint == "begin each entry of manifests with a dash"


def test_aliases_do_not_explode():
    """A small file that YAML aliases make huge is refused at once."""
    lines = ["a: &a [x,x,x,x,x,x,x,x,x,x]"]
    names = "abcdefg"
    for before, name in pairwise(names):
        lines.append(f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]")
    with pytest.raises(UsageError, match=r"more than 8 levels or 100000 values"):
        parse_recipe("\n".join(lines))
