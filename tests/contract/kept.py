"""A store whose entries are numbers, for the tests of prune."""

from __future__ import annotations

import os
import time
from pathlib import Path

from sif import sif_bytes

from hpcimg.store.entry import entry_key
from hpcimg.store.lease import LeaseKey
from hpcimg.store.owner import current_owner
from hpcimg.store.prune import Bounds, choose, remove, survey
from hpcimg.store.store import Store
from hpcimg.store.workspace import BuiltImage

CONVERTER = "fake-1.0-1"
DAY = 86_400.0


def digest(number: int) -> str:
    """Name the image of a number."""
    return f"sha256:{number:064x}"


class Kept:
    """A store, its entries by number, each last used so many days ago."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root, os.geteuid())
        self.now = time.time()

    def ensure(self, number: int, lease: LeaseKey | None = None, converter: str = CONVERTER):
        """Have an entry, for a job or for none."""

        def build(workspace):
            workspace.image.write_bytes(sif_bytes())
            return BuiltImage((f"registry/tool:{number}",), (), ())

        return self.store.ensure(digest(number), converter, build, lease=lease)

    def put(self, number: int, days: float = 0.0, converter: str = CONVERTER):
        """Make an entry that was last used so many days ago."""
        entry = self.ensure(number, None, converter)
        used = self.now - days * DAY
        os.utime(entry.path, (used, used))
        return entry

    def chosen(self, **bounds) -> dict[int, str]:
        """Say which numbers would go, and why."""
        found = choose(survey(self.store), Bounds(**bounds), self.now)
        return {int(one.stored.entry.record.digest[7:], 16): one.why for one in found}

    def remove(self, number: int, **options) -> bool:
        """Remove one entry."""
        return remove(self.store, self.key(number), current_owner(), **options)

    def key(self, number: int):
        """Name the entry of a number."""
        return entry_key(digest(number), CONVERTER)

    def left(self) -> list[str]:
        """List what is among the temporary files."""
        return [path.name for path in (self.store.root / "tmp").iterdir()]
