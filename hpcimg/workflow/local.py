"""Images that no registry has: what a user's path means, and a layout in a registry's place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.oci.image_layout import ImageLayout
from hpcimg.oci.local_name import LocalName, parse_local
from hpcimg.runtime.image_file import form_of
from hpcimg.workflow.access import Access, own_access
from hpcimg.workflow.source import CachedSource, Known

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpcimg.oci.client import RegistryClient
    from hpcimg.oci.model import Descriptor, Index, Manifest
    from hpcimg.oci.reference import Reference
    from hpcimg.settings import Settings


class LayoutSource(CachedSource):
    """A layout in the place of a registry: all is at hand, so nothing is cached or shared."""

    def __init__(self, layout: ImageLayout) -> None:
        self._layout = layout

    @property
    def client(self) -> RegistryClient:
        """There is none: nothing is written to a layout, and no signature looked for."""
        raise NotImplementedError

    def fetch_document(self, reference: Reference) -> Manifest | Index:
        """Read what the reference's digest names."""
        return self._layout.fetch_document(reference)

    def fetch_blob(self, reference: Reference, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream a blob."""
        return self._layout.fetch_blob(reference, descriptor)

    def referrers(self, reference: Reference, artifact_type: str) -> tuple[str, ...]:
        """List what is attached: a layout has no such list."""
        del reference, artifact_type
        return ()

    def alone_in_job(self, subject: str) -> AbstractContextManager[None]:
        """Settle nothing: a layout's entry has a digest from the start."""
        del subject
        return nullcontext()

    def last_digest(self, reference: Reference, seconds: float) -> Known | None:
        """Say what a tag stood for: no tag is ever asked for."""
        del reference, seconds
        return None


def image_path(name: str) -> Path | None:
    """Give the file or directory that a name means as it is; None where something is made of it.

    Raises NotFoundError and UsageError of a path that means no image.
    """
    local = parse_local(name)
    if local is None or local.is_layout:
        return None
    path = _path_of(local)
    return None if form_of(path) == "layout" else path


def layout_access(
    name: str, settings: Settings, environment: Mapping[str, str]
) -> tuple[Reference, Access] | None:
    """Give the reference and the access that read an image from a layout; None for other names.

    It goes into the user's own store, and no site's rule for registries is about it.
    """
    local = parse_local(name)
    if local is None:
        return None
    layout = ImageLayout(_path_of(local))
    store = own_access(settings, environment).store
    named = layout.at(local.tag, local.digest) if local.digest else layout.named(local.tag)
    return named, Access(LayoutSource(layout), store, listed_only=False)


def _path_of(local: LocalName) -> Path:
    path = Path(local.path)
    return Path.cwd() / (path.expanduser() if local.path.startswith("~") else path)
