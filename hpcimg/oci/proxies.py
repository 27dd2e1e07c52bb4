"""Which proxy leads to a host: the environment's, or the site's where there is none.

It must not send anything, and a proxy's login must not show in any text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from hpcimg.errors import SettingsError
from hpcimg.oci.diagnostics import shown_url

if TYPE_CHECKING:
    import ipaddress

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Proxies:
    """The environment's variables, and what the settings say for when they name none."""

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    site: str | None = field(default=None, repr=False)
    site_exceptions: tuple[str, ...] = ()

    def proxy_for(self, parts: SplitResult) -> str | None:
        """Name the proxy for a URL, or None to go straight there."""
        host, port = parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]
        if _is_loopback(host):
            return None
        proxy = self._variable(f"{parts.scheme}_proxy") or self._variable("all_proxy")
        exceptions: Iterable[str] = self._variable("no_proxy").split(",")
        if not proxy:
            proxy, exceptions = self.site or "", self.site_exceptions
        return None if not proxy or is_excepted(host, port, exceptions) else checked_proxy(proxy)

    def _variable(self, name: str) -> str:
        upper = (
            "" if name == "http_proxy" else name.upper()
        )  # a web server's header, as curl has it
        return self.environment.get(name) or self.environment.get(upper) or ""


NO_PROXIES = Proxies()


def checked_proxy(proxy: str) -> str:
    """Refuse what is no http or https URL; a bare HOST:PORT is one, as curl reads it."""
    url = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(url)
        if parts.scheme in DEFAULT_PORTS and parts.hostname and parts.port != 0:
            return url
    except ValueError:
        pass
    raise SettingsError(
        f'the proxy "{shown_url(url)}" cannot be used', "set https_proxy to http://HOST:PORT"
    )


def is_excepted(host: str, port: int, exceptions: Iterable[str]) -> bool:
    """Tell whether no_proxy names a host: `*`, a name and all below it, HOST:PORT, IP/LENGTH."""
    return any(_is_named(host.lower(), port, word.strip().lower()) for word in exceptions)


def _is_named(host: str, port: int, word: str) -> bool:
    if word in {"", "*"}:
        return word == "*"
    address = _address(host)
    if address is not None and (network := _network(word)) is not None:
        return address in network
    name, colon, number = word.rpartition(":")
    if colon and number.isdecimal():
        return int(number) == port and _is_named(host, port, name.strip("[]"))
    name = word.removeprefix("*").lstrip(".")
    return host == name or (address is None and host.endswith(f".{name}"))


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    import ipaddress

    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    import ipaddress

    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None
