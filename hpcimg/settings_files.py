"""The files that a site's settings are in: which they are, in what order, and that they are root's.

Knows no setting.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hpcimg.errors import SettingsError


@dataclass(frozen=True)
class SettingsFile:
    """One file and what it says."""

    path: Path
    text: str


def site_files(main: Path) -> tuple[SettingsFile, ...]:
    """Read the site's file and then its drop-ins by their names; raises SettingsError.

    Who may write one of them decides where every job's image comes from, so all are root's.
    """
    files = (site_file(path) for path in (main, *drop_ins(main)))
    return tuple(file for file in files if file is not None)


def site_file(path: Path) -> SettingsFile | None:
    """Read one file of the site's, None where there is none; raises SettingsError."""
    return _read(path)


def own_file(path: Path, named_by: str) -> SettingsFile:
    """Read a user's own file, which has to be there."""
    found = _read(path, is_site=False)
    if found is None:
        raise SettingsError(f'settings file "{path}" does not exist', f"{named_by} names it")
    return found


def drop_in_folder(main: Path) -> Path:
    """Name the directory of a file's drop-ins: settings.d beside settings.yaml."""
    return main.with_suffix(".d")


def drop_ins(main: Path) -> Iterator[Path]:
    """Name the drop-ins of a file in their order; raises SettingsError for an unsafe directory."""
    folder = drop_in_folder(main)
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - each launch asks this
        _check_owner("settings directory", folder, folder.stat())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise SettingsError(
            f'could not read settings directory "{folder}": {error.strerror}',
            f"as root: chmod a+rx {folder}",
        ) from error
    yield from (folder / name for name in names if is_drop_in(name))


def is_drop_in(name: str) -> bool:
    """Tell whether a file of this name counts; editors and packagers leave others behind."""
    return name.endswith(".yaml") and not name.startswith(".")


def _read(path: Path, *, is_site: bool = True) -> SettingsFile | None:
    try:
        with path.open(encoding="utf-8") as file:
            if is_site:
                _check_owner("settings file", path, os.fstat(file.fileno()))
            return SettingsFile(path, file.read())
    except FileNotFoundError:
        return None
    except OSError as error:
        hint = f"as root: chmod a+r {path}" if is_site else "name a file that you may read"
        raise SettingsError(
            f'could not read settings file "{path}": {error.strerror}', hint
        ) from error
    except UnicodeError as error:
        raise SettingsError(
            f'settings file "{path}" is not UTF-8 text', "write it as UTF-8"
        ) from error


def _check_owner(what: str, path: Path, found: os.stat_result) -> None:
    """Refuse what others may write: it says where root's stages get images from."""
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid == 0 and not mode & 0o022:
        return
    raise SettingsError(
        f'{what} "{path}" is not safe: it belongs to uid {found.st_uid} (mode {mode:04o})',
        f"as root: chown root {path} && chmod go-w {path}",
    )
