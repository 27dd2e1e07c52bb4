"""Image names as users write them, parsed once into a Reference.

Owns the grammar, the defaults and the site's aliases; knows no registry and opens no file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hpcimg.errors import SettingsError, UsageError
from hpcimg.oci.digest import is_digest
from hpcimg.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

DOCKER_HUB = "docker.io"
DEFAULT_TAG = "latest"
_HUB_NAMES = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})

# Lengths of the distribution specification, and of what fits one line of a log.
_TEXT_LIMIT = 1024
_REPOSITORY_LIMIT = 255
_HOST_LIMIT = 253

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_REGISTRY = re.compile(rf"({_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]{{2,45}}\])(?::([0-9]{{1,5}}))?")
# What container tools write before an image that is no registry's; a port is none of these.
_LOCAL = re.compile(
    r"((?:oci|docker)-archive|docker-daemon|containers-storage|(?:oci|dir)(?=:[^:]*[:/])):"
    r"(?![0-9]{1,5}/)"
)
_PATH_STARTS = ("/", "./", "../", "~")
_HINT = "write [REGISTRY/]NAME[:TAG][@DIGEST], for example qnib/bench:1.0"
_TURN = "turn it into a layout with `skopeo copy` to "
_PULL = "fetch it once with `apptainer pull FILE.sif NAME`, and name the file"
_DAEMON = f"{_TURN}oci:DIRECTORY, and name that, or push it to a registry"
_SCHEME_HINTS = {
    "library": _PULL,
    "shub": _PULL,
    "oras": _PULL,
    "dockerd": _DAEMON,
    "podman": _DAEMON,
    "file": "write the path alone",
}
"""What to do with what other container tools take."""


@dataclass(frozen=True)
class Reference:
    """A parsed name: registry and repository, with a tag, a digest, or both.

    With both, the digest decides what is meant and the tag is only shown.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """The name without tag and digest."""
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"

    def with_digest(self, digest: str) -> Reference:
        """Pin to a digest; the tag is dropped, since it may move on."""
        if not is_digest(digest):
            raise UsageError(f"{quoted(digest)} is not a sha256 or sha512 digest", _HINT)
        return replace(self, tag=None, digest=digest)


def parse_reference(
    text: str,
    *,
    default_registry: str = DOCKER_HUB,
    aliases: Mapping[str, str] | None = None,
    short_names: Mapping[str, str] | None = None,
) -> Reference:
    """Parse a name as a user writes it; raise UsageError that quotes it when it is none.

    `aliases` maps a name or its leading path to a replacement, `short_names` whole names; one of
    them is applied, once.
    `str()` of the result parses to the same Reference under every default registry.
    """
    _check_text(text)
    written, tag, digest = _split(_without_scheme(text), text)
    if "#" in written:
        written = _from_pyxis(written, text)
    replaced = _apply_aliases(written, default_registry, aliases or {})
    if replaced == written and short_names and written in short_names:
        replaced = _replacement(written, short_names[written])
    registry, repository = _locate(replaced, default_registry, text)
    _check_repository(repository, text)
    if tag is None and digest is None:
        tag = DEFAULT_TAG
    return Reference(registry, repository, tag, digest)


def _check_text(text: str) -> None:
    if not text:
        raise UsageError("the image name is empty", _HINT)
    if len(text) > _TEXT_LIMIT:
        raise UsageError(
            f"image name {quoted(text)} is longer than {_TEXT_LIMIT} characters", _HINT
        )
    if not all("!" <= char <= "~" for char in text):
        raise UsageError(
            f"image name {quoted(text)} has a space, a control or a non-ASCII character", _HINT
        )
    if text.startswith(_PATH_STARTS) or text in {".", ".."}:
        raise UsageError(f"{quoted(text)} is a path, not an image name", _HINT)
    if local := _LOCAL.match(text):
        raise UsageError(
            f"image name {quoted(text)} means a local image ({local[1]}), not a registry's",
            _DAEMON,
        )


def _without_scheme(text: str) -> str:
    scheme, found, rest = text.partition("://")
    if not found:
        return text
    if scheme != "docker":
        raise UsageError(
            f"image name {quoted(text)} has the scheme {quoted(scheme)}, only docker:// is known",
            _SCHEME_HINTS.get(scheme, _HINT),
        )
    return rest


def _split(text: str, whole: str) -> tuple[str, str | None, str | None]:
    """Split off tag and digest; a colon before the last slash belongs to a port."""
    head, mark, rest = text.partition("#")
    name, at, digest = (rest if mark else head).partition("@")
    if at and not is_digest(digest):
        raise UsageError(
            f"image name {quoted(whole)}: {quoted(digest)} is not a sha256 or sha512 digest", _HINT
        )
    path, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise UsageError(f"image name {quoted(whole)}: {quoted(tag)} is not a tag", _HINT)
    return head * bool(mark) + mark + path + slash + last, tag if colon else None, digest or None


def _from_pyxis(written: str, whole: str) -> str:
    """Read REGISTRY#NAME; a user before it is refused, since accounts come from one place only."""
    registry, _, name = written.partition("#")
    if "@" in registry:
        raise UsageError(
            f"image name {quoted(whole)} names a user",
            "write REGISTRY#NAME; the account is read from auth.json or docker's config.json",
        )
    if not _looks_like_registry(registry):
        raise UsageError(
            f"image name {quoted(whole)}: {quoted(registry)} could be a registry or a path",
            "write the registry with its domain or its port, as in HOST:443#NAME",
        )
    return f"{registry}/{name}"


def _apply_aliases(written: str, default_registry: str, aliases: Mapping[str, str]) -> str:
    if not aliases:
        return written
    spellings = [written]
    registry, repository = _divide(written, default_registry)
    if registry == DOCKER_HUB:
        spellings.append(f"{registry}/{repository}")
    for spelling in spellings:
        fitting = [key for key in aliases if spelling == key or spelling.startswith(key + "/")]
        if fitting:
            key = max(fitting, key=len)
            return _replacement(key, aliases[key]) + spelling[len(key) :]
    return written


def check_alias(key: str, value: str, default_registry: str) -> str:
    """Check both words of an alias, and give the registry that it leads to; raises SettingsError.

    A key that no name can begin with would do nothing in silence.
    """
    first, _, path = key.partition("/")
    parts = [*path.split("/")] * bool(path) if is_registry(first) else key.split("/")
    if not all(_COMPONENT.fullmatch(part) for part in parts):
        raise SettingsError(
            f"alias {quoted(key)} stands for no name: none begins so",
            "write a name or its beginning in lower case, without tag and digest",
        )
    return _divide(f"{_replacement(key, value)}/x", default_registry)[0]


def _replacement(key: str, value: str) -> str:
    """Check the site's word: it is put before a user's path and must not swallow part of it."""
    first, slash, path = value.partition("/")
    names_registry = is_registry(first)
    parts = path.split("/") if names_registry else value.split("/")
    if not (names_registry and not slash) and not all(_COMPONENT.fullmatch(part) for part in parts):
        raise SettingsError(
            f"alias {quoted(key)} stands for {quoted(value)}, which is not a name",
            "write [REGISTRY/]NAME without tag and digest",
        )
    return value


def _divide(name: str, default_registry: str) -> tuple[str, str]:
    """Divide a name without tag and digest into registry and repository, unchecked."""
    first, slash, rest = name.partition("/")
    if slash and _looks_like_registry(first):
        registry, repository = first.lower(), rest
    else:
        registry, repository = default_registry.lower(), name
    if registry in _HUB_NAMES:
        registry = DOCKER_HUB
        if "/" not in repository:
            repository = f"library/{repository}"
    return registry, repository


def _locate(name: str, default_registry: str, whole: str) -> tuple[str, str]:
    if not is_registry(default_registry):
        raise SettingsError(
            f"default registry {quoted(default_registry)} is not a registry",
            "write HOST.DOMAIN or HOST:PORT",
        )
    registry, repository = _divide(name, default_registry)
    if not is_registry(registry):
        raise UsageError(f"image name {quoted(whole)}: {quoted(registry)} is not a registry", _HINT)
    return registry, repository


def _looks_like_registry(text: str) -> bool:
    return "." in text or ":" in text or text == "localhost"


def is_tag(text: str) -> bool:
    """Tell whether this can be a tag."""
    return _TAG.fullmatch(text) is not None


def is_registry(text: str) -> bool:
    """Tell whether this is a registry's HOST[:PORT] that cannot be taken for a path."""
    match = _REGISTRY.fullmatch(text)
    if match is None or not _looks_like_registry(text) or len(match[1]) > _HOST_LIMIT:
        return False
    return match[2] is None or 0 < int(match[2]) < 65536


def is_short(text: str) -> bool:
    """Tell whether a name as it is written leaves the registry to the defaults."""
    first, slash, _ = _without_scheme(text).partition("/")
    return "#" not in text and not (slash and _looks_like_registry(first))


def is_location(text: str) -> bool:
    """Tell whether this is HOST[:PORT][/PATH], where a registry or a part of one may stand."""
    host, slash, path = text.partition("/")
    return is_registry(host) and (
        not slash or all(_COMPONENT.fullmatch(part) for part in path.split("/"))
    )


def _check_repository(repository: str, whole: str) -> None:
    if len(repository) > _REPOSITORY_LIMIT:
        raise UsageError(
            f"image name {quoted(whole)}: the repository is longer than "
            f"{_REPOSITORY_LIMIT} characters",
            _HINT,
        )
    for part in repository.split("/"):
        if not _COMPONENT.fullmatch(part):
            hint = "use lower case" if part != part.lower() else _HINT
            raise UsageError(
                f"image name {quoted(whole)}: {quoted(part)} is not part of a name", hint
            )
