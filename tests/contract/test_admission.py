"""The site's rules for images: which repositories, and whose signatures."""

from __future__ import annotations

import errno
import hashlib
import json
import os

import pytest
from attached import described, put_index
from signing import attach_bundle, bundle, make_signer, payload, sign_bundle, sign_classic
from test_ensure import site  # noqa: F401 - a fixture

from hpcimg.errors import (
    AuthenticationError,
    NotListedError,
    RegistryError,
    SettingsError,
    UnsignedError,
)
from hpcimg.registry_settings import KeyRule
from hpcimg.store.entry import RECORD

REPOSITORY = "qnib/bench"
CONVERTER = "apptainer-1.4.5-1"


@pytest.fixture
def signed(site, tmp_path):  # noqa: F811
    """A site that asks for signatures by one key; nothing is signed yet."""
    site.signer = make_signer(tmp_path)
    site.rules = {"signatures": (KeyRule("*", (str(site.signer.file),)),)}
    return site


def blobs_asked(site) -> int:  # noqa: F811
    """Count the layers of the image that were asked for."""
    layers = json.loads(site.registry.documents[REPOSITORY]["1"].raw)["layers"]
    names = {layer["digest"] for layer in layers}
    return sum(seen.path.rpartition("/")[2] in names for seen in site.registry.seen)


@pytest.mark.parametrize("kind", ["ecdsa", "rsa", "ed25519"])
@pytest.mark.parametrize("sign", [sign_classic, sign_bundle])
def test_a_signed_image_is_built(signed, tmp_path, kind, sign):
    """Each kind of key and each form of cosign counts, and the record says which key it was."""
    signer = make_signer(tmp_path, kind)
    signed.registry.has_referrers = True
    digest = signed.put()
    sign(signed.registry, REPOSITORY, digest, signer)
    entry = signed.ensure(digest, rules=signed.rules)
    (found,) = entry.record.signatures
    assert found.digest == digest
    assert found.key.startswith("sha256:")
    assert json.loads((entry.path / RECORD).read_text())["signatures"] == [
        {"key": found.key, "digest": digest}
    ]


def test_an_unsigned_image_is_refused_before_any_layer(signed):
    """The error names the image, the keys, what was found, and what to do."""
    digest = signed.put()
    with pytest.raises(UnsignedError) as caught:
        signed.ensure(digest, rules=signed.rules)
    image = f"{signed.registry.name}/{REPOSITORY}@{digest}"
    assert caught.value.message == (
        f'"{image}" bears no signature that this site asks for ({signed.signer.file}): '
        "no signature of it was found"
    )
    assert caught.value.hint.startswith("sign the image, or the index that lists it, with `cosign")
    assert not isinstance(caught.value, AuthenticationError), "a user's login would not help"
    assert blobs_asked(signed) == 0
    assert signed.is_untouched(digest)


def test_another_key_does_not_count(signed, tmp_path):
    """Everybody can make a key."""
    digest = signed.put()
    sign_classic(signed.registry, REPOSITORY, digest, make_signer(tmp_path, name="other.pub"))
    with pytest.raises(UnsignedError, match=r"site\.pub\): it is signed by another key$"):
        signed.ensure(digest, rules=signed.rules)


def test_the_second_of_two_signatures_and_keys_may_be_it(signed, tmp_path):
    """Cosign adds to what is there; a site changes its keys one after the other."""
    digest = signed.put()
    sign_classic(signed.registry, REPOSITORY, digest, make_signer(tmp_path, name="other.pub"))
    sign_classic(signed.registry, REPOSITORY, digest, signed.signer)
    old = make_signer(tmp_path, name="old.pub")
    files = (str(old.file), str(signed.signer.file))
    assert signed.ensure(digest, rules={"signatures": (KeyRule("qnib/*", files),)})


def test_a_signature_of_another_image_does_not_count(signed):
    """Who may push can put any image's good signature under this image's tag."""
    other, digest = "sha256:" + "22" * 32, signed.put()
    sign_classic(signed.registry, REPOSITORY, digest, signed.signer, payload(other))
    with pytest.raises(UnsignedError, match=f"the signature under its name is of {other}"):
        signed.ensure(digest, rules=signed.rules)


def test_a_sha512_digest_is_no_tag(signed):
    """Its signature is looked for among what is attached alone: 139 letters are not asked for."""
    signed.put()
    documents = signed.registry.documents[REPOSITORY]
    digest = "sha512:" + hashlib.sha512(documents["1"].raw).hexdigest()
    documents[digest] = documents["1"]
    signed.registry.has_referrers = True
    with pytest.raises(UnsignedError, match="no signature of it was found"):
        signed.ensure(digest, rules=signed.rules)
    assert not [seen for seen in signed.registry.seen if seen.path.endswith(".sig")]
    sign_bundle(signed.registry, REPOSITORY, digest, signed.signer)
    assert signed.ensure(digest, rules=signed.rules).record.digest == digest


def test_a_signed_attestation_is_no_signature(signed):
    """A statement on an image, such as what was found wrong with it, does not release it."""
    signed.registry.has_referrers = True
    digest = signed.put()
    kind = "https://cosign.sigstore.dev/attestation/vuln/v1"
    sign_bundle(signed.registry, REPOSITORY, digest, signed.signer, kind)
    with pytest.raises(UnsignedError, match="a statement on the image, not a signature"):
        signed.ensure(digest, rules=signed.rules)


@pytest.mark.parametrize(
    "raw",
    [b"not JSON", b"[]", b"{}", b'{"critical": {}, "critical": {}}', payload("sha256:1", "x")],
    ids=["text", "list", "empty", "twice", "kind"],
)
def test_what_cannot_be_read_is_no_signature(signed, raw):
    """A broken document beside the image is a refusal with a reason and no traceback."""
    digest = signed.put()
    sign_classic(signed.registry, REPOSITORY, digest, signed.signer, raw)
    with pytest.raises(UnsignedError, match=r"a signature cannot be read|is not an image"):
        signed.ensure(digest, rules=signed.rules)


def test_a_registry_that_fails_is_no_signature(signed):
    """What could not be looked at is not taken for signed, nor for unsigned."""
    digest = signed.put()
    sign_classic(signed.registry, REPOSITORY, digest, signed.signer)
    signed.registry.fail(".sig", status=500, times=99)
    with pytest.raises(RegistryError):
        signed.ensure(digest, rules=signed.rules)
    assert signed.is_untouched(digest)


def test_the_signature_of_its_index_counts(signed):
    """`cosign sign NAME` signs the index; its digest holds the digests of all that it lists."""
    digest = signed.put()
    index = put_index(signed.registry, REPOSITORY, "all", described(digest))
    sign_classic(signed.registry, REPOSITORY, index, signed.signer)
    with pytest.raises(UnsignedError):
        signed.ensure(digest, rules=signed.rules)
    entry = signed.ensure(digest, index, signed.rules)
    assert [one.digest for one in entry.record.signatures] == [index]


def test_an_image_of_a_nested_index_is_signed_with_the_outer_one(signed):
    """The digests bind all the way down."""
    digest = signed.put()
    inner = put_index(signed.registry, REPOSITORY, "inner", described(digest))
    kind = "application/vnd.oci.image.index.v1+json"
    outer = put_index(
        signed.registry, REPOSITORY, "outer", described(inner, mediaType=kind, platform=None)
    )
    sign_classic(signed.registry, REPOSITORY, outer, signed.signer)
    assert signed.ensure(digest, outer, signed.rules)


def test_a_signed_index_speaks_only_for_what_it_lists(signed):
    """A caller that names the wrong index gets nothing by its signature."""
    digest = signed.put()
    index = put_index(signed.registry, REPOSITORY, "all", described("sha256:" + "33" * 32))
    sign_classic(signed.registry, REPOSITORY, index, signed.signer)
    with pytest.raises(UnsignedError, match=f"the signed index {index} does not list it"):
        signed.ensure(digest, index, signed.rules)


def test_an_entry_from_before_the_rule_is_proved_once(signed):
    """It runs only with a signature in the registry; then its record has it, and none is asked."""
    digest = signed.put()
    before = signed.ensure(digest)
    assert before.record.signatures == ()
    with pytest.raises(UnsignedError):
        signed.ensure(digest, rules=signed.rules)
    sign_classic(signed.registry, REPOSITORY, digest, signed.signer)
    entry = signed.ensure(digest, rules=signed.rules)
    assert [one.digest for one in entry.record.signatures] == [digest]
    assert list((signed.store.root / "tmp").iterdir()) == []
    asked = len(signed.registry.seen)
    assert signed.ensure(digest, rules=signed.rules) == entry
    assert len(signed.registry.seen) == asked
    assert signed.store.lookup(digest, CONVERTER) == entry


def test_a_proof_that_cannot_be_kept_counts(signed, monkeypatch, caplog):
    """A full disk costs the next launch another proof, and this one nothing."""
    digest = signed.put()
    signed.ensure(digest)
    sign_classic(signed.registry, REPOSITORY, digest, signed.signer)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hpcimg.store.workspace.sync", full)
    entry = signed.ensure(digest, rules=signed.rules)
    assert [one.digest for one in entry.record.signatures] == [digest]
    assert "could not amend a record" in caplog.text
    assert signed.store.lookup(digest, CONVERTER).record.signatures == ()
    assert list((signed.store.root / "tmp").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_key_of_another_user_does_not_count(signed):
    """Its owner could put another key there."""
    digest = signed.put()
    sign_classic(signed.registry, REPOSITORY, digest, signed.signer)
    os.chown(signed.signer.file, 12345, -1)
    with pytest.raises(SettingsError, match="it belongs to uid 12345, not to root"):
        signed.ensure(digest, rules=signed.rules)


def test_a_key_that_is_taken_off_the_list_counts_no_more(signed, tmp_path):
    """What it had released is refused, until one that is listed signs it."""
    digest = signed.put()
    sign_classic(signed.registry, REPOSITORY, digest, signed.signer)
    signed.ensure(digest, rules=signed.rules)
    new = make_signer(tmp_path, name="new.pub")
    with pytest.raises(UnsignedError, match="signed by another key"):
        signed.ensure(digest, rules={"signatures": (KeyRule("*", (str(new.file),)),)})


def test_a_record_that_names_a_key_needs_no_key_library(signed, monkeypatch):
    """The warm path compares fingerprints: what checks signatures takes longer to load."""
    digest = signed.put()
    sign_classic(signed.registry, REPOSITORY, digest, signed.signer)
    signed.ensure(digest, rules=signed.rules)
    monkeypatch.setattr("hpcimg.oci.key.PublicKey.has_signed", None)
    assert signed.ensure(digest, rules=signed.rules)


def test_the_first_pattern_that_matches_decides(signed):
    """An empty list of keys lets some repositories be; one that none matches needs no signature."""
    keys = (str(signed.signer.file),)
    digest = signed.put()
    open_first = (KeyRule("qnib/*", ()), KeyRule("*", keys))
    assert signed.ensure(digest, rules={"signatures": open_first})
    assert signed.ensure(digest, rules={"signatures": (KeyRule("other/*", keys),)})
    with pytest.raises(UnsignedError):
        signed.ensure(digest, rules={"signatures": (KeyRule("qnib/b*", keys), *open_first)})


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (None, 0o644, "No such file or directory"),
        (b"hello", 0o644, "it is not one public key in PEM form"),
        ("p384", 0o644, "it is not ECDSA P-256, Ed25519 or RSA of 2048 bits"),
        ("weak", 0o644, "it is not ECDSA P-256, Ed25519 or RSA of 2048 bits"),
        ("ecdsa", 0o666, r"others may write it \(mode 0666\)"),
    ],
    ids=["absent", "text", "p384", "weak", "writable"],
)
def test_a_key_file_that_cannot_count_is_named(signed, tmp_path, content, mode, reason):
    """Nothing runs by mistake because a key could not be read."""
    digest = signed.put()
    sign_classic(signed.registry, REPOSITORY, digest, signed.signer)
    file = tmp_path / "bad.pub"
    if isinstance(content, str):
        make_signer(tmp_path, content, file.name)
    elif content:
        file.write_bytes(content)
    if content:
        file.chmod(mode)
    with pytest.raises(SettingsError, match=f'public key "{file}": {reason}') as caught:
        signed.ensure(digest, rules={"signatures": (KeyRule("*", (str(file),)),)})
    assert "signatures" in caught.value.hint


def test_a_repository_that_is_not_listed_is_refused(site):  # noqa: F811
    """No job asks for it, and no login changes that; the hint names the setting."""
    digest = site.put()
    with pytest.raises(NotListedError, match=f'repository "{site.registry.name}/qnib/bench"') as no:
        site.ensure(digest, rules={"repositories": ("library/*", "qnib")})
    assert '"repositories" of' in no.value.hint
    assert site.registry.seen == []
    assert site.ensure(digest, rules={"repositories": ("library/*", "qnib/*")})


def test_an_entry_of_a_repository_that_was_listed_once_is_refused_too(site):  # noqa: F811
    """The rule is about what runs, not only about what is fetched."""
    digest = site.put()
    site.ensure(digest)
    with pytest.raises(NotListedError):
        site.ensure(digest, rules={"repositories": ()})


def test_a_bundle_says_what_it_signs(signed):
    """Its statement may not be changed once it is signed, nor its type."""
    digest, other = signed.put(), "sha256:" + "44" * 32
    signed.registry.has_referrers = True
    good = json.loads(bundle(digest, signed.signer))
    bad = json.loads(bundle(other, make_signer(signed.folder, name="other.pub")))
    bad["dsseEnvelope"]["signatures"] = good["dsseEnvelope"]["signatures"]
    attach_bundle(signed.registry, REPOSITORY, digest, json.dumps(bad).encode())
    with pytest.raises(UnsignedError, match="signed by another key"):
        signed.ensure(digest, rules=signed.rules)


@pytest.mark.parametrize("kind", ["p384", "weak"])
def test_a_key_of_a_kind_that_cannot_count_is_named_before_anything_is_signed(
    signed, tmp_path, kind
):
    """The advice to sign with it would lead nowhere."""
    file = make_signer(tmp_path, kind, "other.pub").file
    with pytest.raises(SettingsError, match=r'other\.pub": it is not ECDSA P-256'):
        signed.ensure(signed.put(), rules={"signatures": (KeyRule("*", (str(file),)),)})
