"""The site's settings: one YAML file and its drop-ins, read once into a frozen type.

Root-owned on a compute node; what a user may change comes by option, never from here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hpcimg.amounts import parse_size
from hpcimg.bind import Bind
from hpcimg.errors import SettingsError
from hpcimg.gpu_settings import GpuSettings, read_gpu_settings
from hpcimg.policy import KINDS, PolicyRule
from hpcimg.registry_settings import RegistrySettings, read_proxy, read_registry
from hpcimg.rules import read_rules
from hpcimg.sections import SectionReader
from hpcimg.settings_files import SettingsFile, drop_in_folder, own_file, site_files

if TYPE_CHECKING:
    import yaml

    from hpcimg.host_mpi_settings import HostMpi

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
LOCAL_STAGE = "/var/cache/hpcimg"
"""Where `stage: local` has nodes keep their copies."""
_SPELLINGS = {"platform-features": "platform_features"}
"""The first post's spelling of a key."""
_HINT = "correct the settings file"


@dataclass(frozen=True)
class StoreSettings:
    """Where the site's store is, who writes it, how builders exclude each other, what is kept.

    `lock_timeout` is in seconds, the water marks are in bytes; 0 there, and for `max_age_days`,
    sets no limit. `blob_bytes` bounds the layers that are kept for other images. Where it is not
    `shared`, each node has a store of its own at this path.
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
    shared: bool = True


@dataclass(frozen=True)
class StageSettings:
    """Where nodes keep copies of their own; empty: they use the store's files as they are.

    `bytes` bounds all copies of a node; 0 sets no limit.
    """

    path: str = ""
    bytes: int = 0


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
class PrologSettings:
    """What the prolog does; it waits for nothing whatever is said here."""

    prefetch: bool = True


@dataclass(frozen=True)
class Settings:
    """Everything a site decides. The defaults serve a machine without a settings file."""

    default_registry: str = "docker.io"
    registries: Mapping[str, RegistrySettings] = field(default_factory=lambda: MappingProxyType({}))
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    store: StoreSettings = StoreSettings()
    stage: StageSettings = StageSettings()
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
    gpus: GpuSettings = field(default_factory=GpuSettings)
    mount: str = "fuse"
    proxy: str | None = field(default=None, repr=False)
    no_proxy: tuple[str, ...] = ()
    apptainer: str = "apptainer"
    merger: str = "/usr/local/libexec/hpcimg/merger"
    mounts: tuple[Bind, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    mount_home: bool = True
    host_mpi: tuple[HostMpi, ...] = ()
    prolog: PrologSettings = PrologSettings()

    def policy_rules(self) -> tuple[PolicyRule, ...]:
        """Give all rules of the choice, the general one first."""
        return (PolicyRule(policy=self.policy), *self.policies)


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the site's files, or the one that HPCIMG_SETTINGS names; none means the defaults."""
    files = settings_files(environ)
    return parse_files(files) if files else Settings()


def settings_files(environ: Mapping[str, str]) -> tuple[SettingsFile, ...]:
    """Read the files that count, a later one over an earlier; a file of a user's own is alone."""
    named = environ.get(PATH_VARIABLE)
    return (own_file(Path(named), PATH_VARIABLE),) if named else site_files(DEFAULT_PATH)


def places_of_settings(environ: Mapping[str, str] = os.environ) -> dict[tuple[object, ...], str]:
    """Say where each key of the settings stands, and each rule by its number: `FILE:LINE`."""
    return places_in(compose_files(settings_files(environ)))


def places_in(root: yaml.Node | None) -> dict[tuple[object, ...], str]:
    """Say where each key of a composed document stands, by its one spelling."""
    from hpcimg.document import places_of

    return {
        tuple(
            _name_of_key(way[:at], word) if isinstance(word, str) else word
            for at, word in enumerate(way)
        ): place
        for way, place in places_of(root).items()
    }


def has_site_file() -> bool:
    """Tell whether there is a site's file at all, which is the first question of a new site."""
    return DEFAULT_PATH.exists() or drop_in_folder(DEFAULT_PATH).exists()


def parse_settings(text: str, *, source: str = "settings") -> Settings:
    """Parse YAML text; a key that is not known or stands twice is an error that names its line."""
    return parse_files((SettingsFile(Path(source), text),))


def parse_files(files: Sequence[SettingsFile]) -> Settings:
    """Parse files as one document; an error names the file and the line of the mistake."""
    return parse_document(compose_files(files))


def parse_document(root: yaml.Node | None) -> Settings:
    """Make settings of a composed document; raises SettingsError."""
    from hpcimg.document import MistakeError, construct

    try:
        document = construct(root)
    except MistakeError as error:
        raise SettingsError(f"{error.file}:{error.line}: {error.what}", _HINT) from error
    return _Reader(root).settings(document)


def compose_files(files: Iterable[SettingsFile]) -> yaml.Node | None:
    """Lay the files' documents over each other; the places of their nodes are kept."""
    from hpcimg.document import MistakeError, compose

    root = None
    for file in files:
        try:
            root = join_documents(root, compose(file.text, str(file.path)))
        except MistakeError as error:
            raise SettingsError(f"{file.path}:{error.line}: {error.what}", _HINT) from error
    return root


def join_documents(older: yaml.Node | None, newer: yaml.Node | None) -> yaml.Node | None:
    """Lay one composed document over another: mappings join by key, all else is replaced."""
    from hpcimg.document import merge

    return merge(older, newer, _name_of_key)


def _name_of_key(way: tuple[object, ...], key: str) -> str:
    """Bring keys to one spelling, so that a later file changes what it means to change."""
    if way == ("registries",):
        return key.lower()
    return key if way else _SPELLINGS.get(key, key)


class _Reader(SectionReader):
    def settings(self, document: Any) -> Settings:
        document, written = self.respelled(document)
        top = self.section(document, Settings, ())
        registries = self.mapping(top.get("registries"), ("registries",))
        top["registries"] = MappingProxyType(
            {
                # Names of hosts are compared in lower case, as references have them.
                str(host).lower(): read_registry(self, value, ("registries", host))
                for host, value in registries.items()
            }
        )
        top["proxy"] = read_proxy(self, top.get("proxy"), ("proxy",))
        top["no_proxy"] = self.words(top.get("no_proxy"), ("no_proxy",))
        aliases = self.mapping(top.get("aliases"), ("aliases",))
        top["aliases"] = MappingProxyType({str(k): str(v) for k, v in aliases.items()})
        top["store"] = self.store(top.get("store"))
        top["gpus"] = read_gpu_settings(self, top.get("gpus"))
        top["stage"] = self.stage(top.get("stage"))
        prolog = self.section(top.get("prolog"), PrologSettings, ("prolog",))
        top["prolog"] = PrologSettings(**prolog)
        if "mounts" in top or "environment" in top:
            from hpcimg.container_settings import read_environment, read_mounts

            top["mounts"] = read_mounts(self, top.get("mounts"))
            top["environment"] = read_environment(self, top.get("environment"))
        if "host_mpi" in top:
            from hpcimg.host_mpi_settings import read_host_mpi

            top["host_mpi"] = read_host_mpi(self, top["host_mpi"])
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
        self.sizes(given, ("high_water", "low_water", "blob_bytes"), ("store",))
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

    def stage(self, value: Any) -> StageSettings:
        """Read where copies are kept; `local` is the usual place, and `none` nowhere."""
        if value in ("none", "local"):
            return StageSettings(LOCAL_STAGE if value == "local" else "")
        given = dict(self.mapping(value, ("stage",)))
        self.sizes(given, ("bytes",), ("stage",))
        given.setdefault("path", LOCAL_STAGE if given else "")
        stage = StageSettings(**self.section(given, StageSettings, ("stage",)))
        if stage.path and not Path(stage.path).is_absolute():
            message = f'"path" must begin with /, not {stage.path!r}'
            raise self.error(("stage", "path"), message)
        return stage

    def sizes(self, given: dict[str, Any], keys: tuple[str, ...], at: tuple[object, ...]) -> None:
        """Turn texts as `2T` into bytes, in place."""
        for key in keys:
            if isinstance(given.get(key), str):
                try:
                    given[key] = parse_size(given[key])
                except ValueError as error:
                    message = f'"{key}" is {given[key]!r}: {error}'
                    raise self.error((*at, key), message) from error

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
