"""What an image says itself of how it wants to be run: its working directory and entrypoint."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hpcimg.quoting import is_one_word
from hpcimg.workflow.surroundings import Surroundings

if TYPE_CHECKING:
    from hpcimg.store.entry import Entry

_CONFIG = "config.json"
_CONFIG_LIMIT = 4 << 20
_RUNSCRIPT = "/.singularity.d/runscript"
"""What runs an entrypoint whose words cannot stand on one line; every image has it."""


def image_own(entry: Entry) -> Surroundings:
    """Read them from the config that is kept beside the image; what is odd there is left out."""
    said = _settings(entry)
    words = said.get("Entrypoint")
    entrypoint = tuple(str(word) for word in words) if isinstance(words, list) else ()
    if not all(map(is_one_word, entrypoint)) or "" in entrypoint:
        entrypoint = (_RUNSCRIPT,)
    return Surroundings(workdir=_workdir(str(said.get("WorkingDir") or "")), entrypoint=entrypoint)


def _workdir(said: str) -> str:
    """Builders write "/" where nobody has said anything."""
    is_place = said.startswith("/") and is_one_word(said) and said.strip("/") != ""
    return said if is_place else ""


def _settings(entry: Entry) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        with (entry.path / _CONFIG).open("rb") as file:
            document = json.loads(file.read(_CONFIG_LIMIT))
        found = document.get("config") if isinstance(document, dict) else None
        return found if isinstance(found, dict) else {}
    return {}
