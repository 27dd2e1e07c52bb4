"""The site's settings: one YAML file, read once into a frozen type.

Root-owned on a compute node; what a user may change comes by option, never from here.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hpcimg.amounts import parse_size
from hpcimg.errors import SettingsError
from hpcimg.oci.reference import is_location
from hpcimg.policy import KINDS, PolicyRule
from hpcimg.rules import read_rules
from hpcimg.sections import SectionReader

DEFAULT_PATH = Path("/etc/hpcimg/settings.yaml")
PATH_VARIABLE = "HPCIMG_SETTINGS"
"""A user's own settings file, for the command line; the root stages never see this variable."""


MATCHES = ("per-node", "uniform", "uniform-or-fail")
"""How the nodes of one job choose: each for itself, or all the same image."""
PULLS = ("missing", "newer", "always")
"""When a registry is asked what a tag stands for: not if it is in the store, or once a job; and
whether what it stood for lately counts while the registry fails, which `always` forbids."""
ACCOUNTINGS = ("none", "admin-comment", "comment")
"""Where Slurm's accounting is told what a job ran."""
_CHOICES = {
    "policy": KINDS,
    "gpu_scope": ("job", "node"),
    "match": MATCHES,
    "pull": PULLS,
    "accounting": ACCOUNTINGS,
    "mount": ("fuse", "kernel"),
}
"""What may be said where only a few words may; `gpu_scope: node` is for GPUs Slurm knows not."""
KEEPS = ("job", "always")
"""How long what a named container leaves is kept on its node."""
LOCKS = ("flock", "fcntl", "link", "none")
"""How builders on several nodes exclude each other: what the store's file system can do."""
_SPELLINGS = {"platform-features": "platform_features"}
"""The first post's spelling of a key."""
_HINT = "correct the settings file"
_PROXY = re.compile(r"https?://([^/@\s]+@)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?/?")


@dataclass(frozen=True)
class KeyRule:
    """Images of the repositories that a pattern matches bear a signature of one of these keys."""

    repository: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class RegistrySettings:
    """What the site says of one registry host; `repositories` are patterns, None means all.

    `mirrors` are HOST[:PORT][/PATH], asked before the host itself. `credentials` is a file that the
    site's account uses for the repositories that match `readable`, which all users may read.
    Of `signatures` the first rule that matches counts.
    """

    plain_http: bool = False
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    referrers: bool = True
    mirrors: tuple[str, ...] = ()
    connections: int = 4
    proxy: str | None = field(default=None, repr=False)
    credentials: str | None = None
    readable: tuple[str, ...] = ()
    repositories: tuple[str, ...] | None = None
    signatures: tuple[KeyRule, ...] = ()


@dataclass(frozen=True)
class StoreSettings:
    """Where the site's store is, who writes it, how builders exclude each other, what is kept.

    `lock_timeout` is in seconds, the water marks are in bytes; 0 there, and for `max_age_days`,
    sets no limit. `blob_bytes` bounds the layers that are kept for other images.
    """

    path: str = "/srv/hpcimg/store"
    account: str = "hpcimg"
    lock: str = "flock"
    lock_timeout: float = 3600.0
    lease_days: float = 30.0
    keep_hours: float = 24.0
    max_age_days: float = 0.0
    high_water: int = 0
    low_water: int = 0
    blob_bytes: int = 20 * 10**9


@dataclass(frozen=True)
class Limits:
    """Bounds on what one image may cost.

    `ratio` is of unpacked to compressed bytes in one layer, `seconds` are those of a conversion,
    `memory` is what each of its two programs may take, in bytes.
    """

    layers: int = 512
    compressed_bytes: int = 100 << 30
    entries: int = 20_000_000
    unpacked_bytes: int = 1 << 40
    ratio: int = 500
    seconds: float = 14_400.0
    memory: int = 8 << 30


@dataclass(frozen=True)
class ContainerSettings:
    """Where each node keeps what named containers leave, and whether for the job or for good."""

    path: str = "/var/lib/hpcimg/containers"
    keep: str = "job"


@dataclass(frozen=True)
class Settings:
    """Everything a site decides. The defaults serve a machine without a settings file."""

    default_registry: str = "docker.io"
    registries: Mapping[str, RegistrySettings] = field(default_factory=lambda: MappingProxyType({}))
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    store: StoreSettings = StoreSettings()
    limits: Limits = Limits()
    containers: ContainerSettings = ContainerSettings()
    policy: str = "compatible"
    policies: tuple[PolicyRule, ...] = ()
    match: str = "per-node"
    pull: str = "newer"
    stale_age: float = 604_800.0
    accounting: str = "none"
    platform_features: tuple[str, ...] = ()
    gpu_scope: str = "job"
    mount: str = "fuse"
    proxy: str | None = field(default=None, repr=False)
    no_proxy: tuple[str, ...] = ()
    apptainer: str = "apptainer"
    merger: str = "/usr/local/libexec/hpcimg/merger"

    def policy_rules(self) -> tuple[PolicyRule, ...]:
        """Give all rules of the choice, the general one first."""
        return (PolicyRule(policy=self.policy), *self.policies)


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the site's file, or the one that HPCIMG_SETTINGS names; no file means the defaults."""
    named = environ.get(PATH_VARIABLE)
    path = Path(named) if named else DEFAULT_PATH
    try:
        with path.open(encoding="utf-8") as file:
            if not named:
                _check_owner(path, os.fstat(file.fileno()))
            text = file.read()
    except FileNotFoundError as error:
        if named:
            raise SettingsError(
                f'settings file "{path}" does not exist', f"{PATH_VARIABLE} names it"
            ) from error
        return Settings()
    except OSError as error:
        raise SettingsError(f'could not read settings file "{path}": {error.strerror}') from error
    except UnicodeError as error:
        raise SettingsError(f'settings file "{path}" is not UTF-8 text') from error
    return parse_settings(text, source=str(path))


def places_of_settings(environ: Mapping[str, str] = os.environ) -> dict[tuple[object, ...], str]:
    """Say where each key of the settings file stands, and each rule by its number: `FILE:LINE`."""
    from hpcimg.document import compose, places_of

    path = Path(environ.get(PATH_VARIABLE) or DEFAULT_PATH)
    try:
        root = compose(path.read_text(encoding="utf-8"))
    except OSError:
        return {}
    found = places_of(root)
    return {
        tuple(_SPELLINGS.get(str(word), word) for word in way): f"{path}:{line}"
        for way, line in found.items()
    }


def has_site_file() -> bool:
    """Tell whether there is a site's file at all, which is the first question of a new site."""
    return DEFAULT_PATH.exists()


def parse_settings(text: str, *, source: str = "settings") -> Settings:
    """Parse YAML text; a key that is not known or stands twice is an error that names its line."""
    from hpcimg.document import MistakeError, compose, construct

    try:
        root = compose(text)
        return _Reader(root, source).settings(construct(root))
    except MistakeError as error:
        raise SettingsError(f"{source}:{error.line}: {error.what}", _HINT) from error


def _check_owner(path: Path, found: os.stat_result) -> None:
    """Refuse a site's file that others may write: it says where root's stages get images from."""
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid == 0 and not mode & 0o022:
        return
    raise SettingsError(
        f'settings file "{path}" is not safe: it belongs to uid {found.st_uid} (mode {mode:04o})',
        f"as root: chown root {path} && chmod go-w {path}",
    )


class _Reader(SectionReader):
    def settings(self, document: Any) -> Settings:
        document, written = self.respelled(document)
        top = self.section(document, Settings, ())
        registries = self.mapping(top.get("registries"), ("registries",))
        top["registries"] = MappingProxyType(
            {
                # Names of hosts are compared in lower case, as references have them.
                str(host).lower(): self.registry(value, ("registries", host))
                for host, value in registries.items()
            }
        )
        top["proxy"] = self.proxy(top.get("proxy"), ("proxy",))
        top["no_proxy"] = self.words(top.get("no_proxy"), ("no_proxy",))
        aliases = self.mapping(top.get("aliases"), ("aliases",))
        top["aliases"] = MappingProxyType({str(k): str(v) for k, v in aliases.items()})
        top["store"] = self.store(top.get("store"))
        top["limits"] = Limits(**self.section(top.get("limits"), Limits, ("limits",)))
        top["containers"] = self.containers(top.get("containers"))
        features = written.get("platform_features", "platform_features")
        top["platform_features"] = self.words(top.get("platform_features"), (features,))
        registry = top.get("default_registry", Settings.default_registry)
        top["policies"] = read_rules(self, top.get("policies"), registry)
        for key, choices in _CHOICES.items():
            if key in top and top[key] not in choices:
                raise self.error((key,), f'"{key}" is {" or ".join(choices)}, not {top[key]!r}')
        return Settings(**top)

    def store(self, value: Any) -> StoreSettings:
        given = dict(self.mapping(value, ("store",)))
        for key in ("high_water", "low_water", "blob_bytes"):
            if isinstance(given.get(key), str):
                try:
                    given[key] = parse_size(given[key])
                except ValueError as error:
                    message = f'"{key}" is {given[key]!r}: {error}'
                    raise self.error(("store", key), message) from error
        store = StoreSettings(**self.section(given, StoreSettings, ("store",)))
        if not Path(store.path).is_absolute():
            message = f'"path" must begin with /, not {store.path!r}'
            raise self.error(("store", "path"), message)
        if store.lock not in LOCKS:
            message = f'"lock" is {" or ".join(LOCKS)}, not {store.lock!r}'
            raise self.error(("store", "lock"), message)
        if store.low_water > store.high_water:
            message = '"low_water" is more than "high_water", at which removing begins'
            raise self.error(("store", "low_water"), message)
        return store

    def containers(self, value: Any) -> ContainerSettings:
        given = self.section(value, ContainerSettings, ("containers",))
        found = ContainerSettings(**given)
        # Apptainer is given directories in it, and takes a colon for an end.
        if not Path(found.path).is_absolute() or any(c in found.path for c in ":,\n\t"):
            message = f'"path" must begin with / and have no colon or comma, not {found.path!r}'
            raise self.error(("containers", "path"), message)
        if found.keep not in KEEPS:
            message = f'"keep" is {" or ".join(KEEPS)}, not {found.keep!r}'
            raise self.error(("containers", "keep"), message)
        return found

    def registry(self, value: Any, at: tuple[object, ...]) -> RegistrySettings:
        given = self.section(value, RegistrySettings, at)
        for key in ("mirrors", "readable"):
            given[key] = self.words(given.get(key), (*at, key))
        for mirror in given["mirrors"]:
            if not is_location(mirror):
                message = f'"mirrors" has {mirror!r}, which is no HOST[:PORT][/PATH]'
                raise self.error((*at, "mirrors"), message)
        given["proxy"] = self.proxy(given.get("proxy"), (*at, "proxy"))
        if "connections" in given and not (
            type(given["connections"]) is int and given["connections"]
        ):
            raise self.error((*at, "connections"), '"connections" must be 1 or more')
        for key, other in (("client_key", "client_certificate"), ("readable", "credentials")):
            if given.get(key) and not given.get(other):
                raise self.error((*at, key), f'"{key}" is of no use without "{other}"')
        if "repositories" in given:
            given["repositories"] = self.said(given["repositories"], (*at, "repositories"))
        if "signatures" in given:
            given["signatures"] = self.key_rules(given["signatures"], (*at, "signatures"))
        return RegistrySettings(**given)

    def proxy(self, value: Any, at: tuple[object, ...]) -> str | None:
        """Check a proxy's URL; it may hold a login, so that it stands in no message."""
        if value and not _PROXY.fullmatch(value):
            raise self.error(at, '"proxy" must be http://[USER:PASSWORD@]HOST[:PORT], or https')
        return None if value is None else str(value)

    def key_rules(self, value: Any, at: tuple[object, ...]) -> tuple[KeyRule, ...]:
        """Read a list of key files, for all repositories, or such a list for each pattern."""
        if isinstance(value, dict):
            rules = tuple(
                KeyRule(str(pattern), self.said(files, (*at, pattern)))
                for pattern, files in value.items()
            )
        else:
            rules = (KeyRule("*", self.said(value, at)),)
        for file in (file for rule in rules for file in rule.files):
            if not Path(file).is_absolute():
                raise self.error(at, f'"signatures" names paths that begin with /, not {file!r}')
        return rules

    def said(self, value: Any, at: tuple[object, ...]) -> tuple[str, ...]:
        """Read a list that may be empty, and not missing: what it forbids would then pass."""
        if value is None:
            raise self.error(at, f'"{at[-1]}" says nothing: write a list, or [] for an empty one')
        return self.words(value, at)

    def respelled(self, document: Any) -> tuple[Any, dict[str, str]]:
        """Bring keys to one spelling; also tell how each of those was written."""
        if not isinstance(document, dict):
            return document, {}
        written: dict[str, str] = {}
        for key in document:
            name = _SPELLINGS.get(str(key), str(key))
            if name in written:
                raise self.error((key,), f'"{key}" stands twice, in two spellings')
            written[name] = key
        return {name: document[key] for name, key in written.items()}, written
