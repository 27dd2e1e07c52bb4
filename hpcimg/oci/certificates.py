"""Which certificates a host is trusted by, and by which we show who we are.

Owns the settings' files and the certs.d directories that container tools share; opens no socket.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.errors import SettingsError
from hpcimg.registry_settings import RegistrySettings

if TYPE_CHECKING:
    import ssl

SYSTEM = (Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d"))


@dataclass(frozen=True)
class Trust:
    """How one host's TLS is checked; `ca_file` stands for the system's, `authorities` add to it."""

    ca_file: str | None = None
    authorities: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    verified: bool = True

    def context(self) -> ssl.SSLContext:
        """Load the files; SettingsError for one that is missing, closed to us or of no use."""
        import ssl

        if self.ca_file is None:
            made = ssl.create_default_context()
        else:
            _load(self.ca_file, partial(_open, self.ca_file))
            made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for path in (self.ca_file, *self.authorities) if self.ca_file else self.authorities:
            _load(path, partial(made.load_verify_locations, path))
        for certificate, key in self.pairs:
            for path in (certificate, key):
                _load(path, partial(_open, path))
            # Without a word for a locked key OpenSSL would ask the terminal.
            _load(key, partial(made.load_cert_chain, certificate, key, password=""))
        if not self.verified:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        return made


def trust_for(
    names: Iterable[str],
    settings: RegistrySettings,
    folders: Iterable[Path],
    *,
    verified: bool = True,
) -> Trust:
    """Gather what settings and the first certs.d that has it say of the host of these names."""
    pairs: list[tuple[str, str]] = []
    if settings.client_certificate is not None:
        # One file may hold both, as curl's --cert.
        pairs.append(
            (settings.client_certificate, settings.client_key or settings.client_certificate)
        )
    authorities: list[str] = []
    folder = _folder(names, folders)
    for path in _listed(folder) if folder else []:
        if path.suffix == ".crt":
            authorities.append(str(path))
        elif path.suffix == ".cert":
            pairs.append((str(path), str(_partner(path, ".key"))))
        elif path.suffix == ".key":
            _partner(path, ".cert")
    return Trust(settings.ca_file, tuple(authorities), tuple(pairs), verified)


def _folder(names: Iterable[str], folders: Iterable[Path]) -> Path | None:
    every = tuple(names)
    places = (folder / name for folder in folders for name in every)
    return next((place for place in places if _is_folder(place)), None)


def _is_folder(place: Path) -> bool:
    """Tell whether it is there for us: older dockers made /etc/docker for root alone."""
    try:
        return place.is_dir()
    except OSError:
        return False


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise _unusable(str(folder), error.strerror or "it cannot be read") from error


def _partner(path: Path, suffix: str) -> Path:
    partner = path.with_suffix(suffix)
    if not partner.is_file():
        raise _unusable(str(path), f'there is no "{partner.name}" beside it')
    return partner


def _open(path: str) -> None:
    Path(path).open("rb").close()


def _load(path: str, load: Callable[[], object]) -> None:
    import ssl

    try:
        load()
    except ssl.SSLError as error:
        raise _unusable(path, f"no usable PEM ({(error.reason or 'unknown').lower()})") from error
    except OSError as error:
        raise _unusable(path, (error.strerror or "it cannot be read").lower()) from error


def _unusable(path: str, why: str) -> SettingsError:
    return SettingsError(
        f'could not use the certificates in "{path}": {why}',
        f"uid {os.geteuid()} reads it: is it there, and may that account read it?",
    )
