"""Which proxy leads to a host, and which hosts need none."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from hpcimg.errors import SettingsError
from hpcimg.oci.hosts import Hosts, Surroundings
from hpcimg.oci.proxies import Proxies, is_excepted
from hpcimg.registry_settings import RegistrySettings

URL = "https://registry.example/v2/"
ENVIRONMENT = {"https_proxy": "http://env:1"}


@pytest.mark.parametrize(
    ("environment", "url", "expected"),
    [
        ({}, URL, "http://site:1"),
        (ENVIRONMENT, URL, "http://env:1"),
        ({"HTTPS_PROXY": "http://env:1"}, URL, "http://env:1"),
        ({"ALL_PROXY": "env:1"}, URL, "http://env:1"),
        ({"http_proxy": "http://env:1"}, URL, "http://site:1"),
        ({"http_proxy": "http://env:1"}, "http://registry.example/", "http://env:1"),
        ({"HTTP_PROXY": "http://env:1"}, "http://registry.example/", "http://site:1"),
        ({**ENVIRONMENT, "no_proxy": "a, .example"}, URL, None),
        ({**ENVIRONMENT, "NO_PROXY": "*"}, URL, None),
        ({}, "https://x.internal/", None),
        (ENVIRONMENT, "https://x.internal/", "http://env:1"),
        (ENVIRONMENT, "https://localhost:5000/", None),
        (ENVIRONMENT, "https://127.0.0.1/", None),
        (ENVIRONMENT, "https://[::1]/", None),
    ],
)
def test_the_environment_goes_before_the_site(environment, url, expected):
    """Each has exceptions of its own; this machine itself is never behind a proxy."""
    proxies = Proxies(environment, "http://site:1", ("internal",))
    assert proxies.proxy_for(urlsplit(url)) == expected


@pytest.mark.parametrize(
    ("word", "host", "expected"),
    [
        ("example.org", "example.org", True),
        ("example.org", "a.example.org", True),
        (".example.org", "a.example.org", True),
        ("*.example.org", "a.example.org", True),
        ("Example.ORG", "a.example.org", True),
        ("example.org", "badexample.org", False),
        ("example.org:443", "example.org", True),
        ("example.org:5000", "example.org", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("3", "10.1.2.3", False),
        ("fd00::/8", "fd00::1", True),
        ("[fd00::1]:443", "fd00::1", True),
        ("", "example.org", False),
    ],
)
def test_exceptions(word, host, expected):
    """The usual rules of no_proxy: names with all below them, ports, addresses, networks."""
    assert is_excepted(host, 443, [word]) is expected


def test_a_host_of_its_own():
    """The settings' word for one host goes before all; an empty one means none."""
    settings = {
        "a.example": RegistrySettings(proxy="http://own:1"),
        "b.example": RegistrySettings(proxy=""),
    }
    hosts = Hosts(settings, Surroundings(proxies=Proxies(ENVIRONMENT)), listed_only=False)
    found = [hosts.route(f"https://{name}.example/").proxy for name in "abc"]
    assert found == ["http://own:1", None, "http://env:1"]


@pytest.mark.parametrize("proxy", ["socks5://u:hush@p:1", "http://u:hush@", "http://u:hush@p:x"])
def test_a_proxy_that_cannot_be_used(proxy):
    """It is named without its login."""
    with pytest.raises(SettingsError, match=r"the proxy .* cannot be used") as caught:
        Proxies({"https_proxy": proxy}).proxy_for(urlsplit(URL))
    assert "hush" not in caught.value.message + caught.value.hint


def test_a_login_is_in_no_text():
    """Whatever prints these objects prints no password of a proxy."""
    settings = RegistrySettings(proxy="http://u:hush@p")
    hosts = Hosts({"r.x": settings}, listed_only=True)
    shown = [settings, Proxies({"https_proxy": "http://u:hush@p"}, "http://u:hush@p")]
    assert "hush" not in repr([*shown, hosts.route("https://r.x/")])
