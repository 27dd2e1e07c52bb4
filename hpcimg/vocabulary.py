"""The facts behind all features: `data/features.json`, and what the site has added to it.

Owns the files and their form; what a spelling means is `features`' matter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from hpcimg.errors import SettingsError
from hpcimg.quoting import quoted

SITE_DIRECTORY = Path("/etc/hpcimg/features.d")
"""Root's directory of `*.json` files, read in the order of their names."""

_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*")
_WORD = re.compile(r"[a-z0-9][a-z0-9._-]*")
_CANONICAL = re.compile(r"(cpu|cpuflag):[a-z0-9._]+")
# Names of processors are looked up without their separators.
_ROW_NAMES = {
    "cpu_aliases": re.compile(r"[a-z0-9]+"),
    "cuda_drivers": _VERSION,
    "cuda_gpus": _VERSION,
    "cuda_of_driver": _VERSION,
    "rocm_drivers": _VERSION,
}
_WRITABLE_BY_OTHERS = 0o022


@lru_cache(maxsize=1)
def facts() -> dict[str, Any]:
    """Return the vocabulary: the package's own facts with those of the site's files."""
    return with_site(_read(Path(__file__).parent / "data" / "features.json"), SITE_DIRECTORY)


def with_site(own: dict[str, Any], directory: Path, owner: int = 0) -> dict[str, Any]:
    """Add the facts of a site's directory, whose files `owner` alone may write.

    Raises SettingsError that names the file, and what is wrong with it.
    """
    found = own
    for path in _files_of(directory):
        for place in (directory, path):
            try:
                status = place.stat()
            except OSError as error:
                raise _wrong(str(place), f"it cannot be read: {error.strerror}") from error
            if status.st_uid != owner or status.st_mode & _WRITABLE_BY_OTHERS:
                raise _wrong(str(place), "others than root may write it")
        found = merged(found, _read(path), str(path))
    return found


def _files_of(directory: Path) -> list[Path]:
    """List the files; what an editor leaves beside them, and a link to nothing, is not one."""
    try:
        found = sorted(directory.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SettingsError(
            f'vocabulary directory "{directory}" cannot be read: {error.strerror}',
            "let all users read it, or remove it",
        ) from error
    files = [path for path in found if path.suffix == ".json" and path.name[0] != "."]
    return [path for path in files if path.exists() or not path.is_symlink()]


def merged(own: dict[str, Any], site: Any, source: str) -> dict[str, Any]:
    """Add a site's rows to tables, in place of rows of the same name; nothing else can change."""
    if not isinstance(site, dict):
        raise _wrong(source, "it is not an object")
    result = dict(own)
    for name, rows in site.items():
        if name not in ADDABLE:
            raise _wrong(source, f"{quoted(name)} is no table; known: {', '.join(sorted(ADDABLE))}")
        if not isinstance(rows, dict):
            raise _wrong(source, f"{quoted(name)} is not an object")
        for row, value in rows.items():
            if not ADDABLE[name](value):
                raise _wrong(source, f"{quoted(row)} in {quoted(name)} is {quoted(value)}")
            if not _ROW_NAMES.get(name, _WORD).fullmatch(row):
                raise _wrong(source, f"{quoted(row)} cannot be the name of a row in {quoted(name)}")
        result[name] = {**own[name], **rows}
    unknown = sorted(set(result["kind_words"].values()) - set(result["kinds"]))
    if unknown:
        raise _wrong(source, f"{quoted(unknown[0])} is no kind")
    meant = {word for alias in result["cpu_aliases"].values() for word in alias["features"]}
    targets = {word[4:] for word in meant if word.startswith("cpu:")}
    unknown = sorted(targets - set(result["cpu_targets"]))
    if unknown:
        raise _wrong(source, f"{quoted(unknown[0])} is no known CPU target")
    return result


def _is_version(value: object) -> bool:
    return isinstance(value, str) and _VERSION.fullmatch(value) is not None


def _is_word(value: object) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable()


def _is_list(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_word, value))


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_version, value))


def _is_alias(value: object) -> bool:
    words = value.get("features") if isinstance(value, dict) else None
    return (
        isinstance(words, list)
        and bool(words)
        and all(isinstance(word, str) and _CANONICAL.fullmatch(word) for word in words)
    )


ADDABLE: dict[str, Callable[[object], bool]] = {
    "amd_generic": _is_list,
    "cpu_aliases": _is_alias,
    "cuda_drivers": _is_version,
    "cuda_gpus": _is_pair,
    "cuda_of_driver": _is_version,
    "intel_devices": _is_word,
    "kind_words": _is_word,
    "names": _is_text,
    "nvidia_devices": _is_version,
    "rocm_drivers": _is_version,
}
"""The tables that a site may add rows to, and what a row's value looks like."""


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8") as file:
            found: dict[str, Any] = json.load(file)
    except OSError as error:
        raise _wrong(str(path), f"it cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _wrong(str(path), f"it is not JSON: {quoted(error)}") from error
    return found


def _wrong(source: str, what: str) -> SettingsError:
    return SettingsError(f'vocabulary file "{source}": {what}', "correct the file, or remove it")
