"""What a site says of one registry host, and how that is read.

The types of `settings.registries`; who uses them knows no file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcimg.oci.reference import is_location
from hpcimg.sections import SectionReader

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


def read_registry(reader: SectionReader, value: Any, at: tuple[object, ...]) -> RegistrySettings:
    """Read what stands under one host; raises SettingsError that names the line."""
    given = reader.section(value, RegistrySettings, at)
    for key in ("mirrors", "readable"):
        given[key] = reader.words(given.get(key), (*at, key))
    for mirror in given["mirrors"]:
        if not is_location(mirror):
            message = f'"mirrors" has {mirror!r}, which is no HOST[:PORT][/PATH]'
            raise reader.error((*at, "mirrors"), message)
    given["proxy"] = read_proxy(reader, given.get("proxy"), (*at, "proxy"))
    if "connections" in given and not (type(given["connections"]) is int and given["connections"]):
        raise reader.error((*at, "connections"), '"connections" must be 1 or more')
    for key, other in (("client_key", "client_certificate"), ("readable", "credentials")):
        if given.get(key) and not given.get(other):
            raise reader.error((*at, key), f'"{key}" is of no use without "{other}"')
    if "repositories" in given:
        given["repositories"] = _said(reader, given["repositories"], (*at, "repositories"))
    if "signatures" in given:
        given["signatures"] = _key_rules(reader, given["signatures"], (*at, "signatures"))
    return RegistrySettings(**given)


def read_proxy(reader: SectionReader, value: Any, at: tuple[object, ...]) -> str | None:
    """Check a proxy's URL; it may hold a login, so that it stands in no message."""
    if value and not _PROXY.fullmatch(value):
        raise reader.error(at, '"proxy" must be http://[USER:PASSWORD@]HOST[:PORT], or https')
    return None if value is None else str(value)


def _key_rules(reader: SectionReader, value: Any, at: tuple[object, ...]) -> tuple[KeyRule, ...]:
    """Read a list of key files, for all repositories, or such a list for each pattern."""
    if isinstance(value, dict):
        rules = tuple(
            KeyRule(str(pattern), _said(reader, files, (*at, pattern)))
            for pattern, files in value.items()
        )
    else:
        rules = (KeyRule("*", _said(reader, value, at)),)
    for file in (file for rule in rules for file in rule.files):
        if not Path(file).is_absolute():
            raise reader.error(at, f'"signatures" names paths that begin with /, not {file!r}')
    return rules


def _said(reader: SectionReader, value: Any, at: tuple[object, ...]) -> tuple[str, ...]:
    """Read a list that may be empty, and not missing: what it forbids would then pass."""
    if value is None:
        raise reader.error(at, f'"{at[-1]}" says nothing: write a list, or [] for an empty one')
    return reader.words(value, at)
