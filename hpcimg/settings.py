"""The site's settings: one YAML file, read once into a frozen type.

Root-owned on a compute node; what a user may change comes by option, never from here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hpcimg.errors import SettingsError

DEFAULT_PATH = Path("/etc/hpcimg/settings.yaml")
PATH_VARIABLE = "HPCIMG_SETTINGS"
"""A user's own settings file, for the command line; the root stages never see this variable."""


_CHOICES = {"policy": ("compatible", "exact"), "gpu_scope": ("job", "node")}
"""What may be said where only a few words may; `gpu_scope: node` is for GPUs Slurm knows not."""
_WORDS = {bool: "true or false", int: "a number", float: "a number", str: "a text"}


@dataclass(frozen=True)
class RegistrySettings:
    """What the site says of one registry host."""

    plain_http: bool = False
    ca_file: str | None = None


@dataclass(frozen=True)
class StoreSettings:
    """Where the site's store is, who writes it, and how long to wait for another builder (s)."""

    path: str = "/srv/hpcimg/store"
    account: str = "hpcimg"
    lock_timeout: float = 3600.0


@dataclass(frozen=True)
class Limits:
    """Bounds on what one image may cost: layers and compressed bytes."""

    layers: int = 512
    compressed_bytes: int = 100 << 30


@dataclass(frozen=True)
class Settings:
    """Everything a site decides. The defaults serve a machine without a settings file."""

    default_registry: str = "docker.io"
    registries: Mapping[str, RegistrySettings] = field(default_factory=lambda: MappingProxyType({}))
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    store: StoreSettings = StoreSettings()
    limits: Limits = Limits()
    policy: str = "compatible"
    gpu_scope: str = "job"
    apptainer: str = "apptainer"


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the site's file, or the one that HPCIMG_SETTINGS names; no file means the defaults."""
    named = environ.get(PATH_VARIABLE)
    path = Path(named) if named else DEFAULT_PATH
    try:
        text = path.read_text(encoding="utf-8")
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


def parse_settings(text: str, *, source: str = "settings") -> Settings:
    """Parse YAML text; a key that hpcimg does not know is an error that names its line."""
    import yaml

    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        document = yaml.load(text, Loader=loader)  # noqa: S506 - both are safe loaders
    except yaml.YAMLError as error:
        raise SettingsError(f'"{source}" is not YAML: {" ".join(str(error).split())}') from error
    return _Reader(text, source).settings(document)


class _Reader:
    """Turns the parsed document into settings; keeps the text to name a wrong key's line."""

    def __init__(self, text: str, source: str) -> None:
        self.lines = text.splitlines()
        self.source = source

    def settings(self, document: Any) -> Settings:
        top = self.section(document, Settings, "")
        registries = self.mapping(top.get("registries"), "registries")
        top["registries"] = MappingProxyType(
            {
                # Names of hosts are compared in lower case, as references have them.
                str(host).lower(): RegistrySettings(
                    **self.section(value, RegistrySettings, str(host))
                )
                for host, value in registries.items()
            }
        )
        aliases = self.mapping(top.get("aliases"), "aliases")
        top["aliases"] = MappingProxyType({str(k): str(v) for k, v in aliases.items()})
        top["store"] = StoreSettings(**self.section(top.get("store"), StoreSettings, "store"))
        top["limits"] = Limits(**self.section(top.get("limits"), Limits, "limits"))
        for key, choices in _CHOICES.items():
            if top.get(key, choices[0]) not in choices:
                raise self.error(key, f'"{key}" is {" or ".join(choices)}, not {top[key]!r}')
        return Settings(**top)

    def section(self, value: Any, kind: type, name: str) -> dict[str, Any]:
        """Check one mapping against the fields of `kind`: known keys, values of the right type."""
        known = {item.name: item.default for item in fields(kind)}
        section = self.mapping(value, name)
        for key, given in section.items():
            if key not in known:
                raise self.error(key, f'"{key}" is no setting; known: {", ".join(sorted(known))}')
            if given is None and known[key] is None:
                continue
            default = "" if known[key] is None else known[key]
            if isinstance(default, bool | int | float | str) and not _fits(given, default):
                wanted = _WORDS[type(default)]
                raise self.error(key, f'"{key}" must be {wanted}, not {given!r}')
        return dict(section)

    def mapping(self, value: Any, name: str) -> dict[Any, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.error(name, f'"{name or "the file"}" must be a mapping of keys to values')
        return value

    def error(self, key: object, message: str) -> SettingsError:
        numbers = (n for n, line in enumerate(self.lines, 1) if line.strip().startswith(f"{key}:"))
        number = next(numbers, 1)
        return SettingsError(f"{self.source}:{number}: {message}", "correct the settings file")


def _fits(given: object, default: bool | float | str) -> bool:  # noqa: FBT001 - any scalar default
    if isinstance(default, bool) or isinstance(given, bool):
        return isinstance(default, bool) and isinstance(given, bool)
    if isinstance(default, int | float):
        return isinstance(given, int | float) and 0 <= given < math.inf
    return isinstance(given, str)
