"""Images that no registry has: layouts are chosen from as a registry's index, files run as are."""

from __future__ import annotations

import json

import pytest
from sif import sif_bytes
from test_cli import WORDS, call, site  # noqa: F401 - a fixture

from hpcimg.errors import DigestMismatchError, NotFoundError, UsageError
from hpcimg.oci.image_layout import ImageLayout
from hpcimg.runtime.image_file import form_of
from hpcimg.settings import read_settings
from hpcimg.workflow.get import get

REF_NAME = "org.opencontainers.image.ref.name"


@pytest.fixture
def layout(site, tmp_path):  # noqa: F811
    """The registry's image `tool` as a layout, in a directory whose name has a space."""
    folder = tmp_path / "my layout"
    files = {**site.registry.blobs, **_documents(site.registry)}
    for digest, raw in files.items():
        algorithm, _, hexadecimal = digest.partition(":")
        path = folder / "blobs" / algorithm / hexadecimal
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    index = site.registry.documents["tool"]["latest"].raw
    write_index(folder, json.loads(index)["manifests"])
    return folder


def _documents(registry):
    return {
        digest: document.raw
        for digest, document in registry.documents["tool"].items()
        if digest.startswith("sha256:")
    }


def write_index(folder, entries):
    """Write what the layout lists."""
    text = json.dumps({"schemaVersion": 2, "manifests": entries})
    (folder / "index.json").write_text(text)


def entries_of(folder):
    """Read what the layout lists."""
    return json.loads((folder / "index.json").read_text())["manifests"]


def named(entry, name):
    """Give an entry of a layout a name."""
    return {**entry, "annotations": {REF_NAME: name}}


@pytest.mark.parametrize("spell", ["oci:{}", "{}"])
def test_a_nodes_choice_is_made_of_a_layouts_entries(site, layout, capsys, spell):  # noqa: F811
    """By the selection that a registry's index has; the directory needs no `oci:`."""
    name = spell.format(layout)
    code, out, _ = call(capsys, "resolve", name, "--platform", WORDS)
    assert (code, out) == (0, f"oci:{layout}@{site.digests[1]}\n")
    code, out, _ = call(capsys, "explain", name, "--platform", WORDS)
    assert code == 0
    assert "cpu:broadwell" in out


def test_a_layouts_image_goes_into_the_users_own_store(site, layout):  # noqa: F811
    """Converted once, and found there the next time; no registry is asked."""
    site.registry.stop()
    settings = read_settings()
    name = f"oci:{layout}@{site.digests[1]}"
    first = get(name, settings, scope="own", gpus=())
    again = get(name, settings, scope="own", gpus=())
    assert first.entry.record.digest == site.digests[1]
    assert (first.source, again.source) == ("built", "store")
    assert first.entry.record.references == (f"oci:{layout}@{site.digests[1]}",)


def test_a_tag_is_one_of_the_layouts_names(layout, site):  # noqa: F811
    """As tools write it: alone, or at the end of a whole name; several of one name are builds."""
    one, two, three = entries_of(layout)
    write_index(layout, [named(one, "a"), named(two, "host/b:v"), named(three, "a")])
    opened = ImageLayout(layout)
    assert opened.named("v").digest == site.digests[1]
    made = opened.fetch_document(opened.named("a"))
    assert [each.digest for each in made.manifests] == [site.digests[0], site.digests[2]]
    with pytest.raises(UsageError, match="has several images") as ambiguous:
        opened.named("")
    assert ambiguous.value.hint == "write oci:DIRECTORY:TAG with one of 'a', 'host/b:v'"
    with pytest.raises(NotFoundError, match="has no image 'c'"):
        opened.named("c")


def test_a_tag_of_several_names_means_none_of_them(layout, site):  # noqa: F811
    """Two images with one tag are no builds of each other; the tag alone is the nearer name."""
    one, two, three = entries_of(layout)
    write_index(layout, [named(one, "host/a:v"), named(two, "host/b:v"), named(three, "w")])
    with pytest.raises(UsageError, match="has several images with the tag 'v'") as ambiguous:
        ImageLayout(layout).named("v")
    assert ambiguous.value.hint.endswith("the digest of one of 'host/a:v', 'host/b:v'")
    write_index(layout, [named(one, "host/a:v"), named(two, "v"), named(three, "w")])
    assert ImageLayout(layout).named("v").digest == site.digests[1]
    # As `docker save a:v b:v` does.
    for each in (one, two):
        each["annotations"] = {REF_NAME: "v", "io.containerd.image.name": each["digest"] + ":v"}
    write_index(layout, [one, two])
    with pytest.raises(UsageError, match="has several images with the tag 'v'"):
        ImageLayout(layout).named("v")


def test_a_layouts_blob_is_checked(site, layout):  # noqa: F811
    """A changed one runs no more than a registry's would."""
    digest = site.digests[0]
    path = layout / "blobs/sha256" / digest.removeprefix("sha256:")
    path.write_bytes(path.read_bytes() + b" ")
    opened = ImageLayout(layout)
    with pytest.raises(DigestMismatchError):
        opened.fetch_document(opened.at("", digest))


def test_an_unwhole_layout_names_what_it_lacks(tmp_path):
    """And no other error than one of ours comes out."""
    with pytest.raises(NotFoundError, match=r"could not read 'index\.json' of the OCI layout"):
        ImageLayout(tmp_path).named("")


@pytest.mark.parametrize(
    ("make", "form"),
    [
        (lambda path: path.write_bytes(sif_bytes()), "file"),
        (lambda path: path.write_bytes(b"hsqs" + bytes(96)), "file"),
        (lambda path: (path / "usr").mkdir(parents=True), "sandbox"),
        (lambda path: (path.mkdir(), (path / "oci-layout").write_text("{}")), "layout"),
    ],
)
def test_a_paths_form_is_seen(tmp_path, make, form):
    """By its first bytes, not by its name."""
    path = tmp_path / "an image"
    make(path)
    assert form_of(path) == form


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda _: None, "could not open image '.*': No such file or directory"),
        (lambda path: path.write_text("#!/bin/sh\n"), "'.*' is no image"),
        (lambda path: path.mkdir(), "directory '.*' holds no image"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path, make, why):
    """Missing, of another format, or any directory."""
    path = tmp_path / "it"
    make(path)
    with pytest.raises((NotFoundError, UsageError), match=why):
        form_of(path)


def test_a_file_runs_as_it_is(site, tmp_path, capsys, monkeypatch):  # noqa: F811
    """From where the command stands; nothing is fetched or kept."""
    (tmp_path / "my images").mkdir()
    (tmp_path / "my images/a b.sif").write_bytes(sif_bytes())
    monkeypatch.chdir(tmp_path)
    site.registry.stop()
    code, out, _ = call(capsys, "run", "--dry-run", "./my images/a b.sif", "--", "true")
    assert code == 0
    assert out.endswith(f" '{tmp_path}/my images/a b.sif' true\n")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("library://a/b", "fetch it once with `apptainer pull FILE.sif NAME`, and name the file"),
        ("oras://h/b", "fetch it once with `apptainer pull FILE.sif NAME`, and name the file"),
        ("dockerd://b", "turn it into a layout with `skopeo copy` to oci:DIRECTORY"),
    ],
)
def test_other_tools_words_are_refused_with_what_to_do(site, capsys, name, hint):  # noqa: F811
    """Each with its scheme, and another way to the same image."""
    code, _, said = call(capsys, "run", name, "--", "true")
    assert code == 2
    assert f"has the scheme '{name.partition(':')[0]}'" in said[0]
    assert hint in said[1]
