"""The audit log: one JSON line for each request, by a thread of its own.

A reader of the log that stands still, or a disk that is full, loses lines and stops no answer.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
from pathlib import Path

from hpcimg.errors import SettingsError

log = logging.getLogger(__name__)

_TEXT_LIMIT = 300
_LINES = 10_000
_MODE = 0o640
_CLOSE_SECONDS = 2.0


class AuditLog:
    """Appends lines to a file, or to standard output for `-`; nothing for "".

    `lost` counts the lines that could not be written.
    """

    def __init__(self, path: str) -> None:
        self.lost = 0
        self._fd = -1
        self._lines: queue.Queue[bytes | None] = queue.Queue(_LINES)
        if path == "-":
            self._fd = 1
        elif path:
            self._fd = _opened(path)
        self._writer = threading.Thread(target=self._run, name="audit", daemon=True)
        self._writer.start()

    def write(self, **facts: str | float | None) -> None:
        """Write what is not empty."""
        if self._fd < 0:
            return
        # JSON in ASCII: nothing that a client says can end a line or drive a terminal.
        said = {key: _cut(value) for key, value in facts.items() if value not in (None, "")}
        try:
            self._lines.put_nowait(json.dumps(said).encode() + b"\n")
        except queue.Full:
            self._lose("nobody takes its lines")

    def close(self) -> None:
        """Write what waits, for as long as somebody takes it."""
        try:
            self._lines.put(None, timeout=_CLOSE_SECONDS)
        except queue.Full:
            return
        self._writer.join(_CLOSE_SECONDS)
        if self._fd > 1:
            os.close(self._fd)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                os.write(self._fd, line)
            except OSError as error:
                self._lose(error.strerror)

    def _lose(self, why: str | None) -> None:
        if not self.lost:
            log.warning("the audit log loses lines: %s", why)
        self.lost += 1


def _opened(path: str) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(Path(path), flags, _MODE)
    except OSError as error:
        raise SettingsError(
            f'could not write the audit log "{path}": {error.strerror}',
            "audit: names a file in a folder that is there and that this account may write",
        ) from error


def _cut(value: str | float | None) -> str | float | None:
    return value[:_TEXT_LIMIT] if isinstance(value, str) else value
