"""Run on a node as the store's account: have one image in a store of the test's own.

Usage: python -I -c THIS STORE NAME MODE LOCK. With MODE hold it stops for ever before the
conversion, once it has said so. It prints what it does, a line each, and in the end the image's
path.
"""

import dataclasses
import signal
import sys
from pathlib import Path

from hpcimg.oci.client import RegistryClient
from hpcimg.oci.credentials import no_credential
from hpcimg.oci.reference import parse_reference
from hpcimg.progress import Progress
from hpcimg.runtime.convert import ApptainerConverter
from hpcimg.settings import read_settings
from hpcimg.store.store import site_store
from hpcimg.workflow.ensure import Wanted, ensure_image

root, name, mode, lock = sys.argv[1:]
settings = read_settings({})
reference = parse_reference(name, default_registry=settings.default_registry)
client = RegistryClient(settings.registries, no_credential, listed_only=True)
said = set()


def on_progress(progress: Progress) -> None:
    """Say each phase once."""
    if progress.phase not in said:
        said.add(progress.phase)
        print(progress.phase, flush=True)  # noqa: T201 - the protocol with the test
    if progress.phase == "convert" and mode == "hold":
        signal.pause()


store = site_store(dataclasses.replace(settings.store, path=root, lock=lock))
store.stale = 8.0
Path(root).parent.mkdir(exist_ok=True)
entry = ensure_image(
    Wanted(reference, client.fetch_document(reference).digest),
    store=store,
    client=client,
    converter=ApptainerConverter(settings.apptainer),
    limits=settings.limits,
    on_progress=on_progress,
)
print(entry.image)  # noqa: T201
