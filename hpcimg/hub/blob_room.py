"""How many bytes the blob cache has, and which blobs make room for a new one.

It must not know what is in them, nor who reads them. Threads may share it.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from hpcimg.hub.blob_file import CachedFile, cache_faults, cached_files, part_path, remove_unused

log = logging.getLogger(__name__)

_SHARE = 16
"""One part in so many is freed beyond need, so that a full folder is not listed at each blob.

As much may be added before the folder is listed again, to see what other copies put there.
"""


class BlobRoom:
    """Reserves bytes of a folder of at most `limit`; the longest unused blobs go for new ones."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._lock = threading.Lock()
        self._reserved: dict[Path, int] = {}
        self._total: int | None = None
        self._added = 0

    def reserve(self, path: Path, size: int) -> bool:
        """Make room for a blob; False where it is too large, or all others are in use."""
        if size > self._limit:
            return False
        with self._lock:
            if part_path(path) in self._reserved:
                return False  # of two sizes that registries tell, one is wrong
            is_seen = self._total is not None and self._added + size <= self._limit // _SHARE
            total = self._total if is_seen and self._total is not None else self._listed(size)
            if total + size > self._limit:
                total = self._listed(size)
            self._total = total
            if total + size > self._limit:
                return False
            self._total += size
            self._added += size
            self._reserved[part_path(path)] = size
            return True

    def settle(self, path: Path, *, is_kept: bool) -> None:
        """Tell how it ended for a blob that has room."""
        with self._lock:
            size = self._reserved.pop(part_path(path))
            if self._total is not None and not is_kept:
                self._total -= size

    def _listed(self, size: int) -> int:
        """Count what is there, and remove what must go for `size` bytes more."""
        with cache_faults(self._folder):
            files = [one for one in cached_files(self._folder) if one.path not in self._reserved]
            total = sum(one.size for one in files) + sum(self._reserved.values())
            self._added = 0
            if total + size > self._limit:
                total -= self._remove(files, total + size - (self._limit - self._limit // _SHARE))
        return total

    def _remove(self, files: list[CachedFile], wanted: int) -> int:
        """Remove the longest unused until `wanted` bytes are free; give how many are."""
        freed = 0
        for one in sorted(files, key=lambda one: (one.used, one.path)):
            if freed >= wanted:
                break
            size = remove_unused(one.path)
            if size:
                log.info("removed %s from the blob cache: %d bytes", one.path.name, size)
            freed += size
        return freed
