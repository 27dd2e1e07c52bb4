"""The site's settings: one YAML file, read once into a frozen type.

Root-owned on a compute node; what a user may change comes by option, never from here.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hpcimg.errors import SettingsError
from hpcimg.features import parse_feature
from hpcimg.policy import KINDS, Avoid, PolicyRule

if TYPE_CHECKING:
    import yaml

DEFAULT_PATH = Path("/etc/hpcimg/settings.yaml")
PATH_VARIABLE = "HPCIMG_SETTINGS"
"""A user's own settings file, for the command line; the root stages never see this variable."""


MATCHES = ("per-node", "uniform", "uniform-or-fail")
"""How the nodes of one job choose: each for itself, or all the same image."""
_CHOICES = {"policy": KINDS, "gpu_scope": ("job", "node"), "match": MATCHES}
"""What may be said where only a few words may; `gpu_scope: node` is for GPUs Slurm knows not."""
_SPELLINGS = {"platform-features": "platform_features"}
"""The first post's spelling of a key."""
_WORDS = {bool: "true or false", int: "a number", float: "a number", str: "a text"}
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
    policies: tuple[PolicyRule, ...] = ()
    match: str = "per-node"
    platform_features: tuple[str, ...] = ()
    gpu_scope: str = "job"
    apptainer: str = "apptainer"

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


class _Reader:
    """Turns the parsed document into settings; keeps the nodes to name a wrong key's line.

    `at` is always the way to a value, from key to key.
    """

    def __init__(self, root: yaml.Node | None, source: str) -> None:
        self.root = root
        self.source = source

    def settings(self, document: Any) -> Settings:
        if isinstance(document, dict):
            document = {_SPELLINGS.get(key, key): value for key, value in document.items()}
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
        top["platform_features"] = self.words(top.get("platform_features"), ("platform_features",))
        rules = self.sequence(top.get("policies"), ("policies",))
        top["policies"] = tuple(self.rule(one, ("policies", at)) for at, one in enumerate(rules))
        for key, choices in _CHOICES.items():
            if top.get(key, choices[0]) not in choices:
                raise self.error((key,), f'"{key}" is {" or ".join(choices)}, not {top[key]!r}')
        if not Path(top["store"].path).is_absolute():
            message = f'"path" must begin with /, not {top["store"].path!r}'
            raise self.error(("store", "path"), message)
        return Settings(**top)

    def section(self, value: Any, kind: type, at: tuple[object, ...]) -> dict[str, Any]:
        """Check one mapping against the fields of `kind`: known keys, values of the right type."""
        known = {item.name: item for item in fields(kind)}
        section = self.mapping(value, at)
        for key, given in section.items():
            here = (*at, key)
            if key not in known:
                raise self.error(here, f'"{key}" is no setting; known: {", ".join(sorted(known))}')
            scalar = _scalar_of(known[key])
            if (given is None and known[key].default is None) or scalar is None:
                continue
            if not _fits(given, scalar):
                raise self.error(here, f'"{key}" must be {_WORDS[type(scalar)]}, not {given!r}')
        return dict(section)

    def rule(self, value: Any, at: tuple[object, ...]) -> PolicyRule:
        given = self.section(value, PolicyRule, at)
        for key in ("nodes", "targets", "prefer"):
            if key in given:
                given[key] = self.words(given[key], (*at, key))
        if "prefer" in given:
            given["prefer"] = tuple(str(f) for word in given["prefer"] for f in parse_feature(word))
        if "avoid" in given:
            given["avoid"] = self.avoid(given["avoid"], (*at, "avoid"))
        if "weights" in given:
            weights = self.mapping(given["weights"], (*at, "weights"))
            given["weights"] = MappingProxyType(self.numbers(weights, (*at, "weights")))
        if given.get("policy", KINDS[0]) not in KINDS:
            message = f'"policy" is {" or ".join(KINDS)}, not {given["policy"]!r}'
            raise self.error((*at, "policy"), message)
        return PolicyRule(**given)

    def avoid(self, value: Any, at: tuple[object, ...]) -> tuple[Avoid, ...]:
        """Read one or several of `{cpuflag: avx512f, on: [TARGET, ...]}`."""
        found = []
        for one in value if isinstance(value, list) else [value]:
            given = self.mapping(one, at)
            on = self.words(given.pop("on", None), (*at, "on"))
            for kind, word in given.items():
                found += [Avoid(feature, on) for feature in parse_feature(f"{kind}:{word}")]
        return tuple(found)

    def numbers(self, given: dict[Any, Any], at: tuple[object, ...]) -> dict[str, float]:
        for key, value in given.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise self.error((*at, key), f"{str(key)!r} must be a number, not {value!r}")
        return {str(key): float(value) for key, value in given.items()}

    def words(self, value: Any, at: tuple[object, ...]) -> tuple[str, ...]:
        found = self.sequence(value, at)
        if not all(isinstance(word, str) for word in found):
            raise self.error(at, f'"{at[-1]}" must be a list of texts')
        return tuple(found)

    def sequence(self, value: Any, at: tuple[object, ...]) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.error(at, f'"{at[-1]}" must be a list')
        return value

    def mapping(self, value: Any, at: tuple[object, ...]) -> dict[Any, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            name = at[-1] if at else "the file"
            raise self.error(at, f'"{name}" must be a mapping of keys to values')
        return value

    def error(self, at: tuple[object, ...], message: str) -> SettingsError:
        from hpcimg.document import line_of

        return SettingsError(f"{self.source}:{line_of(self.root, at)}: {message}", _HINT)


def _scalar_of(item: Field[Any]) -> bool | float | str | None:
    """Give a value of the type that a field wants; None for one that is no scalar."""
    if isinstance(item.default, bool | int | float | str):
        return item.default
    optional: dict[str, bool | float | str] = {"str | None": "", "bool | None": False}
    return optional.get(str(item.type))


def _fits(given: object, default: bool | float | str) -> bool:  # noqa: FBT001 - any scalar default
    if isinstance(default, bool) or isinstance(given, bool):
        return isinstance(default, bool) and isinstance(given, bool)
    if isinstance(default, int | float):
        return isinstance(given, int | float) and 0 <= given < math.inf
    return isinstance(given, str)
