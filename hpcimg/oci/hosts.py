"""Which registry hosts may be asked, and how: what the site's settings say of them.

It must not send anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, urljoin, urlsplit

from hpcimg.errors import NotListedError, RegistryError, SettingsError
from hpcimg.oci.diagnostics import shown_url
from hpcimg.quoting import quoted
from hpcimg.settings import RegistrySettings, has_site_file

API_HOSTS = {"docker.io": "registry-1.docker.io"}
"""Registries whose API is not at the host that their images are named after."""

_PORTS = {"http": 80, "https": 443}
# Stricter than any URL parser: where two of them would read two hosts, neither is asked.
_URL = re.compile(
    r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{0,5})?([/?#].*)?",
    re.IGNORECASE | re.DOTALL,
)


class Hosts:
    """The hosts of the settings; `listed_only` refuses every other one."""

    def __init__(self, registries: Mapping[str, RegistrySettings], *, listed_only: bool) -> None:
        self._registries = registries
        self._listed_only = listed_only

    def base(self, registry: str) -> str:
        """The URL that a registry's API stands under, plain http only where the site says so."""
        host = API_HOSTS.get(registry, registry)
        scheme = "http" if self.settings(registry).plain_http else "https"
        return f"{scheme}://{host}/v2/"

    def settings(self, registry: str) -> RegistrySettings:
        """What the settings say of one registry; of an unlisted one nothing."""
        return self._registries.get(registry, RegistrySettings())

    def policy(self, registry: str) -> RegistrySettings:
        """What the settings say of one registry, however its port is written."""
        return self._settings_of(split_url(self.base(registry))) or RegistrySettings()

    def check(self, url: str) -> str | bool:
        """Refuse a URL that may not be asked; return what its certificate is checked with."""
        parts = split_url(url)
        settings = self._settings_of(parts)
        if settings is None and self._listed_only:
            raise self._not_listed(parts)
        if parts.scheme == "http" and not (settings and settings.plain_http):
            raise RegistryError(
                f"{shown_url(url)} uses plain http, which the site does not allow for this host",
                f'to allow it set "plain_http: true" for "{host_of(parts)}" under "registries:"',
            )
        return checked_ca_file(settings.ca_file) if settings and settings.ca_file else True

    def _not_listed(self, parts: SplitResult) -> NotListedError:
        """Name the registry as images are named after it, which is what the settings list."""
        host = host_of(parts)
        host = next((name for name, api in API_HOSTS.items() if api == host), host)
        hint = f'the administrator can add "{host}" under "registries:" in the settings file'
        if not self._registries and not has_site_file():
            hint = f"there is no settings file on this node: {hint}"
        return NotListedError(f'registry host "{host}" is not listed in the site\'s settings', hint)

    def _settings_of(self, parts: SplitResult) -> RegistrySettings | None:
        """Find what the settings say of a host; a default port may be written or left out."""
        port = parts.port or _PORTS[parts.scheme]
        names = [f"{_bare_host(parts)}:{port}"]
        if port == _PORTS[parts.scheme]:
            names.insert(0, _bare_host(parts))
        names += [name for name, host in API_HOSTS.items() if host in names]
        return next((self._registries[name] for name in names if name in self._registries), None)


def split_url(url: str) -> SplitResult:
    """Split an http or https URL of HOST[:PORT]; raise RegistryError for all else."""
    try:
        parts = urlsplit(url)
        if _URL.fullmatch(url) and parts.port != 0:
            return parts
    except ValueError:
        pass
    raise RegistryError(f"{quoted(shown_url(url))} is no http or https address")


def joined(url: str, target: str) -> str:
    """Resolve a Location header against the URL that was asked."""
    try:
        return urljoin(url, target)
    except ValueError as error:
        raise RegistryError(f"{shown_url(url)} points to {quoted(target)}, no URL") from error


def checked_ca_file(path: str) -> str:
    """Refuse a certificate file that is not there, which requests reports as a lost connection."""
    if not Path(path).is_file():
        raise SettingsError(
            f'ca_file "{path}" is not a file', 'correct "ca_file" under "registries:"'
        )
    return path


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what credentials are bound to."""
    parts = split_url(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme]


def host_of(parts: SplitResult) -> str:
    """The host as the settings list it."""
    host = _bare_host(parts)
    return host if parts.port in {None, _PORTS.get(parts.scheme)} else f"{host}:{parts.port}"


def _bare_host(parts: SplitResult) -> str:
    """Give the host without its port; an IPv6 address in its brackets, as names have it."""
    host = parts.hostname or ""
    return f"[{host}]" if ":" in host else host
