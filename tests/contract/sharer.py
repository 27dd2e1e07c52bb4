"""A process that has one image of an index in a store; the tests start several at once.

Usage: sharer.py REGISTRY STORE INDEX DIGEST LOCK [die]. It waits for a line on its standard input.
Its converter only joins the layers. To die is to be killed in the midst of the first layer.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from sif import sif_bytes

from hpcimg.oci.client import RegistryClient
from hpcimg.oci.credentials import no_credential
from hpcimg.oci.reference import parse_reference
from hpcimg.registry_settings import RegistrySettings
from hpcimg.settings import Limits
from hpcimg.store.entry import Entry
from hpcimg.store.store import Store
from hpcimg.workflow.admission import Admission
from hpcimg.workflow.ensure import Wanted, ensure_image


class Joiner:
    """A converter that parses nothing."""

    id = "joiner-1"
    disk_ratio = 2

    def convert(self, source, target, work, progress) -> None:
        """Write the layers behind each other."""
        del work, progress
        layers = [b"".join(source.fetch(layer)) for layer in source.manifest.layers]
        target.write_bytes(sif_bytes(b"".join(layers)))


class Dying(RegistryClient):
    """A client whose process is killed when half of a layer has come."""

    def fetch_blob(self, reference, descriptor):
        """Give a part of it."""
        for chunk in super().fetch_blob(reference, descriptor):
            if "layer" not in descriptor.media_type and "diff" not in descriptor.media_type:
                yield chunk
                continue
            yield chunk[: len(chunk) // 2]
            os.kill(os.getpid(), signal.SIGKILL)


def ensure(
    registry: str, store: Store, index: str, digest: str, make=RegistryClient, name: str = "tool:1"
) -> Entry:
    """Have the image."""
    registries = {registry: RegistrySettings(plain_http=True)}
    client = make(registries, no_credential, listed_only=True, sleep=lambda _seconds: None)
    return ensure_image(
        Wanted(parse_reference(f"{registry}/{name}"), digest, index=index),
        store=store,
        client=client,
        converter=Joiner(),
        limits=Limits(),
        admission=Admission(registries, lambda: client),
    )


def open_store(root: Path, lock: str = "flock", blob_bytes: int = 10**9) -> Store:
    """Open a store that keeps layers."""
    return Store(root, os.geteuid(), lock=lock, blob_bytes=blob_bytes)


def main(registry: str, root: str, index: str, digest: str, lock: str, mode: str = "") -> None:
    """Have the image once told to."""
    sys.stdin.readline()
    make = Dying if mode == "die" else RegistryClient
    ensure(registry, open_store(Path(root), lock), index, digest, make)


if __name__ == "__main__":
    main(*sys.argv[1:])
