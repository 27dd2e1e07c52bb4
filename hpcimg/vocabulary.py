"""The facts behind all features: `data/features.json`, and what the site has added to it.

Owns the files and their form; what a spelling means is `features`' matter.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from hpcimg.errors import SettingsError
from hpcimg.quoting import quoted

SITE_DIRECTORY = Path("/etc/hpcimg/features.d")
"""Root's directory of `*.json` files, read in the order of their names."""

_ADDABLE = frozenset(
    {"cpu_aliases", "kind_words", "flag_aliases", "rocm_drivers", "intel_devices",
     "nvidia_devices", "amd_generic", "names"}
)  # fmt: skip


@lru_cache(maxsize=1)
def facts() -> dict[str, Any]:
    """Return the vocabulary: the package's own facts with those of the site's files."""
    found = _read(Path(__file__).parent / "data" / "features.json")
    for path in sorted(SITE_DIRECTORY.glob("*.json")):
        found = merged(found, _read(path), str(path))
    return found


def merged(own: dict[str, Any], site: Any, source: str) -> dict[str, Any]:
    """Add a site's facts to others; raise SettingsError for what a site may not say.

    A table's rows are added, and replace rows of the same name; nothing else can be changed.
    """
    if not isinstance(site, dict):
        raise _wrong(source, "it is not an object")
    unknown = sorted(set(site) - _ADDABLE)
    if unknown:
        raise _wrong(
            source, f"{quoted(unknown[0])} is no table; known: {', '.join(sorted(_ADDABLE))}"
        )
    result = dict(own)
    for name, rows in site.items():
        if not isinstance(rows, dict):
            raise _wrong(source, f"{quoted(name)} is not an object")
        for row, value in rows.items():
            if own[name] and not isinstance(value, type(next(iter(own[name].values())))):
                raise _wrong(
                    source, f"{quoted(row)} in {quoted(name)} has another form than its table"
                )
        result[name] = {**own[name], **rows}
    return result


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
