"""`config check`: every mistake in the settings, with its file and line and what to write.

What the files say is read as a launch reads it; what it means is looked at on this machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg import settings as site
from hpcimg.document import without
from hpcimg.errors import SettingsError
from hpcimg.sections import WrongSettingError
from hpcimg.settings import Settings
from hpcimg.settings_files import (
    SettingsFile,
    drop_in_folder,
    drop_ins,
    is_drop_in,
    own_file,
    site_file,
)
from hpcimg.workflow.access import become_account
from hpcimg.workflow.settings_meaning import Mistake, meaning

if TYPE_CHECKING:
    import yaml

_MOST = 200


@dataclass(frozen=True)
class Checked:
    """The files that were read, in their order, and what is wrong with them."""

    files: tuple[Path, ...]
    mistakes: tuple[Mistake, ...]

    @property
    def is_right(self) -> bool:
        """Whether nothing is an error."""
        return all(one.severity != "error" for one in self.mistakes)


def check_settings(environment: Mapping[str, str], file: Path | None = None) -> Checked:
    """Check one file, or all that count here; root goes on as the store's account, for good."""
    mistakes: list[Mistake] = []
    files = tuple(_files(environment, file, mistakes))
    roots = [root for one in files if (root := _composed(one, mistakes)) is not None]
    document: yaml.Node | None = None
    for root in roots:
        document = site.join_documents(document, root)
    settings = _parsed(document, mistakes)
    become_account(settings)
    mistakes += _unread(files, settings)
    if document is not None or not mistakes:
        mistakes += meaning(settings, site.places_in(document))
    paths = tuple(one.path for one in files)
    return Checked(paths, tuple(sorted(mistakes, key=lambda one: _order(one.place, paths))))


def _order(place: str, paths: tuple[Path, ...]) -> tuple[int, int]:
    """Put mistakes into the order in which the files are read, those of no file last."""
    name, _, line = place.rpartition(":")
    at = next((at for at, path in enumerate(paths) if str(path) == name), len(paths))
    return at, int(line) if line.isdecimal() else 0


def _files(
    environment: Mapping[str, str], file: Path | None, mistakes: list[Mistake]
) -> Iterator[SettingsFile]:
    """Read what can be read; each file that cannot is a mistake of its own."""
    named = environment.get(site.PATH_VARIABLE)
    if file is not None:
        yield own_file(file, "the command line")
        return
    if named:
        yield own_file(Path(named), site.PATH_VARIABLE)
        return
    paths = [site.DEFAULT_PATH]
    try:
        paths += drop_ins(site.DEFAULT_PATH)
    except SettingsError as error:
        mistakes.append(Mistake(str(drop_in_folder(site.DEFAULT_PATH)), error.message, error.hint))
    mistakes += _left_behind(drop_in_folder(site.DEFAULT_PATH))
    for path in paths:
        try:
            found = site_file(path)
        except SettingsError as error:
            mistakes.append(Mistake(str(path), error.message, error.hint))
            continue
        if found is not None:
            yield found


def _left_behind(folder: Path) -> Iterator[Mistake]:
    """Warn of files among the drop-ins that somebody may believe to count."""
    if not folder.is_dir():
        return
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - as the launch reads it
        if not is_drop_in(name):
            what = "this file does not count: drop-ins end in .yaml and begin with no dot"
            yield Mistake(str(folder / name), what, "rename it or take it away", "warning")


def _composed(file: SettingsFile, mistakes: list[Mistake]) -> yaml.Node | None:
    try:
        return site.compose_files([file])
    except SettingsError as error:
        place, _, what = error.message.partition(": ")
        mistakes.append(Mistake(place, what))
        return None


def _parsed(document: yaml.Node | None, mistakes: list[Mistake]) -> Settings:
    """Read the document; what is wrong is noted and taken out, and it is read once more."""
    for _ in range(_MOST):
        try:
            return site.parse_document(document)
        except WrongSettingError as error:
            mistakes.append(Mistake(error.place, error.what, error.hint))
            if not without(document, error.at):
                break
        except SettingsError as error:
            place, _, what = error.message.partition(": ")
            mistakes.append(Mistake(place, what))
            break
    return Settings()


def _unread(files: tuple[SettingsFile, ...], settings: Settings) -> Iterator[Mistake]:
    """Name the files that the store's account cannot read: a launch reads them as that account."""
    for one in files:
        if not os.access(one.path, os.R_OK):
            what = f"{settings.store.account} cannot read this file"
            yield Mistake(str(one.path), what, f"as root: chmod a+r {one.path}")
