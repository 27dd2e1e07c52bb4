"""A node's login files with the hub's login in them: the old text of one gives the new one.

Knows docker's, containers' and containerd's forms; all that others wrote stays. Reads no file.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import Any

from hpcimg.errors import SettingsError, UsageError
from hpcimg.hub.hosts_table import HostsTable
from hpcimg.oci.reference import is_registry
from hpcimg.quoting import quoted

TYPE_HEADER = "X-Hpcimg-Type"
"""Names the machine type, where the login is an account's and does not say it."""

_URL = re.compile(r"(https?)://([^/?#@\s]+)/?", re.IGNORECASE)
_DEFAULT_PORT = {"https": ":443", "http": ":80"}
_OTHER_SPELLING = re.compile(r"https?://|/(v[12]/?)?\Z", re.IGNORECASE)
_LOGIN = re.compile(r"[^\s:\x00-\x1f\x7f]{1,256}")


@dataclass(frozen=True)
class HubLogin:
    """What is written: the hub's URL, `scheme://HOST[:PORT]`, a login and its password.

    `machine_type` is a full name, where the login alone does not tell it; of an open type the name
    of the login is empty.
    """

    url: str
    name: str
    password: str = field(repr=False)
    machine_type: str = ""

    @property
    def host(self) -> str:
        """The hub as images are named after it."""
        return self.url.partition("://")[2]

    @property
    def basic(self) -> str:
        """Name and password as Basic has them."""
        return base64.b64encode(f"{self.name}:{self.password}".encode()).decode()


@dataclass(frozen=True)
class Beside:
    """Files beside a hosts.toml: authorities that the hub is trusted by, besides the system's.

    And the certificates that it trusts us by, each with its key or with the key in it.
    """

    authorities: tuple[str, ...] = ()
    pairs: tuple[tuple[str, ...], ...] = ()


NOTHING_BESIDE = Beside()


def hub_url(text: str) -> str:
    """Check a hub's URL, and bring it to `scheme://HOST[:PORT]` as images are named after it."""
    found = _URL.fullmatch(text)
    scheme, host = (found[1].lower(), found[2].lower()) if found else ("", "")
    host = host.removesuffix(_DEFAULT_PORT.get(scheme, ""))
    # A name without a dot or a port is no registry to any client.
    if not is_registry(host):
        raise UsageError(
            f"{quoted(_shown(text))} is not the URL of a hub",
            "write https://HOST or https://HOST:PORT, with a dot in the host where there is no "
            "port; a login is given by --login",
        )
    return f"{scheme}://{host}"


def check_login(name: str, password: str) -> None:
    """Raise UsageError for what no client can send; the password is not shown."""
    if not _LOGIN.fullmatch(name):
        raise UsageError(f"{quoted(name)} is no login", "it has no colon and no space")
    if not password or not password.isprintable():
        raise UsageError(
            f"the password of {quoted(name)} is empty or has control characters",
            "the file has one line with it, or lines of LOGIN:PASSWORD",
        )


def docker_config(old: bytes, login: HubLogin, source: str) -> str:
    """Put the login into docker's config.json."""
    document = _document(old, source)
    _put_login(document, login, source)
    helpers = _object(document, "credHelpers", source)
    # An empty helper is the file itself: without it a helper for all hosts would be asked alone.
    if document.get("credsStore") or login.host in helpers:
        document["credHelpers"] = {**helpers, login.host: ""}
    return _text(document, source)


def containers_auth(old: bytes, login: HubLogin, source: str) -> str:
    """Put the login into the auth.json of podman, buildah, skopeo and CRI-O."""
    document = _document(old, source)
    _put_login(document, login, source)
    helpers = _object(document, "credHelpers", source)
    # It would be asked in place of the file.
    if login.host in helpers:
        document["credHelpers"] = {k: v for k, v in helpers.items() if k != login.host}
    return _text(document, source)


def containerd_hosts(
    old: bytes,
    login: HubLogin,
    source: str,
    beside: Beside = NOTHING_BESIDE,
    *,
    fallback: bool = False,
) -> str:
    """Put the hub first into a hosts.toml, of its own host or of a registry it stands before.

    With `fallback` the registry itself is asked where the hub fails.
    """
    table = HostsTable(_decoded(old, source), source)
    table.forget_ours()
    # What a client asks after all hosts; with the hub here too its own refusal is what is told.
    is_last = not fallback and table.put((), "server", login.url, keep=True)
    if is_last:
        _put_files(table, (), beside)
    host = ("host", login.url)
    table.make_first(host)
    table.put(host, "capabilities", ["pull", "resolve"], keep=True)
    _put_files(table, host, beside)
    _put_headers(table, (*host, "header"), login)
    if is_last:
        _put_headers(table, ("header",), login)
    return table.text()


def _put_files(table: HostsTable, section: tuple[str, ...], beside: Beside) -> None:
    if beside.authorities:
        table.put(section, "ca", beside.authorities, keep=True)
    if beside.pairs:
        # A list in a list is a pair; a name alone is a file with both.
        pairs = [pair if len(pair) > 1 else pair[0] for pair in beside.pairs]
        table.put(section, "client", pairs, keep=True)


def _put_headers(table: HostsTable, section: tuple[str, ...], login: HubLogin) -> None:
    if login.name:
        table.put(section, "Authorization", [f"Basic {login.basic}"])
    if login.machine_type:
        table.put(section, TYPE_HEADER, [login.machine_type])


def _put_login(document: dict[str, Any], login: HubLogin, source: str) -> None:
    auths = _object(document, "auths", source)
    kept = {key: value for key, value in auths.items() if _host_of_key(key) != login.host}
    document["auths"] = {**kept, login.host: {"auth": login.basic}}


def _host_of_key(key: str) -> str:
    """Read an old spelling of a host, as https://HOST/v2/; a key with a path stays what it is."""
    return _OTHER_SPELLING.sub("", key).lower()


def _document(old: bytes, source: str) -> dict[str, Any]:
    text = _decoded(old, source)
    try:
        document = json.loads(text or "{}", object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        # The parser's error carries the text, and the text holds secrets: drop it.
        raise malformed(source, "it is not JSON") from None
    if not isinstance(document, dict):
        raise malformed(source, "it is no JSON object")
    return document


def _object(document: dict[str, Any], key: str, source: str) -> dict[str, Any]:
    value = document.get(key)
    value = {} if value is None else value
    if not isinstance(value, dict):
        raise malformed(source, f'"{key}" is no object')
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that stands twice: one of the two would be lost."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError
    return result


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _text(document: dict[str, Any], source: str) -> str:
    try:
        return json.dumps(document, indent="\t", allow_nan=False) + "\n"
    except (ValueError, RecursionError):
        raise malformed(source, "it has a number that is none") from None


def _decoded(old: bytes, source: str) -> str:
    try:
        return old.decode().strip("\0") if old.strip() else ""
    except UnicodeDecodeError:
        raise malformed(source, "it is not UTF-8") from None


def _shown(url: str) -> str:
    """Leave out what may be a password."""
    return re.sub(r"://[^/]*@", "://", url)


def malformed(source: str, why: str) -> SettingsError:
    """Refuse a file that cannot be kept as it is."""
    return SettingsError(
        f'"{source}" cannot be changed: {why}', "mend it, or move it away to have it written anew"
    )
