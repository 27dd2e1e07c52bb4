"""The client and web proxies, on real sockets: TLS by CONNECT, plain http, logins, failures."""

from __future__ import annotations

import base64
import socket

import pytest
from certificates import authority, signed
from proxy import Proxy
from registry import Registry

from hpcimg.errors import RegistryError
from hpcimg.oci.client import RegistryClient
from hpcimg.oci.credentials import no_credential
from hpcimg.oci.hosts import Surroundings
from hpcimg.oci.proxies import Proxies
from hpcimg.oci.reference import parse_reference
from hpcimg.registry_settings import RegistrySettings

HOST = "registry.test"
LOGIN = "Basic " + base64.b64encode(b"me:h@sh").decode()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Make a certificate for a name that only the proxy can reach."""
    return signed(authority(tmp_path_factory.mktemp("pki")), "server", f"DNS:{HOST}")


@pytest.fixture
def registry(certificate):
    """Run a registry with TLS that no name leads to."""
    running = Registry().start(tls=(str(certificate.certificate), str(certificate.key)))
    running.put_image("qnib/bench", "latest", [b"layer"])
    yield running
    running.stop()


def fetch(proxies, **settings):
    """Fetch the image of a registry whose name does not resolve."""
    client = RegistryClient(
        {HOST: RegistrySettings(**settings)},
        no_credential,
        listed_only=True,
        around=Surroundings(proxies=proxies),
        sleep=lambda _: None,
    )
    return client.fetch_document(parse_reference(f"{HOST}/qnib/bench"))


def address_of(registry) -> tuple[str, int]:
    """Give what a proxy connects to."""
    host, _, port = registry.name.partition(":")
    return host, int(port)


def trusted(certificate) -> dict[str, str]:
    """Trust the authority of the certificate."""
    return {"ca_file": str(certificate.certificate.with_name("ca.crt"))}


def test_tls_through_a_proxy(registry, certificate):
    """The registry's certificate is checked through the tunnel; the proxy sees a name only."""
    with Proxy(address_of(registry)) as proxy:
        assert fetch(Proxies({"https_proxy": proxy.address}), **trusted(certificate))
        assert proxy.asked == [f"CONNECT {HOST}:443"]


def test_a_login_for_the_proxy(registry, certificate, caplog):
    """The proxy's login goes to the proxy, never to the registry, and is in no log."""
    with Proxy(address_of(registry), login=LOGIN) as proxy, caplog.at_level("DEBUG"):
        site = f"http://me:h%40sh@{proxy.address}"
        assert fetch(Proxies({}, site), **trusted(certificate))
    assert all("Proxy-Authorization" not in seen.headers for seen in registry.seen)
    assert "h%40sh" not in caplog.text
    assert "h@sh" not in caplog.text


def test_a_proxy_that_refuses_us(registry, certificate):
    """A wrong login is told by its status, once, without the login."""
    with Proxy(address_of(registry), login=LOGIN) as proxy:
        site = f"http://me:wrong-secret@{proxy.address}"
        with pytest.raises(RegistryError, match="the proxy answers with HTTP status 407") as caught:
            fetch(Proxies({}, site), **trusted(certificate))
        assert len(proxy.asked) == 1
    assert "wrong-secret" not in caught.value.message + caught.value.hint
    assert not caught.value.temporary


def test_a_proxy_for_one_host(registry, certificate):
    """The settings of a host name its own proxy."""
    with Proxy(address_of(registry)) as proxy:
        proxies = Proxies({"https_proxy": "127.0.0.1:9"})
        assert fetch(proxies, proxy=f"http://{proxy.address}", **trusted(certificate))


def test_plain_http_through_a_proxy():
    """A plain registry is asked by its whole URL."""
    with Registry() as registry, Proxy(address_of(registry)) as proxy:
        registry.put_image("qnib/bench", "latest", [b"layer"])
        proxies = Proxies({"http_proxy": f"http://{proxy.address}"})
        assert fetch(proxies, plain_http=True)
        assert proxy.asked == [f"GET http://{HOST}/v2/qnib/bench/manifests/latest"]


def test_a_proxy_that_is_down():
    """It may come back, so it is tried again, and the error names what could not be reached."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        proxies = Proxies({"https_proxy": f"127.0.0.1:{closed.getsockname()[1]}"})
        with pytest.raises(RegistryError, match=f"could not reach https://{HOST}/v2/") as caught:
            fetch(proxies)
    assert caught.value.message.endswith(": connection refused")
    assert caught.value.temporary
