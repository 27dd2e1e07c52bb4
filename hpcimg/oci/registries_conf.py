"""Containers' registries.conf, version 2: mirrors, other locations, what is blocked, short names.

Reads the files that podman and buildah read; it must not know what our own settings say.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcimg.errors import SettingsError
from hpcimg.oci.reference import Reference, is_location, is_registry

SYSTEM = Path("/etc/containers")
_MAIN, _MORE = "registries.conf", "registries.conf.d"
_PULLS = ("all", "digest-only", "tag-only")
# Distributions ship files of comments and of short names, one of them `"registry" = "…"`: no
# reason to load a parser.
_HAS_RULES = re.compile(
    rb"^[ \t]*(\[\[?[ \t]*[\"']?)?(registry|registries)"
    rb"|^[ \t]*[\"'](registry|registries)[\"'][ \t]*(=[ \t]*[\[{]|\.)",
    re.MULTILINE,
)
_HAS_NAMES = re.compile(rb"^[ \t]*[^#\s]", re.MULTILINE)


@dataclass(frozen=True)
class Mirror:
    """Where the same content stands too; `pull` says which references may be asked for there."""

    location: str
    insecure: bool = False
    pull: str = "all"


@dataclass(frozen=True)
class RegistryRule:
    """What one `[[registry]]` says of the names that begin with `prefix`, `*.` for subdomains."""

    prefix: str
    location: str = ""
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[Mirror, ...] = ()

    def matched(self, name: str) -> int:
        """Count the characters of HOST/REPOSITORY that the prefix stands for, 0 for none."""
        host = name.partition("/")[0]
        if self.prefix.startswith("*."):
            start = name.find(self.prefix[1:])
            if not 0 < start < len(host):
                return 0
            end = start + len(self.prefix) - 1
        else:
            end = len(self.prefix) if name.startswith(self.prefix) else 0
        # The prefix of a host without a port is not that of one with a port, as podman has it.
        return end if name[end : end + 1] in {"", "/"} else 0

    def is_of_host(self, host: str) -> bool:
        """Tell whether the rule is for this host, or for some of its repositories."""
        named = self.prefix.partition("/")[0]
        return host.endswith(named[1:]) if named.startswith("*.") else host == named

    def moved(self, name: str, location: str) -> str:
        """Put `location` in the place of the prefix; an empty one leaves the name as it is."""
        return location + name[self.matched(name) :] if location else name


@dataclass(frozen=True)
class ShortNames:
    """What names without a registry mean: exact names, and the registries to search."""

    aliases: Mapping[str, str] = field(default_factory=dict)
    search: tuple[str, ...] = ()


def rule_for(rules: Iterable[RegistryRule], reference: Reference) -> RegistryRule | None:
    """Find the rule with the longest prefix of the reference's name."""
    found = max(rules, key=lambda rule: rule.matched(reference.name), default=None)
    return found if found is not None and found.matched(reference.name) else None


def files_of(folder: Path) -> tuple[Path, ...]:
    """Name the files of a directory in their order; later ones replace what earlier ones say."""
    return (folder / _MAIN, *_dropped_in(folder / _MORE))


def user_files(environment: Mapping[str, str], home: Path, system: Path) -> tuple[Path, ...]:
    """Name the files for a user: an own registries.conf stands for all of the system's."""
    if named := environment.get("CONTAINERS_REGISTRIES_CONF"):
        return (Path(named),)
    own = Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "containers"
    if (own / _MAIN).exists():
        return files_of(own)
    return (*files_of(system), *_dropped_in(own / _MORE))


def _dropped_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.conf"))


def read_rules(files: Iterable[Path]) -> tuple[RegistryRule, ...]:
    """Read all `[[registry]]`; of two with one prefix the later counts."""
    found: dict[str, RegistryRule] = {}
    for path, document in _documents(files, _HAS_RULES):
        entries = document.get("registry", [])
        for entry in _tables(entries, path, "registry"):
            rule = _rule(entry, path)
            found[rule.prefix] = rule
    return tuple(found.values())


def read_short_names(files: Iterable[Path]) -> ShortNames:
    """Read `[aliases]` and `unqualified-search-registries`; an empty alias takes one back."""
    aliases: dict[str, str] = {}
    search: list[str] = []
    for path, document in _documents(files, _HAS_NAMES):
        given = document.get("aliases", {})
        if not isinstance(given, dict) or not all(isinstance(one, str) for one in given.values()):
            raise _wrong(path, '"aliases" must be a table of texts')
        aliases.update(given)
        search = document.get("unqualified-search-registries", search)
        if not isinstance(search, list) or not all(map(_is_host, search)):
            raise _wrong(path, '"unqualified-search-registries" must be a list of registries')
    return ShortNames({key: value for key, value in aliases.items() if value}, tuple(search))


def _is_host(value: object) -> bool:
    return isinstance(value, str) and is_registry(value)


def _documents(
    files: Iterable[Path], wanted: re.Pattern[bytes]
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Read and parse the files that hold what is wanted; a missing one says nothing."""
    for path in files:
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _wrong(path, error.strerror or "it cannot be read") from error
        if wanted.search(raw):
            yield path, _parse(raw, path)


def _parse(raw: bytes, path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        document: dict[str, Any] = tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:  # its own errors and those of UTF-8 are such
        raise _wrong(path, f"it is not TOML: {error}") from error
    if "registries" in document:
        raise _wrong(path, "it has the form of version 1")
    return document


def _rule(entry: dict[str, Any], path: Path) -> RegistryRule:
    location = _text(entry, "location", path)
    prefix = _text(entry, "prefix", path) or location
    if not is_location(prefix.removeprefix("*.")):
        raise _wrong(path, f"{prefix!r} is no prefix of image names")
    if location and not is_location(location):
        raise _wrong(path, f"location {location!r} is not HOST[:PORT][/PATH]")
    if not location and not prefix.startswith("*."):
        location = prefix
    only_digests = _flag(entry, "mirror-by-digest-only", path)
    mirrors = _tables(entry.get("mirror", []), path, "mirror")
    return RegistryRule(
        _lower_host(prefix),
        _lower_host(location),
        _flag(entry, "insecure", path),
        _flag(entry, "blocked", path),
        tuple(_mirror(one, path, only_digests=only_digests) for one in mirrors),
    )


def _mirror(entry: dict[str, Any], path: Path, *, only_digests: bool) -> Mirror:
    location = _text(entry, "location", path)
    if not is_location(location):
        raise _wrong(path, f"a mirror's location {location!r} is not HOST[:PORT][/PATH]")
    pull = "digest-only" if only_digests else _text(entry, "pull-from-mirror", path) or _PULLS[0]
    if pull not in _PULLS:
        raise _wrong(path, f'"pull-from-mirror" is {", ".join(_PULLS)}, not {pull!r}')
    return Mirror(_lower_host(location), _flag(entry, "insecure", path), pull)


def _tables(value: object, path: Path, key: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise _wrong(path, f'"{key}" must be a list of tables')
    return value


def _text(entry: dict[str, Any], key: str, path: Path) -> str:
    value = entry.get(key, "")
    if not isinstance(value, str):
        raise _wrong(path, f'"{key}" must be a text')
    return value.rstrip("/")


def _flag(entry: dict[str, Any], key: str, path: Path) -> bool:
    value = entry.get(key, False)
    if not isinstance(value, bool):
        raise _wrong(path, f'"{key}" must be true or false')
    return value


def _lower_host(location: str) -> str:
    host, slash, rest = location.partition("/")
    return host.lower() + slash + rest


def _wrong(path: Path, why: str) -> SettingsError:
    return SettingsError(f'"{path}" cannot be used: {why}', "see containers-registries.conf(5)")
