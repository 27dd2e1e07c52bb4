"""`config show`: each value that counts here, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from hpcimg.bind import Bind
from hpcimg.errors import UsageError
from hpcimg.policy import PolicyRule
from hpcimg.quoting import quoted
from hpcimg.sections import near
from hpcimg.settings import compose_files, parse_document, places_in, settings_files

if TYPE_CHECKING:
    from hpcimg.registry_settings import RegistrySettings
    from hpcimg.settings import Settings

DEFAULT = "default"
_ALWAYS_OF_A_HOST = ("repositories",)
"""What decides whether a job may use a registry is shown where it is the default, too."""
_VARIABLES = {
    "match": ("HPCIMG_CONTAINER_MATCH",),
    "pull": ("HPCIMG_CONTAINER_PULL",),
    "proxy": ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
    "no_proxy": ("no_proxy", "NO_PROXY"),
}
"""What the environment says in place of a setting, for a user's own commands."""


@dataclass(frozen=True)
class Shown:
    """One value, as JSON has it, under its key with dots; no login is in it."""

    key: str
    value: Any
    source: str


def shown_settings(environment: Mapping[str, str], keys: Sequence[str] = ()) -> tuple[Shown, ...]:
    """Give all values, or those under some keys; raises SettingsError, and UsageError for a key."""
    root = compose_files(settings_files(environment))
    found = tuple(_all(parse_document(root), places_in(root), environment))
    wanted: list[Shown] = []
    for key in keys:
        below = [one for one in found if one.key == key or one.key.startswith(f"{key}.")]
        if not below:
            known = {one.key for one in found} | {one.key.partition(".")[0] for one in found}
            raise UsageError(
                f"{quoted(key)} is no setting{near(key, known)}", "`hpcimg config show` lists all"
            )
        wanted += below
    return tuple(wanted) if keys else found


def allowed(settings: Sequence[Shown]) -> dict[str, Any]:
    """Say which repositories jobs may use of which registries; None stands for all of one."""
    found = {}
    for one in settings:
        host, dot, name = one.key.removeprefix("registries.").rpartition(".")
        if one.key.startswith("registries.") and dot and name == "repositories":
            found[host] = one.value
    return found


def _all(
    settings: Settings, places: Mapping[tuple[object, ...], str], environment: Mapping[str, str]
) -> Iterator[Shown]:
    for field in fields(settings):
        value = getattr(settings, field.name)
        way = (field.name,)
        if field.name == "registries":
            yield from _registries(value, places)
        elif isinstance(value, Mapping) and value:
            for key, one in value.items():
                yield _shown((*way, key), one, places)
        elif is_dataclass(value):
            for inner in fields(value):
                yield _shown((*way, inner.name), getattr(value, inner.name), places)
        elif field.name in {"mounts", "policies"} and value:
            for at, one in enumerate(value):
                yield _shown((*way, at), one, places)
        else:
            yield _of_environment(_shown(way, value, places), environment)


def _registries(
    registries: Mapping[str, RegistrySettings], places: Mapping[tuple[object, ...], str]
) -> Iterator[Shown]:
    """Show of each host what is said of it; a host that is named without a word counts too."""
    if not registries:
        yield _shown(("registries",), {}, places)
    for host, about in registries.items():
        for field in fields(about):
            way = ("registries", host, field.name)
            if way in places or field.name in _ALWAYS_OF_A_HOST:
                one = _shown(way, getattr(about, field.name), places)
                # That it is named at all is what allows it.
                listed = places.get(way[:2], one.source)
                yield one if way in places else Shown(one.key, one.value, listed)


def _shown(
    way: tuple[object, ...], value: object, places: Mapping[tuple[object, ...], str]
) -> Shown:
    key = ".".join(map(str, way))
    plain = _plain(value)
    if way[-1] == "proxy" and isinstance(plain, str):
        plain = without_login(plain)
    return Shown(key, plain, places.get(way, DEFAULT))


def _of_environment(one: Shown, environment: Mapping[str, str]) -> Shown:
    for name in _VARIABLES.get(one.key, ()):
        said = environment.get(name)
        if said and not (one.key == "no_proxy" and not _names_proxy(environment)):
            value: Any = said.split(",") if one.key == "no_proxy" else said
            value = without_login(said) if one.key == "proxy" else value
            return Shown(one.key, value, f"{name} in the environment")
    return one


def _names_proxy(environment: Mapping[str, str]) -> bool:
    """Tell whether the environment's exceptions count: they are of its own proxy."""
    return any(environment.get(name) for name in _VARIABLES["proxy"])


def without_login(proxy: str) -> str:
    """Show a proxy's URL without who logs in there; a password may hold any character."""
    before, at, host = proxy.rpartition("@")
    scheme, found, _ = before.partition("://")
    return f"{scheme}://***@{host}" if found else f"***@{host}" if at else proxy


def _plain(value: Any) -> Any:
    """Make a value one that JSON knows."""
    if isinstance(value, Bind):
        text = f"{value.source}:{value.target}"
        return f"{text}:{'+'.join(value.flags)}" if value.flags else text
    if isinstance(value, PolicyRule):
        default = PolicyRule()
        said = {field.name: getattr(value, field.name) for field in fields(value)}
        return {key: _plain(one) for key, one in said.items() if one != getattr(default, key)}
    if is_dataclass(value) and not isinstance(value, type):
        if hasattr(value, "word"):
            return str(value)
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value
