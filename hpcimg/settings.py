"""The site's settings: one YAML file, read once into a frozen type.

Root-owned on a compute node; what a user may change comes by option, never from here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hpcimg.errors import SettingsError
from hpcimg.policy import KINDS, PolicyRule
from hpcimg.rules import read_rules
from hpcimg.sections import SectionReader

if TYPE_CHECKING:
    pass

DEFAULT_PATH = Path("/etc/hpcimg/settings.yaml")
PATH_VARIABLE = "HPCIMG_SETTINGS"
"""A user's own settings file, for the command line; the root stages never see this variable."""


MATCHES = ("per-node", "uniform", "uniform-or-fail")
"""How the nodes of one job choose: each for itself, or all the same image."""
_CHOICES = {"policy": KINDS, "gpu_scope": ("job", "node"), "match": MATCHES}
"""What may be said where only a few words may; `gpu_scope: node` is for GPUs Slurm knows not."""
_SPELLINGS = {"platform-features": "platform_features"}
"""The first post's spelling of a key."""
_HINT = "correct the settings file"


@dataclass(frozen=True)
class RegistrySettings:
    """What the site says of one registry host."""

    plain_http: bool = False
    ca_file: str | None = None
    referrers: bool = True


@dataclass(frozen=True)
class StoreSettings:
    """Where the site's store is, who writes it, and how long to wait for another builder (s)."""

    path: str = "/srv/hpcimg/store"
    account: str = "hpcimg"
    lock_timeout: float = 3600.0


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
class Settings:
    """Everything a site decides. The defaults serve a machine without a settings file."""

    default_registry: str = "docker.io"
    registries: Mapping[str, RegistrySettings] = field(default_factory=lambda: MappingProxyType({}))
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    store: StoreSettings = StoreSettings()
    limits: Limits = Limits()
    policy: str = "compatible"
    policies: tuple[PolicyRule, ...] = ()
    match: str = "per-node"
    platform_features: tuple[str, ...] = ()
    gpu_scope: str = "job"
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
                str(host).lower(): RegistrySettings(
                    **self.section(value, RegistrySettings, ("registries", host))
                )
                for host, value in registries.items()
            }
        )
        aliases = self.mapping(top.get("aliases"), ("aliases",))
        top["aliases"] = MappingProxyType({str(k): str(v) for k, v in aliases.items()})
        top["store"] = StoreSettings(**self.section(top.get("store"), StoreSettings, ("store",)))
        top["limits"] = Limits(**self.section(top.get("limits"), Limits, ("limits",)))
        features = written.get("platform_features", "platform_features")
        top["platform_features"] = self.words(top.get("platform_features"), (features,))
        registry = top.get("default_registry", Settings.default_registry)
        top["policies"] = read_rules(self, top.get("policies"), registry)
        for key, choices in _CHOICES.items():
            if top.get(key, choices[0]) not in choices:
                raise self.error((key,), f'"{key}" is {" or ".join(choices)}, not {top[key]!r}')
        if not Path(top["store"].path).is_absolute():
            message = f'"path" must begin with /, not {top["store"].path!r}'
            raise self.error(("store", "path"), message)
        return Settings(**top)

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
