"""Entries, with a registry on real sockets: nested indexes, and what the images say themselves."""

from __future__ import annotations

import json

import pytest
from attached import (
    attach,
    described,
    put_image,
    put_index,
    put_referrers_tag,
    specification,
    words,
)
from clients import client_for, reference_to
from registry import OCI_INDEX, OCI_MANIFEST, Registry

from hpcimg.errors import ContentError, NoCandidateError, RegistryError
from hpcimg.node.words import profile_from_words
from hpcimg.oci.client import RegistryClient
from hpcimg.oci.credentials import no_credential
from hpcimg.oci.model import Descriptor, Index, Platform
from hpcimg.oci.reference import parse_reference
from hpcimg.policy import Policy
from hpcimg.registry_settings import RegistrySettings
from hpcimg.workflow.entries import read_entries
from hpcimg.workflow.resolve import resolve

ARM64 = {"os": "linux", "architecture": "arm64"}
PLATFORM = "linux/amd64:haswell"


@pytest.fixture
def registry():
    """Run an empty registry."""
    with Registry() as running:
        yield running


def read(registry, name="tool:latest", client=None):
    """Read the entries of a name."""
    client = client or client_for(registry)
    reference = reference_to(registry, name)
    return read_entries(reference, client.fetch_document(reference), client)


def pick(registry, platform=PLATFORM):
    """Choose for a platform; the pick's digest."""
    profile = profile_from_words(platform)
    reference = reference_to(registry, "tool:latest")
    return resolve(reference, profile, client_for(registry), Policy()).require().descriptor.digest


def nested(digest, *features, **changes):
    """Make an entry that is an index itself."""
    return described(digest, *features, mediaType=OCI_INDEX, **changes)


def test_words_along_the_path_count_together(registry):
    """An image requires what each index around it does, and stands in their place."""
    image = put_image(registry, "tool", "one")
    inner = put_index(registry, "tool", "c", described(image, "nvcap:7.0"), described(image))
    middle = put_index(registry, "tool", "b", nested(inner, "cpu:zen2"))
    put_index(
        registry, "tool", "latest", described(image, "cpu:zen"), nested(middle), described(image)
    )
    found = read(registry)
    assert words(found) == ["cpu:zen", "cpu:zen2,nvcap:7.0", "cpu:zen2", ""]
    assert [entry.path for entry in found] == [(), (middle, inner), (middle, inner), ()]


def test_a_platform_is_inherited(registry):
    """An image without a platform has that of the index around it, which may require a variant."""
    image = put_image(registry, "tool", "one")
    inner = put_index(registry, "tool", "b", described(image, platform=None))
    put_index(registry, "tool", "latest", nested(inner, platform={**ARM64, "variant": "v9"}))
    (entry,) = read(registry)
    assert entry.descriptor.platform == Platform("linux", "arm64")
    assert [(str(one.feature), one.source) for one in entry.requirements] == [
        ("cpu:armv9.0a", "variant")
    ]


def test_platforms_along_the_path_must_agree(registry):
    """An image for another architecture than the index around it is none that can be chosen."""
    image = put_image(registry, "tool", "one")
    inner = put_index(registry, "tool", "b", described(image, platform=ARM64))
    put_index(registry, "tool", "latest", nested(inner))
    (entry,) = read(registry)
    assert entry.skip == "is for linux/arm64 inside an index for linux/amd64"


def test_indexes_are_read_four_deep(registry):
    """A fifth index inside the others is not read."""
    at = described(put_image(registry, "tool", "one"))
    for level in range(4):
        at = nested(put_index(registry, "tool", f"level{level}", at))
    put_index(registry, "tool", "latest", at)
    (entry,) = read(registry)
    assert (len(entry.path), entry.skip) == (4, "")
    put_index(registry, "tool", "latest", nested(put_index(registry, "tool", "more", at)))
    (entry,) = read(registry)
    assert entry.skip == "is an index more than 4 indexes deep"
    assert len(entry.path) == 4


def test_an_index_that_holds_itself():
    """A cycle ends where it closes. No registry can have one, as long as nobody breaks sha256."""

    class Broken:
        """Gives an index under a digest that its own entry names."""

        def fetch_document(self, reference):
            entry = Descriptor(OCI_INDEX, "sha256:" + "b" * 64, 7)
            return Index(b"", reference.digest or "sha256:" + "a" * 64, OCI_INDEX, (entry,))

    source = Broken()
    reference = parse_reference("r.example/tool")
    (entry,) = read_entries(reference, source.fetch_document(reference), source)
    assert entry.skip == "is an index that holds itself"


def test_a_thousand_entries_in_total(registry):
    """The limit of one index holds for all that it holds, empty indexes too."""
    image = described(put_image(registry, "tool", "one"), "cpu:zen")
    inner = nested(put_index(registry, "tool", "b", *[image] * 400))
    put_index(registry, "tool", "latest", inner, inner, *[image] * 198)
    assert len(read(registry)) == 998
    put_index(registry, "tool", "latest", inner, inner, *[image] * 199)
    with pytest.raises(RegistryError, match=r'/tool:latest" has more than 1000 entries, those of'):
        read(registry)
    many = nested(put_index(registry, "tool", "c", *[nested(put_index(registry, "tool", "d"))] * 9))
    put_index(registry, "tool", "latest", *[many] * 101)
    with pytest.raises(RegistryError, match="has more than 1000 entries"):
        read(registry)


def test_an_index_that_is_not_there(registry):
    """What a registry lacks is left out, and said; the rest can be chosen."""
    image = described(put_image(registry, "tool", "one"), "cpu:haswell")
    put_index(registry, "tool", "latest", nested("sha256:" + "0" * 64), image)
    assert [entry.skip for entry in read(registry)] == [
        "is an index that the registry does not have",
        "",
    ]


def test_attestations_stay(registry):
    """What build tools attach is no image, and nothing of it is read."""
    unknown = {"os": "unknown", "architecture": "unknown"}
    image = put_image(registry, "tool", "one")
    put_index(registry, "tool", "latest", described(image, platform=unknown))
    (entry,) = read(registry)
    assert entry.descriptor.platform.is_unknown
    assert [line.split()[1] for line in registry.log()] == ["/v2/tool/manifests/latest"]


def test_a_missing_platform_is_read_from_the_config(registry):
    """An entry without any platform is for what its image's config says."""
    image = registry.put_image("tool", "one", [b"one"], architecture="x86_64", variant="v3")
    put_index(registry, "tool", "latest", described(image, "avx2", platform=None))
    (entry,) = read(registry)
    assert (entry.descriptor.platform.os, entry.descriptor.platform.architecture) == (
        "linux",
        "amd64",
    )
    assert words([entry]) == ["cpu:x86_64_v3"]


def test_a_wordless_entry_is_read(registry):
    """Labels and NVIDIA's variables of an image say what its entry does not."""
    labels = put_image(registry, "tool", "one", Labels={"org.hpcimg.features": "cpu:zen3"})
    cuda = put_image(registry, "tool", "two", Env=["NVIDIA_REQUIRE_CUDA=cuda>=12.4"])
    plain = put_image(registry, "tool", "three")
    put_index(registry, "tool", "latest", described(labels), described(cuda), described(plain))
    assert words(read(registry)) == ["cpu:zen3", "cuda:12.4", ""]


def test_words_of_an_image_decide(registry):
    """Entries that differ in their images' labels alone are told apart."""
    generic = put_image(registry, "tool", "generic")
    broadwell = put_image(registry, "tool", "one", Labels={"org.hpcimg.features": "cpu:broadwell"})
    put_index(registry, "tool", "latest", described(generic), described(broadwell))
    assert pick(registry, "linux/amd64:broadwell") == broadwell
    assert pick(registry, "linux/amd64:haswell") == generic


def test_the_pick_must_stand_what_its_image_says(registry):
    """An entry whose image requires more than the entry says is not taken where it cannot run."""
    generic = put_image(registry, "tool", "generic")
    liar = put_image(registry, "tool", "one", Labels={"org.hpcimg.features": "cpuflag:avx512f"})
    put_index(registry, "tool", "latest", described(generic), described(liar, "cpu:haswell"))
    assert pick(registry, "linux/amd64:haswell") == generic
    assert pick(registry, "linux/amd64:skylake_avx512") == liar


def test_the_config_knows_the_architecture(registry):
    """An entry that calls an image what it is not is refused, as the image would fail."""
    image = registry.put_image("tool", "one", [b"one"], architecture="arm64")
    put_index(registry, "tool", "latest", described(image, "cpu:haswell"))
    with pytest.raises(NoCandidateError, match=r"is for linux/arm64 .this node is linux/amd64"):
        pick(registry)


def test_images_of_other_platforms_are_not_read(registry):
    """A choice reads what could be chosen, each image once."""
    image, other = put_image(registry, "tool", "one"), put_image(registry, "tool", "two")
    put_index(
        registry,
        "tool",
        "latest",
        described(image),
        described(image),
        described(other, platform=ARM64),
    )
    assert pick(registry) == image
    asked = [line.split()[1] for line in registry.log()]
    assert not [path for path in asked if other in path]
    assert len(asked) == len(set(asked)) == 5


@pytest.mark.parametrize("has_referrers", [True, False])
def test_an_attached_artifact_requires(registry, has_referrers):
    """The newest compatibility artifact counts, by the referrers API or by the tag in its place."""
    registry.has_referrers = has_referrers
    image = put_image(registry, "tool", "one")
    attach(registry, "tool", image, specification("AVX512F"), "2026-02-01T00:00:00Z")
    attach(registry, "tool", image, specification("SSE42"), "2026-01-01T00:00:00Z")
    attach(registry, "tool", image, b"{}", "2026-03-01T00:00:00Z", kind="application/x-other")
    if not has_referrers:
        put_referrers_tag(registry, "tool", image)
    put_index(registry, "tool", "latest", described(image))
    (entry,) = read(registry)
    assert words([entry]) == ["cpuflag:avx512f"]
    assert [one.source for one in entry.requirements] == ["compatibility"]


def test_a_lone_image_is_read_as_well(registry):
    """An image without an index has its labels and its artifact, too."""
    registry.has_referrers = True
    image = put_image(registry, "tool", "latest", Labels={"org.hpcimg.features": "cpu:zen3"})
    attach(registry, "tool", image, specification("AVX2"))
    assert words(read(registry)) == ["cpu:zen3,cpuflag:avx2"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 501])
def test_a_registry_without_referrers(registry, status):
    """However it says that it has none, it is asked once, and the image requires no more."""
    images = [put_image(registry, "tool", name) for name in ("one", "two")]
    put_index(registry, "tool", "latest", *map(described, images))
    registry.fail("/referrers/", status=status, times=99)
    client = client_for(registry)
    assert words(read(registry, client=client)) == ["", ""]
    assert len([line for line in registry.log() if "/referrers/" in line]) == 1
    registry.seen.clear()
    read(registry, client=client)
    assert not [line for line in registry.log() if "/referrers/" in line]


def test_a_page_is_no_answer(registry):
    """A front that answers everything with a page has no referrers."""
    image = put_image(registry, "tool", "one")
    put_index(registry, "tool", "latest", described(image))
    registry.fail("/referrers/", status=200, body=b"<html>", headers={"Content-Type": "text/html"})
    assert words(read(registry)) == [""]


def test_a_registry_that_fails_is_not_one_without(registry):
    """Nothing is chosen while an artifact may be there that could not be read."""
    image = put_image(registry, "tool", "one")
    put_index(registry, "tool", "latest", described(image))
    registry.fail("/referrers/", status=500, times=99)
    with pytest.raises(RegistryError, match="HTTP status 500") as caught:
        read(registry)
    assert caught.value.temporary


def test_a_registry_that_is_not_to_be_asked(registry):
    """Where the settings say so, nobody looks for artifacts."""
    image = put_image(registry, "tool", "one")
    put_index(registry, "tool", "latest", described(image))
    settings = {registry.name: RegistrySettings(plain_http=True, referrers=False)}
    client = RegistryClient(settings, no_credential, listed_only=True)
    assert words(read(registry, client=client)) == [""]
    asked = [line.split()[1] for line in registry.log()]
    assert not [path for path in asked if "referrers" in path or "/sha256-" in path]


@pytest.mark.parametrize("place", ["annotation", "features", "labels", "manifest"])
def test_more_words_than_are_read(registry, place):
    """No word is dropped in silence: the entry is none that can be chosen, and says why."""
    many = [f"w{at}" for at in range(257)]
    said = {"org.hpcimg.features": ",".join(many)}
    labels = {"Labels": {"org.hpcimg.features": ",".join(many)}} if place == "labels" else {}
    image = put_image(registry, "tool", "one", **labels)
    if place == "manifest":
        document = json.loads(registry.documents["tool"][image].raw)
        raw = json.dumps({**document, "annotations": said}).encode()
        image = registry.put_document("tool", "one", OCI_MANIFEST, raw)
    words_of_entry = many if place == "features" else ()
    changes = {"annotations": said} if place == "annotation" else {}
    put_index(registry, "tool", "latest", described(image, *words_of_entry, **changes))
    (entry,) = read(registry)
    assert entry.skip == "has more than 256 words"
    assert len(entry.requirements) <= 257


def test_as_many_words_as_are_read(registry):
    """The limit itself is allowed, and equal words are one."""
    image = put_image(registry, "tool", "one")
    many = [f"w{at}" for at in range(256)]
    put_index(registry, "tool", "latest", described(image, *many, *many))
    (entry,) = read(registry)
    assert (entry.skip, len(entry.features)) == ("", 256)


def test_a_lone_image_of_too_many_words(registry):
    """There is nothing else behind the name, so it is an error."""
    labels = {"org.hpcimg.features": ",".join(f"w{at}" for at in range(300))}
    put_image(registry, "tool", "latest", Labels=labels)
    with pytest.raises(ContentError, match=r'/tool:latest" has more than 256 words'):
        read(registry)


@pytest.mark.parametrize("trouble", ["missing", "garbage"])
@pytest.mark.parametrize("features", [(), ("cpu:haswell",)])
def test_a_broken_image_does_not_stop_the_others(registry, caplog, trouble, features):
    """It is skipped with its reason, and told; the others can be chosen."""
    good = put_image(registry, "tool", "good")
    document = json.loads(registry.documents["tool"][good].raw)
    raw = b"no json"
    digest = "sha256:" + "0" * 64 if trouble == "missing" else registry.put_blob("tool", raw)
    document["config"] |= {"digest": digest, "size": len(raw)}
    bad = registry.put_document("tool", "bad", OCI_MANIFEST, json.dumps(document).encode())
    put_index(registry, "tool", "latest", described(good), described(bad, *features))
    assert pick(registry) == good
    assert f"{bad} has a config that cannot be read: " in caplog.text
    if not features:
        assert read(registry)[1].skip.startswith("has a config that cannot be read: ")


def test_only_broken_images(registry):
    """The refusal says what is wrong with them."""
    labels = {"org.hpcimg.features": ",".join(f"w{at}" for at in range(300))}
    image = put_image(registry, "tool", "one", Labels=labels)
    put_index(registry, "tool", "latest", described(image))
    with pytest.raises(NoCandidateError, match="the generic image has more than 256 words"):
        pick(registry)


def test_a_failing_registry_is_no_broken_image(registry):
    """While it fails, what the image requires is not known."""
    image = put_image(registry, "tool", "one")
    put_index(registry, "tool", "latest", described(image))
    registry.fail("/blobs/", status=503, times=99)
    with pytest.raises(RegistryError) as caught:
        pick(registry)
    assert caught.value.temporary
