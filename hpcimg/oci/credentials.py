"""Registry credentials of user and site: containers' and docker's files, and their helpers.

It must not know what they are used for; read them as the user they belong to, never as root for
a user.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from hpcimg.errors import RuntimeFailure, SettingsError
from hpcimg.registry_settings import RegistrySettings

IDENTITY_TOKEN_USER = "<token>"  # noqa: S105 - a marker, no secret
"""Docker's helpers put this in place of a user's name when the secret is an identity token."""

DOCKER_HUB_KEYS = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
DOCKER_HUB_SERVER = "https://index.docker.io/v1/"
"""What docker calls Docker Hub before its helpers, a name older than the distribution API."""

RUN_CONTAINERS = Path("/run/containers")

HELPER_SECONDS = 30.0
LARGEST_FILE = 4 << 20

_HELPER_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
"""The site's helpers are asked without any user's variables."""
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NOT_FOUND = b"credentials not found"


@dataclass(frozen=True)
class Credential:
    """A user's name and secret; the secret never shows in a text made of this object."""

    username: str
    secret: str = field(repr=False)

    @property
    def is_identity_token(self) -> bool:
        """Whether the secret is a refresh token for the token service instead of a password."""
        return self.username == IDENTITY_TOKEN_USER


FindCredential = Callable[[str, str], Credential | None]
"""(registry, repository) → the credential for it, or None for anonymous access."""


def credential_files(environment: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    """Name the files to read in order; REGISTRY_AUTH_FILE replaces all others, as in podman."""
    named = environment.get("REGISTRY_AUTH_FILE")
    if named:
        return (Path(named),)
    runtime = environment.get("XDG_RUNTIME_DIR")
    config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    docker = Path(environment.get("DOCKER_CONFIG") or home / ".docker")
    # Without a runtime directory podman uses one of its own.
    first = Path(runtime) if runtime else RUN_CONTAINERS / str(os.geteuid())
    first = first / ("containers" if runtime else "") / "auth.json"
    return (first, config / "containers" / "auth.json", docker / "config.json")


def credential_finder(environment: Mapping[str, str], home: Path) -> FindCredential:
    """Return the look-up over this user's files; each is read at most once, when first needed."""
    files = credential_files(environment, home)
    read = cache(read_logins)

    def find(registry: str, repository: str) -> Credential | None:
        for path in files:
            found = read(path).find(registry, repository, environment)
            if found is not None:
                return found
        return None

    return find


def site_finder(registries: Mapping[str, RegistrySettings]) -> FindCredential:
    """Return the site's own look-up: its logins serve what all users may read, nothing else."""
    read = cache(read_logins)

    def find(registry: str, repository: str) -> Credential | None:
        site = registries.get(registry)
        if site is None or site.credentials is None:
            return None
        if not any(fnmatchcase(repository, pattern) for pattern in site.readable):
            return None
        path = Path(site.credentials)
        check_kept_from_others(path)
        return read(path).find(registry, repository, _HELPER_ENVIRONMENT)

    return find


def check_kept_from_others(path: Path) -> None:
    """Refuse a file of the site's logins that others may read or change."""
    try:
        found = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    mode = stat.S_IMODE(found.st_mode)
    readers = 0o027 if found.st_gid == os.getegid() else 0o077
    if found.st_uid not in {0, os.geteuid()} or mode & readers:
        raise SettingsError(
            f'credentials in "{path}" are not safe: they belong to uid {found.st_uid} '
            f"(mode {mode:04o})",
            f"the account of the store alone may read them: chmod 0400 {path}",
        )


def no_credential(registry: str, repository: str) -> Credential | None:  # noqa: ARG001 - a FindCredential
    """Access anonymously; the store's account uses this when the site gave it no login."""
    return None


@dataclass(frozen=True)
class Logins:
    """One credential file: stored logins by key, and the helpers that keep the others."""

    source: str
    auths: Mapping[str, Credential]
    helpers: Mapping[str, str]
    default_helper: str | None

    def find(
        self, registry: str, repository: str, environment: Mapping[str, str]
    ) -> Credential | None:
        """Look up the longest key that covers the repository; a helper named for it goes first."""
        keys = tuple(covering_keys(registry, repository))
        for key in keys:
            if key in self.helpers and not self.helpers[key]:
                # As docker has it: an empty name says that no helper keeps this login.
                return self._written(keys)
            if key in self.helpers:
                return ask_helper(self.helpers[key], key, environment)
        if self.default_helper is not None:
            found = ask_helper(self.default_helper, keys[-1], environment)
            if found is not None:
                return found
        return self._written(keys)

    def _written(self, keys: tuple[str, ...]) -> Credential | None:
        return next((self.auths[key] for key in keys if key in self.auths), None)


def covering_keys(registry: str, repository: str) -> Iterator[str]:
    """Yield the keys that may hold a login for the repository, from the longest to the host."""
    parts = [registry, *repository.split("/")]
    for length in range(len(parts), 0, -1):
        yield normalise_key("/".join(parts[:length]))


def normalise_key(key: str) -> str:
    """Bring docker's old URL keys and Docker Hub's several names to one spelling."""
    text = re.sub(r"^https?://", "", key, flags=re.IGNORECASE)
    text = re.sub(r"/(v1|v2)?/?$", "", text)
    host, slash, path = text.partition("/")
    host = host.lower()
    return ("docker.io" if host in DOCKER_HUB_KEYS else host) + slash + path


def read_logins(path: Path) -> Logins:
    """Read one file with this process's own rights; a missing file holds no logins."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(LARGEST_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return Logins(str(path), {}, {}, None)
    except OSError as error:
        raise _unreadable(path, error) from error
    return parse_logins(raw, source=str(path))


def _unreadable(path: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f'could not read credentials in "{path}": {error.strerror}',
        "it must be readable by you; `podman login --authfile` writes one",
    )


def parse_logins(raw: bytes, *, source: str) -> Logins:
    """Parse an auth.json or config.json; its other keys are none of our business."""
    try:
        document = json.loads(raw or b"{}")
    except (ValueError, RecursionError):
        # The parser's error carries the text, and the text holds secrets: drop it.
        raise _malformed(source, "it is not JSON") from None
    if not isinstance(document, dict):
        raise _malformed(source, "it is no JSON object")
    auths = _mapping(document, "auths", source)
    helpers = _mapping(document, "credHelpers", source)
    default = document.get("credsStore") or None
    if default is not None and not isinstance(default, str):
        raise _malformed(source, '"credsStore" is no string')
    logins = {
        normalise_key(key): login
        for key, value in auths.items()
        if (login := _login(value, key, source)) is not None
    }
    return Logins(source, logins, {normalise_key(k): str(v) for k, v in helpers.items()}, default)


def _mapping(document: Mapping[str, Any], key: str, source: str) -> Mapping[str, Any]:
    value = document.get(key) or {}
    if not isinstance(value, dict):
        raise _malformed(source, f'"{key}" is no object')
    return value


def _login(value: Any, key: str, source: str) -> Credential | None:
    """Read one entry of "auths"; an empty one stands for a login that a helper keeps."""
    if not isinstance(value, dict):
        raise _malformed(source, f'the entry of "{key}" is no object')
    if token := value.get("identitytoken"):
        return Credential(IDENTITY_TOKEN_USER, str(token))
    if value.get("username") and value.get("password"):
        return Credential(str(value["username"]), str(value["password"]))
    if not value.get("auth"):
        return None
    try:
        text = base64.b64decode(str(value["auth"]), validate=True).decode()
    except (binascii.Error, UnicodeError):
        raise _malformed(source, f'"auth" of "{key}" is not base64 text') from None
    username, colon, secret = text.partition(":")
    if not colon:
        raise _malformed(source, f'"auth" of "{key}" has no colon')
    # Docker once padded the secret with NUL bytes.
    return Credential(username, secret.strip("\0"))


def _malformed(source: str, why: str) -> SettingsError:
    return SettingsError(
        f'credentials in "{source}" cannot be used: {why}', "log in again to write the file anew"
    )


def ask_helper(name: str, key: str, environment: Mapping[str, str]) -> Credential | None:
    """Ask `docker-credential-NAME` for a login; None when it has none."""
    from hpcimg import process

    if not _HELPER_NAME.fullmatch(name):
        raise SettingsError(
            f"credential helper {name!r} is no program name", "correct credHelpers or credsStore"
        )
    server = DOCKER_HUB_SERVER if key == "docker.io" else key
    argv = [f"docker-credential-{name}", "get"]
    done = process.run(
        argv, env=environment, stdin=server.encode(), timeout=HELPER_SECONDS, check=False
    )
    if done.returncode != 0:
        if _NOT_FOUND in done.stdout.lower() + done.stderr.lower():
            return None
        raise process.failure(argv, done.returncode, done.stderr)
    return parse_helper_answer(done.stdout, name)


def parse_helper_answer(raw: bytes, name: str) -> Credential:
    """Read a helper's answer; nothing of it may get into an error's text."""
    try:
        answer = json.loads(raw)
        return Credential(str(answer["Username"]), str(answer["Secret"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RuntimeFailure(
            f"docker-credential-{name} answered with something else than a login",
            f"run `docker-credential-{name} get` by hand",
        ) from None
