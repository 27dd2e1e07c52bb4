"""Which registry hosts may be asked, where their content stands, and how each is asked.

Joins the site's settings with what the machine says: registries.conf, certs.d, proxies.
It must not send anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from urllib.parse import SplitResult, urljoin, urlsplit

from hpcimg.errors import NotListedError, RegistryError
from hpcimg.oci.certificates import Trust, trust_for
from hpcimg.oci.diagnostics import shown_url
from hpcimg.oci.proxies import DEFAULT_PORTS, NO_PROXIES, Proxies
from hpcimg.oci.reference import Reference
from hpcimg.oci.registries_conf import RegistryRule, rule_for
from hpcimg.quoting import quoted
from hpcimg.registry_settings import RegistrySettings
from hpcimg.settings import has_site_file

API_HOSTS = {"docker.io": "registry-1.docker.io"}
"""Registries whose API is not at the host that their images are named after."""

# Stricter than any URL parser: where two of them would read two hosts, neither is asked.
_URL = re.compile(
    r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{0,5})?([/?#].*)?",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class Surroundings:
    """What a machine says of registries besides our settings; nothing, where nobody looked."""

    rules: tuple[RegistryRule, ...] = ()
    certificates: tuple[Path, ...] = ()
    proxies: Proxies = NO_PROXIES


NOTHING_AROUND = Surroundings()


@dataclass(frozen=True)
class Endpoint:
    """One place where the content of a reference may be had; logins are looked up by it."""

    registry: str
    repository: str


@dataclass(frozen=True)
class Route:
    """How a URL is asked: proxy, certificates, and how many connections its host may have."""

    proxy: str | None = field(repr=False)
    trust: Trust
    connections: int


class Hosts:
    """The hosts of settings and surroundings; `listed_only` refuses what no administrator named."""

    def __init__(
        self,
        registries: Mapping[str, RegistrySettings],
        around: Surroundings = NOTHING_AROUND,
        *,
        listed_only: bool,
    ) -> None:
        self._registries = registries
        self._around = around
        self._listed_only = listed_only

    def base(self, registry: str) -> str:
        """The URL that a registry's API stands under, plain http only where the site says so."""
        host = API_HOSTS.get(registry, registry)
        scheme = "http" if self.settings(registry).plain_http else "https"
        return f"{scheme}://{host}/v2/"

    def settings(self, registry: str) -> RegistrySettings:
        """What the settings say of one registry; of an unlisted one nothing."""
        return self._registries.get(registry, RegistrySettings())

    def endpoints(self, reference: Reference) -> tuple[Endpoint, ...]:
        """List where to ask for a reference, mirrors first; refuse it where it may not be asked."""
        rule, name = self._rule(reference)
        if rule is not None and rule.blocked:
            raise NotListedError(
                f'"{reference.name}" is blocked by registries.conf',
                f'the administrator blocks "{rule.prefix}" in /etc/containers/registries.conf',
            )
        # A stand-in is asked for the images of listed hosts; by its own name it is not listed,
        # or what the site says of those hosts could be passed by.
        parts = split_url(self.base(reference.registry))
        if self._listed_only and self._listed(parts) is None:
            raise self._not_listed(parts)
        mirrors = self.settings(reference.registry).mirrors
        names = [f"{mirror.rstrip('/')}/{reference.repository}" for mirror in mirrors]
        if rule is not None:
            unfit = "tag-only" if reference.digest else "digest-only"
            fit = [mirror.location for mirror in rule.mirrors if mirror.pull != unfit]
            names += [rule.moved(name, location) for location in fit]
        return (*map(_endpoint, dict.fromkeys(names)), self.origin(reference))

    def origin(self, reference: Reference) -> Endpoint:
        """Say where the content comes from in the end, and where it is pushed to."""
        rule, name = self._rule(reference)
        return _endpoint(rule.moved(name, rule.location) if rule else name)

    def _rule(self, reference: Reference) -> tuple[RegistryRule | None, str]:
        """Find the rule for a name however its port is written, and the name as the rule has it.

        What is blocked in one spelling is blocked in all.
        """
        names = _names_of(split_url(self.base(reference.registry)))
        spelled = [replace(reference, registry=name) for name in (reference.registry, *names)]
        rules = [(rule_for(self._around.rules, one), one.name) for one in spelled]
        found = [(rule, name) for rule, name in rules if rule is not None]
        return max(found, key=lambda one: one[0].blocked, default=(None, reference.name))

    def may_be_plain(self, registry: str) -> bool:
        """Tell whether registries.conf calls a host insecure and our settings say nothing of it."""
        settings = self.settings(registry)
        return registry in self._insecure and not settings.plain_http and not settings.ca_file

    def policy(self, registry: str) -> RegistrySettings:
        """What the settings say of one registry, however its port is written."""
        return self._settings_of(split_url(self.base(registry))) or RegistrySettings()

    def check(self, url: str) -> None:
        """Refuse a URL that may not be asked."""
        parts = split_url(url)
        settings = self._settings_of(parts)
        if settings is None and self._listed_only:
            raise self._not_listed(parts)
        plain = settings is not None and settings.plain_http
        if parts.scheme == "http" and not (plain or self._is_insecure(parts)):
            raise RegistryError(
                f"{shown_url(url)} uses plain http, which the site does not allow for this host",
                f'to allow it set "plain_http: true" for "{host_of(parts)}" under "registries:"',
            )

    def route(self, url: str) -> Route:
        """Say how the host of a URL is asked."""
        parts = split_url(url)
        names = _names_of(parts)
        settings = self._settings_of(parts) or RegistrySettings()
        # An empty text is the settings' word for no proxy.
        proxy = settings.proxy
        proxy = self._around.proxies.proxy_for(parts) if proxy is None else proxy or None
        if parts.scheme == "http":
            return Route(proxy, Trust(), settings.connections)
        verified = not self._is_insecure(parts)
        trust = trust_for(names, settings, self._around.certificates, verified=verified)
        return Route(proxy, trust, settings.connections)

    def _not_listed(self, parts: SplitResult) -> NotListedError:
        """Name the registry as images are named after it, which is what the settings list."""
        host = host_of(parts)
        host = next((name for name, api in API_HOSTS.items() if api == host), host)
        hint = f'the administrator can add "{host}" under "registries:" in the settings file'
        if not self._registries and not has_site_file():
            hint = f"there is no settings file on this node: {hint}"
        return NotListedError(f'registry host "{host}" is not listed in the site\'s settings', hint)

    def _settings_of(self, parts: SplitResult) -> RegistrySettings | None:
        """Find what is said of a host that is listed, or that stands for a listed one."""
        found = self._listed(parts)
        if found is None and self._substitutes.intersection(_names_of(parts)):
            return RegistrySettings()
        return found

    def _listed(self, parts: SplitResult) -> RegistrySettings | None:
        names = _names_of(parts)
        return next((self._registries[name] for name in names if name in self._registries), None)

    def _is_insecure(self, parts: SplitResult) -> bool:
        return any(map(self.may_be_plain, _names_of(parts)))

    @cached_property
    def _substitutes(self) -> frozenset[str]:
        """The hosts that the administrator put in the place of listed ones."""
        found = {mirror for one in self._registries.values() for mirror in one.mirrors}
        for rule in self._around.rules:
            if any(map(rule.is_of_host, self._registries)):
                found |= {rule.location, *(mirror.location for mirror in rule.mirrors)}
        return frozenset(API_HOSTS.get(_host(one), _host(one)) for one in found if one)

    @cached_property
    def _insecure(self) -> frozenset[str]:
        rules = self._around.rules
        places = [rule.location or rule.prefix for rule in rules if rule.insecure]
        places += [one.location for rule in rules for one in rule.mirrors if one.insecure]
        return frozenset(map(_host, places))


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


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what credentials are bound to."""
    parts = split_url(url)
    return parts.scheme, parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]


def _names_of(parts: SplitResult) -> tuple[str, ...]:
    """Name a host as it may be written: a default port may be left out, docker.io has two names."""
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    names = [f"{_bare_host(parts)}:{port}"]
    if port == DEFAULT_PORTS[parts.scheme]:
        names.insert(0, _bare_host(parts))
    return (*names, *(name for name, host in API_HOSTS.items() if host in names))


def _endpoint(name: str) -> Endpoint:
    registry, _, repository = name.partition("/")
    return Endpoint(registry.lower(), repository)


def _host(location: str) -> str:
    return location.partition("/")[0].lower()


def host_of(parts: SplitResult) -> str:
    """The host as the settings list it."""
    host = _bare_host(parts)
    return host if parts.port in {None, DEFAULT_PORTS.get(parts.scheme)} else f"{host}:{parts.port}"


def _bare_host(parts: SplitResult) -> str:
    """Give the host without its port; an IPv6 address in its brackets, as names have it."""
    host = parts.hostname or ""
    return f"[{host}]" if ":" in host else host
