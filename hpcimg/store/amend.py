"""Add to the record of an entry that is in the store: one rename, so that no reader sees half."""

from __future__ import annotations

import logging
import os

from hpcimg.progress import silent
from hpcimg.store.entry import RECORD, Entry, Record
from hpcimg.store.faults import store_faults
from hpcimg.store.owner import current_owner
from hpcimg.store.store import TEMPORARY, Store
from hpcimg.store.workspace import open_workspace, write_record

log = logging.getLogger(__name__)


def amend(store: Store, entry: Entry, record: Record) -> Entry:
    """Give the entry with this record, which is kept where this process may write the store."""
    if os.geteuid() == store.owner and entry.path.is_relative_to(store.root):
        with store_faults("amend a record", store.root):
            temporary = store.root / TEMPORARY
            with open_workspace(temporary, current_owner(), silent) as workspace:
                written = workspace.entry / RECORD
                write_record(written, record)
                try:
                    written.rename(entry.path / RECORD)
                except FileNotFoundError:
                    log.debug('"%s" is gone', entry.path)
    return Entry(entry.path, record)
