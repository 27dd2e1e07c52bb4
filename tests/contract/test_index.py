"""`index push -`, `index create` and `index lint` as authors meet them."""

from __future__ import annotations

import io
import json
from textwrap import dedent

import pytest
from attached import attach, specification
from clients import client_for, reference_to
from registry import Registry

from hpcimg.cli import main
from hpcimg.errors import NotFoundError, RegistryError

TAGS = ("generic", "cpu-skylake", "cpu-broadwell", "cpu_broadwell-nvcap_52", "latest")
REPOSITORY = "qnib/plain-featuretest"
AS_PRINTED = dedent("""\
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
    """)
"""The first announcement's YAML, which lost its dashes on the page."""


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """Run a registry with the announcement's tags, and settings that name it the default one."""
    with Registry() as running:
        for tag in TAGS:
            running.put_image(REPOSITORY, tag, [tag.encode()])
        settings = tmp_path / "settings.yaml"
        settings.write_text(
            json.dumps(
                {
                    "default_registry": running.name,
                    "registries": {running.name: {"plain_http": True}},
                }
            )
        )
        monkeypatch.setenv("HPCIMG_SETTINGS", str(settings))
        monkeypatch.delenv("HPCIMG_DEBUG", raising=False)
        yield running


def feed(monkeypatch, text):
    """Let standard input be a text."""
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def recipe(*entries, image="bench"):
    """Write a recipe of (tag, features) pairs."""
    manifests = [
        {"image": f"{REPOSITORY}:{tag}", "platform": {"features": list(words)}}
        for tag, *words in entries
    ]
    return json.dumps({"image": image, "manifests": manifests})


def test_push_from_standard_input(registry, monkeypatch, capsys):
    """A dash reads the recipe from a pipe; a mistake in it is told with its line."""
    feed(monkeypatch, recipe(("generic",), ("cpu-skylake", "skylake")))
    assert main(["index", "push", "-"]) == 0
    assert capsys.readouterr().out.startswith("sha256:")
    assert len(json.loads(registry.documents["bench"]["latest"].raw)["manifests"]) == 2
    feed(monkeypatch, "image: a\nmanifest: []\n")
    assert main(["index", "push", "-"]) == 2
    assert "standard input:2: 'manifest' is no key" in capsys.readouterr().err


def test_push_of_lost_dashes(registry, tmp_path, capsys):
    """The announcement as printed is refused with its line and the way out; nothing is asked."""
    path = tmp_path / "manifest.yml"
    path.write_text(AS_PRINTED)
    assert main(["index", "push", str(path)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"hpcimg: {path}:7: 'image' stands twice in one mapping",
        "hpcimg: hint: begin each entry of manifests with a dash",
    ]
    assert registry.log() == []


def test_create(registry, capsys):
    """The tags become a recipe to review; what is left out is said on standard error."""
    assert main(["index", "create", "--from-tags", f"{REPOSITORY}:{{cpu}}-{{gpu}}"]) == 0
    shown = capsys.readouterr()
    start = f"{registry.name}/{REPOSITORY}"
    assert shown.out == dedent(f"""\
        image: {start}:latest
        manifests:
        - image: {start}:generic
        - image: {start}:cpu-broadwell
          platform:
            features:
            - cpu:broadwell
        - image: {start}:cpu-skylake
          platform:
            features:
            - cpu:skylake
        - image: {start}:cpu_broadwell-nvcap_52
          platform:
            features:
            - cpu:broadwell
            - nvcap:5.2
        """)
    assert shown.err == "hpcimg: left out: tag 'latest' does not fit the template\n"
    assert {seen.method for seen in registry.seen} == {"GET"}


def test_created_recipe_can_be_pushed(registry, monkeypatch, capsys):
    """`create | push -` and `create --push` make the same index."""
    arguments = ["index", "create", "--from-tags", f"{REPOSITORY}:{{cpu}}-{{gpu}}"]
    assert main([*arguments, "--to", "bench:piped"]) == 0
    feed(monkeypatch, capsys.readouterr().out)
    assert main(["index", "push", "-"]) == 0
    assert main([*arguments, "--to", "bench:direct", "--push"]) == 0
    first, second = capsys.readouterr().out.split()
    assert first == second
    documents = registry.documents["bench"]
    assert documents["piped"].raw == documents["direct"].raw
    (generic, *_) = json.loads(documents["piped"].raw)["manifests"]
    assert generic["platform"] == {"architecture": "amd64", "os": "linux"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--from-tags", "tool"], 2, "'tool' has no template"),
        (["--from-tags", "127.0.0.1:5000/tool"], 2, "has no template"),
        (["--from-tags", "tool:latest"], 2, "template 'latest' has no place for a word"),
        (["--from-tags", "nope:{cpu}"], 66, 'nope" is not in the registry'),
        (["--from-tags", f"{REPOSITORY}:{{driver}}-{{version}}"], 2, "no tag of"),
    ],
)
def test_create_refuses(registry, capsys, arguments, code, message):
    """A template that cannot be read or fits nothing ends with a hint, and writes nothing."""
    assert main(["index", "create", *arguments]) == code
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.out == ""
    assert not [seen for seen in registry.seen if seen.method != "GET"]


def test_tags_in_pages(registry):
    """A long list is asked for page by page, each tag once, sorted."""
    registry.page_size = 2
    found = client_for(registry).tags(reference_to(registry, REPOSITORY))
    assert found == tuple(sorted(TAGS))
    assert len(registry.seen) == 3


def test_tags_need_a_login_as_manifests_do(registry):
    """The list is asked for with the token of the repository."""
    registry.auth = "bearer"
    assert client_for(registry).tags(reference_to(registry, REPOSITORY)) == tuple(sorted(TAGS))


def test_tags_of_no_repository(registry):
    """A repository that is not there is NotFoundError."""
    with pytest.raises(NotFoundError, match="is not in the registry"):
        client_for(registry).tags(reference_to(registry, "nope"))


@pytest.mark.parametrize(
    ("body", "headers", "message"),
    [
        (b"<html>", {}, "it is not JSON"),
        (b"[]", {}, "it is not an object with a list"),
        (b'{"tags": {}}', {}, "it is not an object with a list"),
        (
            b'{"tags": []}',
            {"Link": '<http://evil.example/v2/other?n=1>; rel="next"'},
            "has more than 100 pages of tags",
        ),
    ],
)
def test_bad_tag_lists(registry, body, headers, message):
    """A list that is none or never ends is the registry's fault; no link leads elsewhere."""
    registry.fail("/tags/list", times=100, status=200, body=body, headers=headers)
    with pytest.raises(RegistryError, match=message):
        client_for(registry).tags(reference_to(registry, REPOSITORY))
    assert {seen.path for seen in registry.seen} == {f"/v2/{REPOSITORY}/tags/list"}


@pytest.mark.parametrize("body", [b'{"tags": null}', b'{"name": "x", "tags": ["a b", 1]}'])
def test_empty_tag_lists(registry, body):
    """A repository may have no tags, and what is no tag is none."""
    registry.fail("/tags/list", status=200, body=body)
    assert client_for(registry).tags(reference_to(registry, REPOSITORY)) == ()


def push(monkeypatch, *entries):
    """Push an index `bench` of these entries."""
    feed(monkeypatch, recipe(*entries))
    assert main(["index", "push", "-"]) == 0


def test_lint_clean(registry, monkeypatch, capsys):
    """What `index push` makes of a good recipe has nothing wrong with it."""
    push(monkeypatch, ("cpu-skylake", "skylake"), ("generic",))
    capsys.readouterr()
    assert main(["index", "lint", "--strict", "bench"]) == 0
    assert capsys.readouterr().out == "0 errors, 0 warnings, 0 notes\n"


def test_lint_warning(registry, monkeypatch, capsys):
    """A warning fails with --strict only; each finding has its place and what to do."""
    push(monkeypatch, ("generic",), ("cpu-skylake", "skylack"))
    capsys.readouterr()
    message = "skylack is no known word, so only a node told to offer it runs this"
    assert main(["index", "lint", "bench"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"warning: unknown-word: entry 2 (skylack): {message}",
        "    correct its spelling (docs/reference/features.md), or use site.KEY:VALUE",
        "0 errors, 1 warning, 0 notes",
    ]
    assert main(["index", "lint", "--strict", "bench"]) == 2


def test_lint_gives_one_hint_for_one_kind(registry, monkeypatch, capsys):
    """Two words of one entry are wrong in the same way."""
    push(monkeypatch, ("generic",), ("cpu-skylake", "skylack,brodwell"))
    capsys.readouterr()
    assert main(["index", "lint", "bench"]) == 0
    out = capsys.readouterr().out
    assert out.count("warning: unknown-word: entry 2 ") == 2
    assert out.count("    correct its spelling") == 1


def test_lint_recipe_with_labels(registry, tmp_path, capsys):
    """A recipe's file is judged as the index that it would make, with the images' own labels."""
    labels = {"org.hpcimg.features": "zen3"}
    registry.put_image(REPOSITORY, "cpu-skylake", [b"x"], config={"Labels": labels})
    path = tmp_path / "manifest.yml"
    path.write_text(recipe(("generic",), ("cpu-skylake", "skylake")))
    assert main(["index", "lint", "--json", str(path)]) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == str(path)
    assert [(each["severity"], each["code"]) for each in found["findings"]] == [
        ("error", "contradiction"),
        ("warning", "says-more"),
    ]
    assert found["findings"][0]["message"] == "no known CPU has both cpu:skylake and cpu:zen3"
    assert "bench" not in registry.documents


def test_lint_attached_artifact(registry, monkeypatch, capsys):
    """What an attached artifact demands is judged too, and what has no word of ours is shown."""
    push(monkeypatch, ("generic",), ("cpu-skylake", "skylake"))
    digest = json.loads(registry.documents["bench"]["latest"].raw)["manifests"][1]["digest"]
    registry.has_referrers = True
    attach(registry, "bench", digest, specification("NEWONE"))
    capsys.readouterr()
    assert main(["index", "lint", "--json", "bench"]) == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [(each["severity"], each["code"]) for each in found] == [
        ("warning", "unknown-word"),
        ("note", "says-more"),
    ]
    assert "nfd:cpu.cpuid:newone:exists" in found[0]["message"]


def test_lint_single_image(registry, capsys):
    """An image without an index has nothing to be judged."""
    assert main(["index", "lint", f"{REPOSITORY}:generic"]) == 2
    assert "is a single image, not an index" in capsys.readouterr().err
    assert registry.seen
