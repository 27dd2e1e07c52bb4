"""Runs with the node's own Python and hpcimg: select from an index of 1,000 entries, once.

Prints how long it took from the index's bytes to the pick, in milliseconds, imports not counted.
"""

import json
import sys
import time

from hpcimg.node.words import profile_from_words
from hpcimg.oci.model import OCI_INDEX, OCI_MANIFEST, parse_document
from hpcimg.requirements import entries_of
from hpcimg.selection import select

_CPUS = [
    "haswell",
    "broadwell",
    "skylake",
    "skylake512",
    "cascadelake",
    "icelake",
    "zen",
    "zen2",
    "zen3",
    "zen4",
]
_NODE = "linux/amd64:icelake:nvcap:8.6:nvdrv:535.104.05"


def index() -> bytes:
    """Write 1,000 entries, no two with the same words; about a tenth of them fit the node."""
    entries = []
    for number in range(1000):
        words = [f"cpu:{_CPUS[number % 10]}", f"nvdrv:{450 + number // 10}.{number % 10}"]
        words.append(f"nvcap:{5 + number % 4}.{number % 7}")
        entries.append(
            {
                "mediaType": OCI_MANIFEST,
                "digest": f"sha256:{number:064x}",
                "size": 700,
                "platform": {"os": "linux", "architecture": "amd64", "features": words},
            }
        )
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


def main() -> None:
    """Select once, as a process that has just started does: nothing is remembered yet."""
    raw, profile = index(), profile_from_words(_NODE)
    start = time.perf_counter()
    resolution = select(profile, entries_of(parse_document(raw)))
    milliseconds = 1000 * (time.perf_counter() - start)
    if resolution.pick is None or len(resolution.candidates) != 1000:
        sys.exit("nothing was chosen from the 1,000 entries")
    sys.stdout.write(f"{milliseconds:.1f} ms\n")


main()
