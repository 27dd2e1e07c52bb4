"""A process that proposes terms for a job when it is told to start, and prints what holds."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hpcimg.store.agreement import JobKey, agree
from hpcimg.store.store import Store

if __name__ == "__main__":
    root, proposal = sys.argv[1:]
    store = Store(Path(root), os.geteuid())
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    key = JobKey("folder", "7", "1001", "100")
    sys.stdout.write(str(agree(store, key, {"image": "tool"}, {"pick": proposal})["pick"]))
