"""What a request's path asks of a registry, by the distribution specification.

Knows the paths and the grammar of names; not who asks, nor what is behind a name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from hpcimg.errors import UsageError
from hpcimg.oci.digest import is_digest
from hpcimg.oci.reference import Reference, is_tag, parse_reference
from hpcimg.quoting import quoted

Kind = Literal["ping", "manifest", "blob", "tags", "referrers", "upload", "catalog"]

_TYPE_PREFIX = re.compile(r"/type/([^/]+)/([^/]+)(/v2(?:/.*)?)", re.DOTALL)
_NAMED = re.compile(
    r"/v2/(.+)/(?:(manifests|blobs|referrers)/([^/]+)|(tags)/list|(blobs/uploads)(?:/[^/]*)?)",
    re.DOTALL,
)
_KINDS: dict[str, Kind] = {
    "manifests": "manifest",
    "blobs": "blob",
    "referrers": "referrers",
    "tags": "tags",
    "blobs/uploads": "upload",
}


@dataclass(frozen=True)
class Route:
    """What is asked for: `target` is a tag or a digest, `machine_type` what the path names."""

    kind: Kind
    repository: str = ""
    target: str = ""
    machine_type: str = ""


def parse_route(path: str) -> Route | None:
    """Parse a path that is decoded already; None where it is no registry's.

    Raises UsageError for a repository, tag or digest that is none.
    """
    machine_type = ""
    prefixed = _TYPE_PREFIX.fullmatch(path)
    if prefixed:
        machine_type, path = f"{prefixed[1]}/{prefixed[2]}", prefixed[3]
    if path in ("/v2", "/v2/"):
        return Route("ping", machine_type=machine_type)
    if path == "/v2/_catalog":
        return Route("catalog", machine_type=machine_type)
    found = _NAMED.fullmatch(path)
    if found is None:
        return None
    repository, word = found[1], found[2] or found[4] or found[5]
    route = Route(_KINDS[word], repository, found[3] or "", machine_type)
    if route.kind == "blob" and route.target == "uploads":
        return Route("upload", repository, machine_type=machine_type)
    _check(route)
    return route


def upstream_reference(
    repository: str, target: str, upstreams: dict[str, str], default: str, namespace: str = ""
) -> Reference:
    """Say what a repository of the hub is at its upstream; `target` is a tag or a digest.

    `upstreams` gives each name's registry host. The first part of a repository may be such a name
    or such a host; `namespace` is what containerd's mirrors add, a host. Raises UsageError.
    """
    first, slash, rest = repository.partition("/")
    if namespace:
        registry = namespace
    elif slash and first in upstreams:
        registry, repository = upstreams[first], rest
    elif slash and first in upstreams.values():
        registry, repository = first, rest
    else:
        registry = upstreams[default]
    if registry not in upstreams.values():
        known = ", ".join(sorted(upstreams.values()))
        raise UsageError(f"{quoted(registry)} is no upstream of this hub", f"it has {known}")
    mark = "@" if is_digest(target) else ":"
    return parse_reference(f"{registry}/{repository}{mark}{target}")


def _check(route: Route) -> None:
    """Refuse a name that is none before anything is made of it."""
    parse_reference(f"registry.invalid/{route.repository}")
    wants_digest = route.kind in ("blob", "referrers")
    if wants_digest and not is_digest(route.target):
        raise UsageError(f"{quoted(route.target)} is not a sha256 or sha512 digest")
    if route.kind == "manifest" and not (is_digest(route.target) or is_tag(route.target)):
        raise UsageError(f"{quoted(route.target)} is neither a tag nor a digest")
