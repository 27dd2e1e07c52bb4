"""An index of one entry, for clients that want an index: the same bytes each time.

What a client could compare with its own machine is taken out, since the choice is made.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hpcimg.oci.model import DOCKER_INDEX, OCI_INDEX

if TYPE_CHECKING:
    from hpcimg.oci.model import Descriptor, Index

_VARIANTS = frozenset({"arm"})
"""Architectures whose variants are what a program needs to run at all; clients know these."""


def one_entry_index(index: Index, pick: Descriptor) -> bytes:
    """Write the index with its one entry; of its annotations none stays, as they say needs."""
    platform: dict[str, Any] = {}
    if pick.platform is not None:
        platform = {"architecture": pick.platform.architecture, "os": pick.platform.os}
        if pick.platform.variant and pick.platform.architecture in _VARIANTS:
            platform["variant"] = pick.platform.variant
    entry: dict[str, Any] = {
        "digest": pick.digest,
        "mediaType": pick.media_type,
        "size": pick.size,
    }
    if platform:
        entry["platform"] = platform
    media_type = index.media_type if index.media_type == DOCKER_INDEX else OCI_INDEX
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": [entry]}
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
