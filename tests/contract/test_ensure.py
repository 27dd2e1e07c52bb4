"""From a registry on real sockets to an entry in a store, with a fake `apptainer` in between."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
from registry import OCI_MANIFEST, Registry
from sif import sif_bytes
from test_convert import write_program

from hpcimg.errors import (
    DigestMismatchError,
    NotFoundError,
    RegistryError,
    RuntimeFailure,
    StoreError,
)
from hpcimg.oci.client import RegistryClient
from hpcimg.oci.reference import parse_reference
from hpcimg.registry_settings import RegistrySettings
from hpcimg.runtime.convert import ApptainerConverter
from hpcimg.settings import Limits
from hpcimg.store.store import Store
from hpcimg.workflow.admission import Admission
from hpcimg.workflow.ensure import Wanted, ensure_image

LAYERS = [b"first layer" * 1000, b"second"]
SUCCEED = 'cp "{folder}/ready.sif" "$5"; cp -r layout "{folder}/layout"'


class Site:
    """A registry with one image, a store, a converter: all that a site has."""

    def __init__(self, registry: Registry, folder) -> None:
        self.registry = registry
        self.folder = folder
        self.store = Store(folder / "store", os.geteuid())
        self.reference = parse_reference(f"{registry.name}/qnib/bench:1")
        (folder / "ready.sif").write_bytes(sif_bytes())
        write_program(folder / "bin/mksquashfs", "echo zstd")
        self.install(SUCCEED)

    def install(self, build: str) -> None:
        """Let `apptainer build` do this."""
        answer = 'if [ "$1" = --version ]; then echo "apptainer version 1.4.5"; exit; fi\n'
        write_program(self.folder / "bin/apptainer", answer + build.format(folder=self.folder))

    def put(self, **manifest) -> str:
        """Push an OCI image whose manifest has these fields changed."""
        self.registry.put_image("qnib/bench", "1", LAYERS, docker=False)
        document = json.loads(self.registry.documents["qnib/bench"]["1"].raw)
        raw = json.dumps({**document, **manifest}).encode()
        return self.registry.put_document("qnib/bench", "1", OCI_MANIFEST, raw)

    def ensure(self, digest: str, index: str = "", rules: dict | None = None, **limits):
        """Ask for the image as the command line does, with a client of its own."""
        settings = RegistrySettings(plain_http=True, **(rules or {}))
        registries = {self.registry.name: settings}
        client = RegistryClient(
            registries, lambda *_: None, listed_only=True, sleep=lambda _seconds: None
        )
        return ensure_image(
            Wanted(self.reference, digest, ("cpu:broadwell",), "4711", index=index),
            store=self.store,
            client=client,
            converter=ApptainerConverter("apptainer", f"{self.folder}/bin:/usr/bin:/bin"),
            limits=replace(Limits(), **limits),
            admission=Admission(registries, lambda: client),
            on_progress=self.seen.append,
        )

    @property
    def seen(self) -> list:
        """What was reported; made at the first use."""
        return self.__dict__.setdefault("_seen", [])

    def is_untouched(self, digest: str) -> bool:
        """Tell that there is neither an entry nor anything half-made."""
        found = self.store.lookup(digest, "apptainer-1.4.5-1")
        return found is None and list((self.store.root / "tmp").iterdir()) == []


@pytest.fixture
def site(tmp_path):
    """Give a site whose registry runs."""
    with Registry() as registry:
        yield Site(registry, tmp_path)


@pytest.mark.parametrize("docker", [True, False], ids=["docker", "oci"])
def test_an_image_is_fetched_converted_and_kept(site, docker):
    """One request for the manifest and one for each blob; the next time none at all."""
    digest = site.registry.put_image("qnib/bench", "1", LAYERS, docker=docker)
    entry = site.ensure(digest)
    assert entry.image.read_bytes() == sif_bytes()
    assert entry.record.references == (str(site.reference),)
    assert entry.record.features == ("cpu:broadwell",)
    assert [layer.size for layer in entry.record.layers] == [len(raw) for raw in LAYERS]
    raw = site.registry.documents["qnib/bench"]["1"].raw
    assert (entry.path / "manifest.json").read_bytes() == raw
    assert json.loads((entry.path / "config.json").read_bytes())["os"] == "linux"
    assert len(site.registry.log()) == 4
    assert site.ensure(digest) == entry
    assert len(site.registry.log()) == 4


def test_the_converter_gets_an_oci_layout(site):
    """The layout names the one manifest by the registry's digest and media type."""
    digest = site.registry.put_image("qnib/bench", "1", LAYERS)
    site.ensure(digest)
    layout = site.folder / "layout"
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    stored = site.registry.documents["qnib/bench"]["1"]
    assert json.loads((layout / "index.json").read_text())["manifests"] == [
        {"mediaType": stored.media_type, "digest": digest, "size": len(stored.raw)}
    ]
    for path in (layout / "blobs/sha256").iterdir():
        known = {**site.registry.blobs, digest: stored.raw}
        assert path.read_bytes() == known[f"sha256:{path.name}"]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        ("true", "was not made"),
        ('echo "#!/bin/sh" >"$5"', "has no file system"),
        ('head -c 32800 "{folder}/ready.sif" >"$5"', "has no file system, or one that goes beyond"),
    ],
    ids=["nothing", "a script", "half an image"],
)
def test_what_apptainer_made_is_looked_at(site, build, words):
    """It has parsed bytes that a user chose: a result that nobody can mount is not kept."""
    site.install(build)
    digest = site.put()
    with pytest.raises(RuntimeFailure, match=words):
        site.ensure(digest)
    assert site.is_untouched(digest)


def test_progress_ends_with_all_bytes(site):
    """Fetching counts config and layers up to their sum, then converting and publishing follow."""
    site.ensure(site.put())
    fetched = [one for one in site.seen if one.phase == "fetch" and one.total]
    assert fetched[-1].done == fetched[-1].total > sum(len(raw) for raw in LAYERS)
    phases = list(dict.fromkeys(one.phase for one in site.seen))
    assert phases == ["fetch", "convert", "publish"]


def test_a_repeated_layer_is_fetched_once(site):
    """An image may hold one layer many times; the registry sees one request for it."""
    digest = site.registry.put_image("qnib/bench", "1", [LAYERS[1], LAYERS[0], LAYERS[1]])
    entry = site.ensure(digest)
    assert len(entry.record.layers) == 3
    assert len([line for line in site.registry.log() if "/blobs/" in line]) == 3


def test_wrong_bytes_leave_nothing(site):
    """A blob that is not what its digest names: an error, no entry, no half-made file."""
    digest = site.put()
    site.registry.fail("/blobs/", corrupt=True, times=99)
    with pytest.raises(DigestMismatchError, match=r"qnib/bench@sha256:.* has the digest"):
        site.ensure(digest)
    assert site.is_untouched(digest)


def test_an_image_that_is_gone_is_not_found(site):
    """The registry's own refusal comes out unchanged."""
    digest = "sha256:" + "00" * 32
    with pytest.raises(NotFoundError, match="qnib/bench"):
        site.ensure(digest)
    assert site.is_untouched(digest)


def test_an_index_is_no_image(site):
    """The digest has to be the picked manifest's; an index would be converted to who knows what."""
    raw = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    kind = "application/vnd.oci.image.index.v1+json"
    digest = site.registry.put_document("qnib/bench", "1", kind, raw)
    with pytest.raises(RegistryError, match="is an index, not one image"):
        site.ensure(digest)


@pytest.mark.parametrize(
    "kind",
    [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
        "application/x-squashfs",
    ],
)
def test_a_layer_of_another_kind_is_refused_before_it_is_fetched(site, kind):
    """Foreign and encrypted layers are refused by name, and no blob is asked for."""
    layer = {"mediaType": kind, "size": 1, "digest": "sha256:" + "11" * 32}
    digest = site.put(layers=[layer])
    with pytest.raises(RegistryError, match="which is not supported") as caught:
        site.ensure(digest)
    assert kind in caught.value.message
    assert [line for line in site.registry.log() if "/blobs/" in line] == []


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"layers": 1}, "has 2 layers, more than the limit of 1"),
        ({"compressed_bytes": 10_000}, "has 11.0 kB, more than the limit of 10.0 kB"),
    ],
    ids=["layers", "bytes"],
)
def test_an_image_beyond_a_limit_is_refused(site, limits, words):
    """The error names what the image has, the limit, and the setting that raises it."""
    digest = site.put()
    with pytest.raises(RegistryError, match=words) as caught:
        site.ensure(digest, **limits)
    assert next(iter(limits)) in caught.value.hint
    assert [line for line in site.registry.log() if "/blobs/" in line] == []


def test_an_image_that_cannot_fit_is_not_fetched(site):
    """When the layers alone are more than the free space, the error says both, before a fetch."""
    kind = "application/vnd.oci.image.layer.v1.tar"
    layer = {"mediaType": kind, "size": 10**16, "digest": "sha256:" + "11" * 32}
    digest = site.put(layers=[layer])
    with pytest.raises(StoreError, match=r"no space left; .* free, about 10000.0 TB needed"):
        site.ensure(digest, compressed_bytes=10**17)
    assert [line for line in site.registry.log() if "/blobs/" in line] == []


def test_a_conversion_without_room_is_a_matter_of_the_store(site):
    """Mksquashfs ran out of space: the error names the path, what is free and what is needed."""
    digest = site.put()
    site.install("echo 'Write failed because No space left on device' >&2; exit 1")
    with pytest.raises(StoreError, match=r"no space left; .* free, about 66\.\d kB needed"):
        site.ensure(digest)
    assert site.is_untouched(digest)
