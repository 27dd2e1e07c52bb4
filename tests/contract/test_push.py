"""`index push` and `inspect` against a registry in this process."""

from __future__ import annotations

import json
from textwrap import dedent

import pytest
from clients import client_for, reference_to
from registry import Registry

from hpcimg.errors import NotFoundError, UsageError
from hpcimg.oci.model import DOCKER_INDEX, OCI_INDEX
from hpcimg.settings import Settings
from hpcimg.workflow.inspect import inspect_image, inspect_json, inspect_text
from hpcimg.workflow.push import push_index

ANNOUNCED = dedent("""\
    image: docker.io/qnib/bench
    manifests:
      -
        image: docker.io/qnib/plain-featuretest:cpu-skylake
        platform:
          architecture: amd64
          os: linux
          features:
            - cpu:skylake
      -
        image: docker.io/qnib/plain-featuretest:generic
        platform:
          architecture: amd64
          os: linux
      -
        image: docker.io/qnib/plain-featuretest:cpu_broadwell-nvcap_52
        platform:
          architecture: amd64
          os: linux
          features:
            - cpu:broadwell
            - nvcap:5.2
    """)
"""The announcement's form, with the generic entry not first."""

TARGET = "org.supercontainers.hardware.cpu.target.microarch"
TAGS = ("cpu-skylake", "generic", "cpu_broadwell-nvcap_52")


@pytest.fixture
def registry():
    """Run a registry with the images of the announcement, which share their first layer."""
    with Registry() as running:
        for tag in TAGS:
            running.put_image("qnib/plain-featuretest", tag, [b"base", tag.encode()])
        yield running


def settings_for(registry: Registry) -> Settings:
    """Let names without a registry, and Docker Hub's qnib, mean this registry."""
    aliases = {"docker.io/qnib": f"{registry.name}/qnib"}
    return Settings(default_registry=registry.name, aliases=aliases)


def push(registry, text, **options):
    """Push a recipe."""
    return push_index(text, settings_for(registry), client_for(registry), **options)


def test_push_announced(registry):
    """The announcement's YAML gives a Docker manifest list, generic entry first, words kept."""
    result = push(registry, ANNOUNCED)
    stored = registry.documents["qnib/bench"]["latest"]
    assert (stored.media_type, stored.raw) == (DOCKER_INDEX, result.raw)
    assert str(result.reference) == f"{registry.name}/qnib/bench:latest"
    document = json.loads(result.raw)
    assert [entry["platform"] for entry in document["manifests"]] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "amd64", "os": "linux", "features": ["cpu:skylake"]},
        {"architecture": "amd64", "os": "linux", "features": ["cpu:broadwell", "nvcap:5.2"]},
    ]
    assert [entry.get("annotations") for entry in document["manifests"]] == [
        None,
        {"org.hpcimg.features": "cpu:skylake", TARGET: "skylake"},
        {"org.hpcimg.features": "cpu:broadwell,nvcap:5.2", TARGET: "broadwell"},
    ]
    sizes = [len(entry.manifest.raw) for entry in result.entries]
    assert [entry["size"] for entry in document["manifests"]] == sizes


def test_pushed_images_stand_beside_the_index(registry):
    """Every image can be fetched from the index's repository; blobs were mounted, not moved."""
    result = push(registry, ANNOUNCED)
    client = client_for(registry)
    for entry in result.entries:
        pinned = result.reference.with_digest(entry.manifest.digest)
        manifest = client.fetch_document(pinned)
        assert client.has_blob(pinned, manifest.layers[1].digest)
    assert not [seen for seen in registry.seen if seen.method == "GET" and "/blobs/" in seen.path]


def test_push_again_changes_nothing(registry):
    """The same recipe gives the same bytes, and nothing is copied a second time."""
    first = push(registry, ANNOUNCED)
    registry.seen.clear()
    assert push(registry, ANNOUNCED).raw == first.raw
    assert [s for s in registry.log() if s.startswith(("PUT", "POST"))] == [
        "PUT /v2/qnib/bench/manifests/latest 201"
    ]


def test_dry_run(registry):
    """A dry run tells the digest and writes nothing."""
    result = push(registry, ANNOUNCED, dry_run=True)
    assert {seen.method for seen in registry.seen} == {"GET"}
    assert result.digest == push(registry, ANNOUNCED).digest
    assert result.to_json()["dryRun"]


def test_push_from_another_registry(registry):
    """Images of another registry are copied, blob by blob, and are whole there."""
    with Registry() as target:
        source = "qnib/plain-featuretest:generic"
        text = f"image: {target.name}/site/bench\nmanifests:\n- image: {source}\n"
        client = client_for(registry, target)
        result = push_index(text, settings_for(registry), client)
        document = client.fetch_document(result.reference)
        image = client.fetch_document(result.reference.with_digest(document.manifests[0].digest))
        assert [target.blobs[layer.digest] for layer in image.layers] == [b"base", b"generic"]


def test_push_from_several_registries(registry):
    """Images of several registries end in one; what is there already is not moved again."""
    with Registry() as other, Registry() as target:
        other.put_image("team/tool", "skylake", [b"base", b"skylake"])
        text = dedent(f"""\
            image: {target.name}/site/bench
            manifests:
              - image: qnib/plain-featuretest:generic
              - image: {other.name}/team/tool:skylake
                platform: {{features: [skylake]}}
            """)
        client = client_for(registry, other, target)
        reports = []
        result = push_index(text, settings_for(registry), client, on_progress=reports.append)
        document = client.fetch_document(result.reference)
        images = [
            client.fetch_document(result.reference.with_digest(entry.digest))
            for entry in document.manifests
        ]
        blobs = [[target.blobs[layer.digest] for layer in image.layers] for image in images]
        assert blobs == [[b"base", b"generic"], [b"base", b"skylake"]]
        base = images[0].layers[0].digest
        assert f"GET /v2/team/tool/blobs/{base} 200" not in other.log()
        assert {report.phase for report in reports} == {"copy"}
        assert reports[-1].done == reports[-1].total > 0
        # Beside the whole each build has a bar, which comes to its end.
        parts = {report.part: report for report in reports if report.part}
        assert [part.done == part.total > 0 for part in parts.values()] == [True, True]


@pytest.mark.parametrize(
    ("features", "target"),
    [
        ("broadwell, avx2", "broadwell"),
        ("broadwell, haswell", None),
        ("'cpu:broadwell|zen3'", None),
        ("'cpu:=broadwell'", None),
        ("nvcap52", None),
    ],
)
def test_target_annotation(registry, features, target):
    """The CPU target has an annotation of its own where there is exactly one."""
    image = "qnib/plain-featuretest:generic"
    entry = f"{{image: {image}, platform: {{features: [{features}]}}}}"
    document = json.loads(push(registry, f"image: b\nmanifests: [{entry}]\n").raw)
    assert document["manifests"][0]["annotations"].get(TARGET) == target


def test_annotations_and_weight(registry):
    """The author's annotations and weight are written beside the features, in a fixed order."""
    text = dedent("""\
        image: b
        manifests:
          - image: qnib/plain-featuretest:cpu-skylake
            platform: {features: [skylake]}
            weight: 10
            annotations:
              org.example.z: last
              org.example.a: 1.10
        """)
    (entry,) = json.loads(push(registry, text).raw)["manifests"]
    assert list(entry["annotations"].items()) == [
        ("org.example.a", "1.10"),
        ("org.example.z", "last"),
        ("org.hpcimg.features", "cpu:skylake"),
        ("org.hpcimg.weight", "10"),
        (TARGET, "skylake"),
    ]


def test_platform_from_the_image(registry):
    """What the recipe does not say of the platform is read from the image's config."""
    registry.put_image("a", "arm", [b"arm"], architecture="arm64", variant="v8")
    text = dedent("""\
        image: bench
        manifests:
          - image: qnib/plain-featuretest:generic
            platform:
              features: [nvidia-390-30]
          - image: a:arm
        """)
    document = json.loads(push(registry, text).raw)
    assert [entry["platform"] for entry in document["manifests"]] == [
        {"architecture": "arm64", "os": "linux"},
        {"architecture": "amd64", "os": "linux", "features": ["nvidia-390-30"]},
    ]


def test_oci_images_make_an_oci_index(registry):
    """One OCI manifest among the entries makes the whole an OCI index."""
    registry.put_image("a", "oci", [b"oci"], docker=False)
    text = "image: b\nmanifests:\n- image: a:oci\n- image: qnib/plain-featuretest:generic\n"
    assert push(registry, text).media_type == OCI_INDEX


def test_nested_index_with_one_image(registry):
    """An entry that is an index with one image and attestations stands for that image."""
    digest = registry.put_image("a", "one", [b"one"])
    nested = nest(
        registry, [("linux", "amd64", digest), ("unknown", "unknown", "sha256:" + 64 * "0")]
    )
    result = push(registry, f"image: b\nmanifests:\n- image: a:{nested}\n")
    assert [entry.manifest.digest for entry in result.entries] == [digest]


def test_nested_index_with_two_images(registry):
    """An entry that could be one of two images is refused, with the way out."""
    digest = registry.put_image("a", "one", [b"one"])
    nested = nest(registry, [("linux", "amd64", digest), ("linux", "amd64", digest)])
    with pytest.raises(UsageError, match=r'a:nested" is an index with 2 fitting images') as caught:
        push(registry, f"image: b\nmanifests:\n- image: a:{nested}\n")
    assert "by its digest" in caught.value.hint


def nest(registry, entries) -> str:
    """Store an index in repository `a` and return its tag."""
    manifests = [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest,
            "size": 1,
            "platform": {"os": os, "architecture": architecture},
        }
        for os, architecture, digest in entries
    ]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
    registry.put_document("a", "nested", OCI_INDEX, json.dumps(document).encode())
    return "nested"


def test_further_tags(registry):
    """`tags` pushes the same index under more tags."""
    result = push(registry, "image: b:1.2\ntags: ['1', latest]\n" + ANNOUNCED.split("\n", 1)[1])
    documents = registry.documents["b"]
    assert {documents[tag].raw for tag in ("1.2", "1", "latest")} == {result.raw}


def test_missing_image(registry):
    """An entry that is not in the registry is NotFoundError, before anything is written."""
    text = ANNOUNCED + "  - image: docker.io/qnib/nope\n"
    with pytest.raises(NotFoundError, match=r'/qnib/nope:latest" is not in the registry'):
        push(registry, text)
    assert {seen.method for seen in registry.seen} == {"GET"}


def test_target_with_a_digest(registry):
    """An index cannot be pushed under a digest that is given beforehand."""
    with pytest.raises(UsageError, match=r"names a digest"):
        push(registry, f"image: b@sha256:{64 * '0'}\nmanifests:\n- image: a\n")


def test_recipe_file(registry, tmp_path):
    """A path is read as a file; one that is missing is the user's error."""
    path = tmp_path / "manifest.yml"
    with pytest.raises(UsageError, match=r'could not read ".*manifest.yml": No such file'):
        push(registry, path)
    path.write_text(ANNOUNCED)
    assert push(registry, path).digest == push(registry, ANNOUNCED).digest


def test_inspect(registry):
    """`inspect` shows an index line by line as the announcement does."""
    result = push(registry, ANNOUNCED)
    settings, client = settings_for(registry), client_for(registry)
    lines = inspect_text(inspect_image("qnib/bench", settings, client)).splitlines()
    manifest = result.entries[2].manifest
    assert lines[:3] == [
        "Name:   qnib/bench (Type: application/vnd.docker.distribution.manifest.list.v2+json)",
        f"Digest: {result.digest}",
        " * Contains 3 manifest references:",
    ]
    assert lines[-14:] == [
        "",
        "3    Mfst Type: application/vnd.docker.distribution.manifest.v2+json",
        f"3       Digest: {manifest.digest}",
        f"3  Mfst Length: {len(manifest.raw)}",
        "3     Platform:",
        "3           -      OS: linux",
        "3           - OS Vers:",
        "3           - OS Feat: []",
        "3           -    Arch: amd64",
        "3           - Variant:",
        "3           - Feature: cpu:broadwell,nvcap:5.2",
        "3     # Layers: 2",
        f"         layer 1: digest = {manifest.layers[0].digest}",
        f"         layer 2: digest = {manifest.layers[1].digest}",
    ]


def test_inspect_json(registry):
    """The JSON form has the same facts under the specification's names."""
    result = push(registry, ANNOUNCED)
    found = inspect_json(inspect_image("qnib/bench", settings_for(registry), client_for(registry)))
    assert json.loads(json.dumps(found)) == found
    assert found["digest"] == result.digest
    assert found["manifests"][2]["platform"]["features"] == ["cpu:broadwell", "nvcap:5.2"]
    assert len(found["manifests"][2]["layers"]) == 2


def test_inspect_single_image(registry):
    """A single image shows its layers."""
    name = "qnib/plain-featuretest:generic"
    inspection = inspect_image(name, settings_for(registry), client_for(registry))
    assert inspection.reference == reference_to(registry, name)
    assert " * # Layers: 2" in inspect_text(inspection).splitlines()
    assert len(inspect_json(inspection)["layers"]) == 2
