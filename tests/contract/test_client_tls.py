"""The client and certificates, on real TLS: authorities of the site's own, certificates of ours."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from certificates import authority, signed
from clients import reference_to
from registry import Registry

import hpcimg
from hpcimg.errors import RegistryError, SettingsError
from hpcimg.oci.client import RegistryClient
from hpcimg.oci.credentials import no_credential
from hpcimg.oci.hosts import Surroundings
from hpcimg.oci.registries_conf import RegistryRule
from hpcimg.registry_settings import RegistrySettings


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Make the site's authority, a server and a user of it, and a stranger."""
    folder = tmp_path_factory.mktemp("pki")
    site = authority(folder)
    return {
        "ca": site,
        "server": signed(site, "server"),
        "user": signed(site, "user"),
        "stranger": authority(folder, "stranger"),
    }


@pytest.fixture
def registry(pairs):
    """Run a registry with the site's certificate."""
    server = pairs["server"]
    running = Registry().start(tls=(str(server.certificate), str(server.key)))
    running.put_image("qnib/bench", "latest", [b"layer"])
    yield running
    running.stop()


@pytest.fixture
def strict(pairs):
    """Run a registry that wants a certificate of the site from its clients."""
    server = pairs["server"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    context.load_verify_locations(pairs["ca"].certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    # In 1.3 the refusal comes after the handshake, and may be lost.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    running = Registry().start(context=context)
    running.put_image("qnib/bench", "latest", [b"layer"])
    yield running
    running.stop()


def fetch(registry, settings=None, around=None):
    """Fetch the image with a client of these settings."""
    client = RegistryClient(
        {registry.name: settings or RegistrySettings()},
        no_credential,
        listed_only=True,
        around=around or Surroundings(),
        sleep=lambda _: None,
    )
    return client.fetch_document(reference_to(registry, "qnib/bench"))


def certs_d(tmp_path, registry, **files):
    """Lay out a certs.d with these files for the registry; `_` in a name stands for its dot."""
    folder = tmp_path / "certs.d" / registry.name
    folder.mkdir(parents=True)
    for name, path in files.items():
        shutil.copy(path, folder / name.replace("_", "."))
    return Surroundings(certificates=(tmp_path / "none", tmp_path / "certs.d"))


def test_a_private_authority(registry, pairs):
    """A registry with a certificate of the site's own needs the settings' ca_file."""
    assert fetch(registry, RegistrySettings(ca_file=str(pairs["ca"].certificate)))
    with pytest.raises(RegistryError, match=r"its certificate is not trusted") as caught:
        fetch(registry)
    assert "ca_file" in caught.value.hint
    assert not caught.value.temporary


def test_another_authority_than_the_settings(registry, pairs):
    """The settings' ca_file is the only one for its host."""
    with pytest.raises(RegistryError, match=r"its certificate is not trusted"):
        fetch(registry, RegistrySettings(ca_file=str(pairs["stranger"].certificate)))


def test_an_authority_in_certs_d(registry, pairs, tmp_path):
    """What docker, podman and containerd find under HOST:PORT counts here as well."""
    assert fetch(registry, around=certs_d(tmp_path, registry, ca_crt=pairs["ca"].certificate))


def test_certs_d_of_another_port(registry, pairs, tmp_path):
    """A directory is for one host and port."""
    around = certs_d(tmp_path, registry, ca_crt=pairs["ca"].certificate)
    (tmp_path / "certs.d" / registry.name).rename(tmp_path / "certs.d" / "127.0.0.1:1")
    with pytest.raises(RegistryError, match=r"its certificate is not trusted"):
        fetch(registry, around=around)


def test_a_client_certificate_of_the_settings(strict, pairs):
    """A registry that wants to know us is shown the settings' certificate."""
    ca, user = str(pairs["ca"].certificate), pairs["user"]
    settings = RegistrySettings(
        ca_file=ca, client_certificate=str(user.certificate), client_key=str(user.key)
    )
    assert fetch(strict, settings)


def test_a_client_certificate_in_certs_d(strict, pairs, tmp_path):
    """A .cert and the .key beside it are ours, a .crt is an authority."""
    user = pairs["user"]
    around = certs_d(
        tmp_path,
        strict,
        ca_crt=pairs["ca"].certificate,
        client_cert=user.certificate,
        client_key=user.key,
    )
    assert fetch(strict, around=around)


@pytest.mark.parametrize("shown", [None, "stranger"])
def test_without_the_right_client_certificate(strict, pairs, shown):
    """The error says which settings are missing, and no retry is tried."""
    pair = pairs.get(shown)
    settings = RegistrySettings(
        ca_file=str(pairs["ca"].certificate),
        client_certificate=str(pair.certificate) if pair else None,
        client_key=str(pair.key) if pair else None,
    )
    with pytest.raises(RegistryError, match=r"it wants another client certificate") as caught:
        fetch(strict, settings)
    assert '"client_certificate"' in caught.value.hint
    assert not caught.value.temporary


def test_a_certificate_without_its_key(registry, pairs, tmp_path):
    """Half a pair in certs.d is named, as the usual tools do."""
    around = certs_d(tmp_path, registry, client_cert=pairs["user"].certificate)
    with pytest.raises(SettingsError, match=r'client.cert": there is no "client.key" beside it'):
        fetch(registry, around=around)


def test_a_key_of_another_certificate(registry, pairs):
    """Files that do not belong together are named, and nothing of a key is shown."""
    settings = RegistrySettings(
        client_certificate=str(pairs["user"].certificate), client_key=str(pairs["ca"].key)
    )
    with pytest.raises(SettingsError, match=r'ca.key": no usable PEM \(key_values_mismatch\)'):
        fetch(registry, settings)


PROGRAM = """
import os, ssl, sys
from pathlib import Path
from hpcimg.errors import SettingsError
from hpcimg.oci.certificates import Trust, trust_for
from hpcimg.registry_settings import RegistrySettings
if os.geteuid() == 0:
    os.setuid(12345)
folder = Path(sys.argv[1])
try:
"""


def as_a_user(folder, *lines):
    """Run lines of a program as an ordinary user; give what it prints, errors too."""
    program = PROGRAM + "".join(f"    {line}\n" for line in lines)
    program += "except SettingsError as error:\n    print(error.message, error.hint)\n"
    done = subprocess.run(
        [sys.executable, "-c", program, folder],
        env={**os.environ, "PYTHONPATH": str(Path(hpcimg.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture
def folder():
    """Give a folder that all users can enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_key_that_we_may_not_read(pairs, folder):
    """A closed key says who reads it and what the system answered."""
    for path, mode in ((pairs["user"].certificate, 0o644), (pairs["user"].key, 0)):
        shutil.copy(path, folder)
        (folder / path.name).chmod(mode)
    line = 'Trust(pairs=((str(folder / "user.crt"), str(folder / "user.key")),)).context()'
    assert 'user.key": permission denied uid ' in as_a_user(folder, line)


def test_folders_that_are_closed_to_us(folder):
    """Older dockers made /etc/docker for root alone: it says nothing to us, and stops nobody."""
    for name in ("docker/certs.d/host", "containers/certs.d/host"):
        (folder / name).mkdir(parents=True)
        (folder / name / "ca.crt").touch()
    (folder / "docker").chmod(0o700)
    places = '[folder / name / "certs.d" for name in ("docker", "containers")]'
    said = as_a_user(
        folder, f'print(trust_for(["host"], RegistrySettings(), {places}).authorities)'
    )
    assert said == f"('{folder}/containers/certs.d/host/ca.crt',)\n"
    line = 'Trust(ca_file=str(folder / "docker/ca.pem")).context()'
    assert 'docker/ca.pem": permission denied uid ' in as_a_user(folder, line)


def test_an_insecure_registry(registry):
    """What registries.conf calls insecure is asked by TLS without a trusted certificate."""
    rule = RegistryRule(registry.name, registry.name, insecure=True)
    assert fetch(registry, around=Surroundings((rule,)))
