"""The hub's settings: one YAML file, read once into a frozen type; without one the defaults serve.

Knows what may be said; who uses it knows no file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from ipaddress import ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hpcimg.amounts import parse_age, parse_size
from hpcimg.errors import SettingsError, UsageError
from hpcimg.hub.identity import Network, NetworkType, Rules
from hpcimg.hub.machine_type import split_name
from hpcimg.oci.reference import DOCKER_HUB, is_registry, parse_reference
from hpcimg.policy import KINDS, PolicyRule
from hpcimg.registry_settings import RegistrySettings, read_proxy, read_registry
from hpcimg.rules import read_rules
from hpcimg.sections import SectionReader

DEFAULT_PATH = Path("/etc/hpcimg/hub.yaml")
CHALLENGES = ("bearer", "basic")
"""How a client is asked for its login: for a token, or with each request."""
_MANY = RegistrySettings(connections=64)
"""How an upstream is asked that the settings say nothing of: for many clients at a time."""
_NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_PLACES = re.compile(r"\{[a-z]*\}")
_HINT = "correct the hub's settings file"


@dataclass(frozen=True)
class TlsSettings:
    """TLS of the hub's own; `client_ca` names who signs the certificates that machines show."""

    certificate: str = ""
    key: str = ""
    client_ca: str = ""


@dataclass(frozen=True)
class CacheSettings:
    """Where blobs are kept, and how many bytes of them; 0 keeps none."""

    path: str = ""
    bytes: int = 100 * 10**9


@dataclass(frozen=True)
class UpstreamSettings:
    """A registry that is served; `accounts` are those that may pull from it, none means all."""

    registry: str = DOCKER_HUB
    accounts: tuple[str, ...] | None = None


@dataclass(frozen=True)
class LimitSettings:
    """What clients may cost.

    `logins` are failed ones a minute of one name from one address, `body` is in bytes, `idle` in
    seconds.
    """

    logins: int = 10
    clients: int = 10_000
    body: int = 1 << 20
    idle: float = 75.0


@dataclass(frozen=True)
class HubSettings:
    """Everything that an administrator decides for one hub.

    `listen` is HOST:PORT, `url` what clients call it. `header` names a header that tells a type.
    `proxies` are the addresses whose X-Forwarded-For and -Proto are believed. `tag_seconds` is how
    long what a tag stands for counts as known, `stale_age` how long while its registry fails.
    `audit` is a file, `-` for standard output.
    """

    listen: str = "127.0.0.1:8080"
    url: str = ""
    tls: TlsSettings = TlsSettings()
    database: str = ""
    cache: CacheSettings = CacheSettings()
    upstreams: Mapping[str, UpstreamSettings] = field(
        default_factory=lambda: MappingProxyType({"hub": UpstreamSettings()})
    )
    default_upstream: str = ""
    registries: Mapping[str, RegistrySettings] = field(
        default_factory=lambda: MappingProxyType({DOCKER_HUB: _MANY})
    )
    policy: str = "compatible"
    policies: tuple[PolicyRule, ...] = ()
    challenge: str = "bearer"
    token_seconds: float = 300.0
    tag_seconds: float = 60.0
    stale_age: float = 604_800.0
    anonymous: str = ""
    open_types: tuple[str, ...] = ()
    networks: tuple[NetworkType, ...] = ()
    hosts: str = ""
    header: str = "X-Hpcimg-Type"
    proxies: tuple[Network, ...] = ()
    proxy: str | None = field(default=None, repr=False)
    audit: str = "-"
    limits: LimitSettings = LimitSettings()

    @cached_property
    def rules(self) -> Rules:
        """What may tell a machine type."""
        return Rules(self.open_types, self.hosts, self.networks, self.anonymous)

    @cached_property
    def hosts_of_upstreams(self) -> dict[str, str]:
        """The registry of each upstream by its name."""
        return {name: one.registry for name, one in self.upstreams.items()}

    @cached_property
    def first_upstream(self) -> str:
        """The upstream of names that say none."""
        return self.default_upstream or next(iter(self.upstreams))

    @property
    def address(self) -> tuple[str, int]:
        """Where to listen."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


def read_hub_settings(path: Path | None) -> HubSettings:
    """Read the file, or the usual one if it is there; raises SettingsError with file and line."""
    chosen = path or DEFAULT_PATH
    try:
        text = chosen.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        if path is None:
            return HubSettings()
        raise SettingsError(f'settings file "{path}" does not exist', "--settings names it") from (
            error
        )
    except (OSError, UnicodeError) as error:
        raise SettingsError(f'could not read "{chosen}": {error}', "run as its owner") from error
    return parse_hub_settings(text, source=str(chosen))


def parse_hub_settings(text: str, *, source: str = "hub.yaml") -> HubSettings:
    """Parse YAML text; raises SettingsError that names the line."""
    from hpcimg.document import MistakeError, compose, construct

    try:
        root = compose(text, source)
        document = construct(root)
    except MistakeError as error:
        raise SettingsError(f"{source}:{error.line}: {error.what}", _HINT) from error
    return _Reader(root).settings(document)


def is_address(text: str) -> bool:
    """Tell whether this is HOST:PORT."""
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and int(port[:9]) <= 65535


class _Reader(SectionReader):
    def settings(self, document: Any) -> HubSettings:
        top = dict(self.mapping(document, ()))
        self.amounts(top, ("token_seconds", "tag_seconds", "stale_age"), (), parse_age)
        top = self.section(top, HubSettings, ())
        top["tls"] = self.tls(top.get("tls"))
        top["cache"] = self.cache(top.get("cache"))
        top["limits"] = self.limits(top.get("limits"))
        top["proxy"] = read_proxy(self, top.get("proxy"), ("proxy",))
        top["open_types"] = self.words(top.get("open_types"), ("open_types",))
        top["networks"] = self.networks(top.get("networks"))
        proxies = self.words(top.get("proxies"), ("proxies",))
        top["proxies"] = tuple(self.network(one, ("proxies",)) for one in proxies)
        if top.get("anonymous"):
            top["anonymous"] = self.type_name(top["anonymous"], ("anonymous",))
        self.upstreams(top)
        self.choices(top)
        first = HubSettings(**{**top, "policies": ()})
        registry = first.hosts_of_upstreams[first.first_upstream]
        top["policies"] = read_rules(self, top.get("policies"), registry)
        return HubSettings(**top)

    def upstreams(self, top: dict[str, Any]) -> None:
        """Read what is served; each of it is in the list of registries, which is all of it."""
        given = self.mapping(top.get("registries"), ("registries",))
        registries = {
            str(host).lower(): read_registry(self, value, ("registries", host))
            for host, value in given.items()
        }
        named = self.mapping(top.get("upstreams"), ("upstreams",))
        if "upstreams" in top and not named:
            raise self.error(("upstreams",), '"upstreams" names none', _HINT)
        if named:
            found = {str(name): self.upstream(value, name) for name, value in named.items()}
            top["upstreams"] = MappingProxyType(found)
        served = top.get("upstreams", HubSettings().upstreams)
        if len({one.registry for one in served.values()}) < len(served):
            raise self.error(("upstreams",), "two upstreams are the same registry", _HINT)
        for one in served.values():
            site = registries.get(one.registry, _MANY)
            if "connections" not in (given.get(one.registry) or {}):
                site = replace(site, connections=_MANY.connections)
            # Who may read what the hub logs in for is told by the upstream's accounts.
            every = site.readable or ("*",) if site.credentials else ()
            registries[one.registry] = replace(site, readable=every)
        top["registries"] = MappingProxyType(registries)
        default = top.get("default_upstream", "")
        if default and default not in served:
            known = ", ".join(served)
            message = f'"default_upstream" is {default!r}, which is no upstream; known: {known}'
            raise self.error(("default_upstream",), message, _HINT)

    def upstream(self, value: Any, name: object) -> UpstreamSettings:
        at = ("upstreams", name)
        if not _NAME.fullmatch(str(name)):
            message = f"{str(name)!r} cannot be the first part of images' names"
            raise self.error(at, message, _HINT)
        given = self.section(value, UpstreamSettings, at)
        if "accounts" in given:
            given["accounts"] = self.words(given["accounts"], (*at, "accounts"))
            if not given["accounts"]:
                message = '"accounts" names none; take the key away where all may pull'
                raise self.error((*at, "accounts"), message, _HINT)
        registry = str(given.get("registry", "")).lower()
        if is_registry(registry):
            registry = parse_reference(f"{registry}/a/b").registry
        else:
            message = f'"registry" must be the HOST[:PORT] of a registry, not {registry!r}'
            raise self.error((*at, "registry"), message, _HINT)
        return UpstreamSettings(**{**given, "registry": registry})

    def tls(self, value: Any) -> TlsSettings:
        found = TlsSettings(**self.section(value, TlsSettings, ("tls",)))
        if bool(found.certificate) != bool(found.key):
            raise self.error(("tls",), '"certificate" and "key" go together', _HINT)
        if found.client_ca and not found.certificate:
            raise self.error(("tls",), '"client_ca" is of no use without "certificate"', _HINT)
        return found

    def cache(self, value: Any) -> CacheSettings:
        given = dict(self.mapping(value, ("cache",)))
        self.amounts(given, ("bytes",), ("cache",), parse_size)
        return CacheSettings(**self.section(given, CacheSettings, ("cache",)))

    def networks(self, value: Any) -> tuple[NetworkType, ...]:
        """Read a mapping of networks to types, the first that matches counts."""
        return tuple(
            NetworkType(
                self.network(str(key), ("networks", key)),
                self.type_name(name, ("networks", key)),
            )
            for key, name in self.mapping(value, ("networks",)).items()
        )

    def type_name(self, value: Any, at: tuple[object, ...]) -> str:
        try:
            split_name(str(value))
        except UsageError as error:
            raise self.error(at, error.message, error.hint) from error
        return str(value)

    def limits(self, value: Any) -> LimitSettings:
        given = self.section(value, LimitSettings, ("limits",))
        for key, number in given.items():
            if not number or (key != "idle" and type(number) is not int):
                raise self.error(("limits", key), f'"{key}" must be 1 or more', _HINT)
        return LimitSettings(**given)

    def network(self, text: str, at: tuple[object, ...]) -> Network:
        try:
            return ip_network(text)
        except ValueError as error:
            raise self.error(at, f"{text!r} is no network: {error}", _HINT) from error

    def choices(self, top: dict[str, Any]) -> None:
        for key, known in (("policy", KINDS), ("challenge", CHALLENGES)):
            if key in top and top[key] not in known:
                message = f'"{key}" is {" or ".join(known)}, not {top[key]!r}'
                raise self.error((key,), message, _HINT)
        if not is_address(str(top.get("listen", HubSettings.listen))):
            raise self.error(("listen",), '"listen" must be HOST:PORT', _HINT)
        if top.get("hosts") and not {"{account}", "{type}"} <= {*_PLACES.findall(top["hosts"])}:
            raise self.error(("hosts",), '"hosts" must have {account} and {type} in it', _HINT)
        for pattern in top["open_types"]:
            if pattern != "*" and "/" not in pattern:
                message = f'"open_types" has {pattern!r}, which is no ACCOUNT/TYPE'
                raise self.error(("open_types",), message, _HINT)
        if not top.get("token_seconds", 1):
            raise self.error(("token_seconds",), '"token_seconds" must be more than 0', _HINT)
        if top.get("url") and not str(top["url"]).startswith(("http://", "https://")):
            raise self.error(("url",), '"url" must begin with http:// or https://', _HINT)

    def amounts(
        self, given: dict[str, Any], keys: tuple[str, ...], at: tuple[object, ...], parse: Any
    ) -> None:
        """Turn texts as `2T` or `12h` into numbers, in place."""
        for key in keys:
            if isinstance(given.get(key), str):
                try:
                    given[key] = parse(given[key])
                except ValueError as error:
                    message = f'"{key}" is {given[key]!r}: {error}'
                    raise self.error((*at, key), message, _HINT) from error
