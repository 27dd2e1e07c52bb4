"""The store looked at from outside: a bad image found, an unsigned one refused, jobs counted."""

from __future__ import annotations

import json
import secrets

import mishaps
import pytest
from test_failure import refused

pytestmark = pytest.mark.integration

NODE = "zen1"
IMAGE = "qnib/plain-featuretest:generic"
# Signatures stay in the registry: each run has a repository of its own.
SIGNED = f"qnib/signed-{secrets.token_hex(4)}"
KEY = "/etc/hpcimg/test-site.pub"

# What `cosign sign` puts beside an index, and the public key.
SIGN = """\
import base64, io, json, sys
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hpcimg.oci.client import RegistryClient
from hpcimg.oci.credentials import no_credential
from hpcimg.oci.model import Descriptor, digest_of
from hpcimg.oci.reference import parse_reference
from hpcimg.registry_settings import RegistrySettings
client = RegistryClient(
    {"registry:5000": RegistrySettings(plain_http=True)}, no_credential, listed_only=True)
name = parse_reference("registry:5000/" + sys.argv[1])
digest = client.fetch_document(name).digest
key = ec.generate_private_key(ec.SECP256R1())
payload = json.dumps({"critical": {
    "identity": {"docker-reference": name.name}, "image": {"docker-manifest-digest": digest},
    "type": "cosign container image signature"}, "optional": None}).encode()
def put(kind, raw, **more):
    one = Descriptor(kind, digest_of(raw), len(raw))
    client.put_blob(name, one, io.BytesIO(raw))
    return {"mediaType": kind, "digest": one.digest, "size": one.size, **more}
signature = base64.b64encode(key.sign(payload, ec.ECDSA(SHA256()))).decode()
manifest = json.dumps({
    "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": put("application/vnd.oci.image.config.v1+json", b"{}"),
    "layers": [put("application/vnd.dev.cosign.simplesigning.v1+json", payload,
                   annotations={"dev.cosignproject.cosign/signature": signature})]}).encode()
tag = parse_reference(name.name + ":" + digest.replace(":", "-") + ".sig")
if sys.argv[2] == "yes":
    client.put_manifest(tag, manifest, "application/vnd.oci.image.manifest.v1+json")
form = PublicFormat.SubjectPublicKeyInfo
sys.stdout.write(key.public_key().public_bytes(Encoding.PEM, form).decode())
"""


@pytest.fixture(autouse=True)
def cold(cluster):
    """Start each test with a store without images; leave no bad ones behind."""
    mishaps.forget_images(cluster)
    yield
    mishaps.do(cluster, "rm -rf /srv/hpcimg/store/quarantine/*")


def launch(cluster, name=IMAGE):
    """Run a job of one task in an image."""
    done = cluster.run("srun", "-w", NODE, "--container", name, "bench")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_changed_content_of_the_same_size_is_found_and_built_anew(cluster):
    """Everybody may look; the account moves it aside, and the next job fetches it again."""
    said = launch(cluster)
    (image,) = mishaps.do(cluster, "ls /srv/hpcimg/store/entries/*/*/image.sif").split()
    mishaps.do(cluster, f"printf x | dd of={image} bs=1 seek=40000 conv=notrunc status=none")
    digest = "sha256:" + image.split("/")[-2].partition(".")[0]

    seen = cluster.run("hpcimg", "cache", "verify", "--all")
    assert seen.returncode == 73, seen.stderr
    assert seen.stdout.startswith(f"bad   {digest}  its image has the SHA-256 "), seen.stdout
    assert "quarantine" not in seen.stdout
    assert cluster.run("test", "-e", image).returncode == 0

    moved = cluster.run("hpcimg", "cache", "verify", digest[:19], user="root")
    assert moved.returncode == 73, moved.stderr
    assert moved.stdout.endswith("; moved to the quarantine\n")
    assert cluster.run("test", "-e", image).returncode == 1

    before = len(mishaps.blob_requests(cluster))
    assert launch(cluster) == said
    assert len(mishaps.blob_requests(cluster)) > before
    good = cluster.run("hpcimg", "cache", "verify", "--all")
    assert (good.returncode, good.stdout.split()[:2]) == (0, ["good", digest])


def sign(cluster, *, push):
    """Make a key, let it sign the index where it shall, and write its public half for the site."""
    python = f"cd /; /opt/hpcimg/bin/python -I - {SIGNED} {'yes' if push else 'no'}"
    mishaps.do(cluster, f"({python}) >{KEY} <<'END'\n{SIGN}END\nchmod 644 {KEY}")


def test_an_unsigned_image_does_not_start(cluster):
    """Two lines and no command, though the image is in the store; signed it runs, and warm."""
    mishaps.push(cluster, SIGNED, (IMAGE, ""))
    said = launch(cluster, SIGNED)
    rule = {"registry:5000": {"plain_http": True, "signatures": {SIGNED: [KEY]}}}
    try:
        sign(cluster, push=False)
        with mishaps.settings(cluster, registries=rule):
            ((what, hint),) = refused(cluster, SIGNED, "-n2", nodes=(NODE,))
            assert what.startswith(f'"registry:5000/{SIGNED}@sha256:'), what
            assert what.endswith(
                f"bears no signature that this site asks for ({KEY}): no signature of it was found"
            )
            assert hint.startswith("sign the image, or the index that lists it, with `cosign sign")
            sign(cluster, push=True)
            assert launch(cluster, SIGNED) == said
            # Its record has the key now: a launch that knows the index asks for no signature.
            asked = signatures_asked(cluster)
            assert launch(cluster, SIGNED) == said
            assert signatures_asked(cluster) == asked
            info = cluster.run("hpcimg", "cache", "info", SIGNED).stdout
            assert " by key sha256:" in info
    finally:
        mishaps.do(cluster, f"rm -f {KEY}")


def signatures_asked(cluster):
    """Count the requests for signatures in the registry's log."""
    return mishaps.do(cluster, "grep -cE '[.]sig|/referrers/' /var/log/registry.log || :")


def figures(cluster):
    """Read what was counted for the image, as any user."""
    done = cluster.run("hpcimg", "cache", "stats", "--json")
    assert done.returncode == 0, done.stderr
    images = {one["image"]: one for one in json.loads(done.stdout)["images"]}
    nothing = dict.fromkeys(("hit", "built", "bytes", "failed"), 0)
    return images.get(f"registry:5000/{IMAGE}", nothing)


def test_jobs_are_counted(cluster):
    """One job builds, the next one finds; whether the prolog or the step asked."""
    before = figures(cluster)
    launch(cluster)
    first = figures(cluster)
    launch(cluster)
    second = figures(cluster)
    assert first["built"] == before["built"] + 1
    assert first["bytes"] > before["bytes"]
    assert (second["built"], second["bytes"]) == (first["built"], first["bytes"])
    assert second["hit"] > first["hit"]
    text = cluster.run("hpcimg", "cache", "stats", "--prometheus").stdout
    name = f"registry:5000/{IMAGE}"
    assert (
        f'hpcimg_store_requests_total{{image="{name}",result="built"}} {second["built"]}'
    ) in text.splitlines()
