"""Add to the record of an entry that is in the store: one rename, so that no reader sees half."""

from __future__ import annotations

import logging
import os
from contextlib import suppress

from hpcimg.errors import StoreError
from hpcimg.progress import silent
from hpcimg.store.entry import RECORD, Entry, Record
from hpcimg.store.faults import store_faults
from hpcimg.store.owner import current_owner
from hpcimg.store.store import TEMPORARY, Store
from hpcimg.store.workspace import open_workspace, write_record

log = logging.getLogger(__name__)


def amend(store: Store, entry: Entry, record: Record) -> Entry:
    """Give the entry with this record; it is kept where this process may write the store.

    What is known now is true without being kept, so a store that takes nothing is a warning.
    """
    if os.geteuid() == store.owner:
        try:
            with store_faults("amend a record", store.root):
                _replace(store, entry, record)
        except StoreError as error:
            log.warning("%s", error.message)
    return Entry(entry.path, record)


def _replace(store: Store, entry: Entry, record: Record) -> None:
    with open_workspace(store.root / TEMPORARY, current_owner(), silent) as workspace:
        written = workspace.entry / RECORD
        write_record(written, record)
        # Prune may have taken the entry meanwhile.
        with suppress(FileNotFoundError):
            written.rename(entry.path / RECORD)
