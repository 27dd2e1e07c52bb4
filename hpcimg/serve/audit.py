"""The audit log: one JSON line for each request, written before its answer is sent."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from hpcimg.errors import SettingsError

log = logging.getLogger(__name__)

_TEXT_LIMIT = 300
_MODE = 0o640


class AuditLog:
    """Appends lines to a file, or to standard output for `-`; nothing for ""."""

    def __init__(self, path: str) -> None:
        self._fd = -1
        if path == "-":
            self._fd = 1
        elif path:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            try:
                self._fd = os.open(Path(path), flags, _MODE)
            except OSError as error:
                raise SettingsError(
                    f'could not write the audit log "{path}": {error.strerror}',
                    "audit: names a file in a folder that is there and that this account may write",
                ) from error
        self.lost = 0

    def write(self, **facts: str | float | None) -> None:
        """Write what is not empty; a disk that is full loses lines, and counts them."""
        if self._fd < 0:
            return
        # JSON in ASCII: nothing that a client says can end a line or drive a terminal.
        said = {key: _cut(value) for key, value in facts.items() if value not in (None, "")}
        try:
            os.write(self._fd, json.dumps(said).encode() + b"\n")
        except OSError as error:
            if not self.lost:
                log.warning("the audit log cannot be written: %s", error.strerror)
            self.lost += 1

    def close(self) -> None:
        """Close the file."""
        if self._fd > 1:
            os.close(self._fd)
        self._fd = -1


def _cut(value: str | float | None) -> str | float | None:
    return value[:_TEXT_LIMIT] if isinstance(value, str) else value
