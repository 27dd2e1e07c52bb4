"""Clients for the tests' registry: plain http to it, no waiting between tries."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hpcimg.oci.client import RegistryClient
from hpcimg.oci.credentials import Credential, no_credential
from hpcimg.oci.hosts import NOTHING_AROUND
from hpcimg.oci.reference import Reference, parse_reference
from hpcimg.registry_settings import RegistrySettings

if TYPE_CHECKING:
    from registry import Registry


def client_for(
    *registries: Registry,
    listed_only: bool = True,
    find=no_credential,
    waits=None,
    around=NOTHING_AROUND,
    **of_the_first,
):
    """Make a client that may talk to these registries; `waits` collects the seconds it waits.

    `of_the_first` is what the settings say of the first one besides.
    """
    settings = {registry.name: RegistrySettings(plain_http=True) for registry in registries}
    if registries:
        first = registries[0].name
        settings[first] = replace(settings[first], **of_the_first)
    sleep = (waits if waits is not None else []).append
    return RegistryClient(settings, find, listed_only=listed_only, sleep=sleep, around=around)


def login(username: str, secret: str):
    """Find this one login for every repository."""
    return lambda _registry, _repository: Credential(username, secret)


def reference_to(registry: Registry, name: str) -> Reference:
    """Parse a name without registry as one of this registry."""
    return parse_reference(f"{registry.name}/{name}")
