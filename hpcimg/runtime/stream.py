"""The fast way to a SIF: blobs stream through the merger and mksquashfs, and nothing is unpacked.

The merger (merge/ in the sources) inflates and joins the layers; Python moves compressed bytes
only, and writes the few files and headers around them.
"""

from __future__ import annotations

import json
import logging
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.errors import RegistryError, RuntimeFailure
from hpcimg.oci.digest import is_digest
from hpcimg.progress import OnProgress, Progress
from hpcimg.runtime.packer import Packer, find_packer
from hpcimg.settings import Limits

if TYPE_CHECKING:
    from hpcimg.runtime.merging import Programs, SourceLayer
    from hpcimg.runtime.sif import Sif
    from hpcimg.runtime.skeleton import ImageConfig
    from hpcimg.runtime.source import Source

REVISION = 1
"""Counted up when other bytes come of the same manifest and the same mksquashfs."""

_RUNS = 8
"""An image that is read again tells all its surprises of one kind at once; few have two kinds."""
_NOTES_BYTES = 1 << 30
"""What the merger may note of an image that has to be read again."""
_HEADROOM = 1 << 30
"""What a file system may have more than its files: names, and content that zstd does not shrink."""

log = logging.getLogger(__name__)


class StreamConverter:
    """Converts with the merger and mksquashfs, which is looked for in `search_path`."""

    disk_ratio = 2

    def __init__(self, merger: str, search_path: str, limits: Limits) -> None:
        self._merger = merger
        self._confine = Path(merger).with_name("confine")
        self._environment = {"PATH": search_path, "LC_ALL": "C.UTF-8"}
        self._limits = limits

    @cached_property
    def lack(self) -> str:
        """What is missing on this node for this way, or an empty text."""
        for program in (self._merger, self._confine):
            if not os.access(program, os.X_OK):
                return f'"{program}" is not installed'
        if self._found is None:
            return '"mksquashfs" is not installed'
        return self._found.lack

    @cached_property
    def id(self) -> str:
        """For example stream-1-zstd3-squashfs4.6.1."""
        return f"stream-{REVISION}-zstd3-squashfs{self._packer.version or 0}"

    def convert(self, source: Source, target: Path, work: Path, progress: OnProgress) -> None:  # noqa: ARG002 - nothing is unpacked anywhere
        """Stream the layers from the top one down; see `Converter`."""
        from hpcimg.runtime.check import ZSTD, check_image
        from hpcimg.runtime.sif import Kind, Part, Sif
        from hpcimg.runtime.skeleton import lower_layer, parse_config, skeleton, upper_layer
        from hpcimg.runtime.squashfs import set_root_time

        try:
            config = parse_config(source.config)
        except (ValueError, RecursionError) as error:
            raise RegistryError(f'the config of "{source.name}" is not JSON') from error
        made = skeleton(config, source.manifest.digest, self.id)
        parts = (
            Part(Kind.DEFINITION, made.files["Singularity"].encode()),
            Part(Kind.JSON, made.inspect_json(), "inspect-metadata.json"),
            Part(Kind.JSON, json.dumps(config.settings).encode(), "oci-config.json"),
            Part(Kind.JSON, source.manifest.raw, "oci-manifest.json"),
            Part(Kind.JSON, source.config, "oci-image-config.json"),
        )
        identity = bytes.fromhex(source.manifest.digest.partition(":")[2])[:16]
        sif = Sif(identity, config.created, config.architecture, parts)
        inner = (upper_layer(made, config.created), lower_layer(config.created))
        self._merge(source, _layers(source, config), inner, (target, sif), progress)
        progress(Progress("wrap", note=source.name))
        if self._packer.passes_over_root_time:
            set_root_time(target, sif.offset, sif.time)
        sif.finish(target)
        check_image(target, ZSTD)
        log.debug("converted %s with %s", source.name, self.id)

    def _merge(
        self,
        source: Source,
        layers: list[SourceLayer],
        inner: tuple[bytes, bytes],
        result: tuple[Path, Sif],
        progress: OnProgress,
    ) -> None:
        from hpcimg.runtime.merging import Merging, memory_file

        with memory_file(b"") as notes:
            programs = self._programs(notes, *result)
            for _ in range(_RUNS):
                # Made here, since mksquashfs may only write into a file that is there.
                os.close(os.open(result[0], os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644))
                merging = Merging(source, layers, inner, self._limits, progress)
                if not merging.run(programs, notes):
                    return
                log.info("%s has to be read again", source.name)
        raise RuntimeFailure(f'could not merge the layers of "{source.name}": they do not settle')

    def _programs(self, notes: int, target: Path, sif: Sif) -> Programs:
        from hpcimg.runtime.confine import bonds
        from hpcimg.runtime.merging import Programs

        limits = self._limits
        numbers = (notes, limits.entries, limits.unpacked_bytes, max(limits.ratio, 1))
        merger = [self._merger, *(str(int(number)) for number in numbers)]
        size = int(sif.offset + limits.unpacked_bytes + _HEADROOM)
        memory = int(limits.memory)
        return Programs(
            merger,
            self._packer.argv(target, sif),
            (
                bonds(self._confine, output=None, file=_NOTES_BYTES, memory=memory),
                bonds(self._confine, output=target, file=size, memory=memory),
            ),
            self._environment,
            target,
        )

    @cached_property
    def _found(self) -> Packer | None:
        return find_packer(self._environment["PATH"])

    @property
    def _packer(self) -> Packer:
        if self._found is None:
            raise RuntimeFailure('"mksquashfs" is not installed', "install squashfs-tools")
        return self._found


def _layers(source: Source, config: ImageConfig) -> list[SourceLayer]:
    """Pair layers with their diff_ids, from the top one down.

    A layer that comes again further down changes nothing there: all its entries are hidden.
    """
    from hpcimg.runtime.merging import SourceLayer

    blobs, ids = source.manifest.layers, config.diff_ids
    if not all(map(is_digest, ids)):
        raise RegistryError(f'the config of "{source.name}" has a bad diff_id')
    if len(ids) != len(blobs):
        message = f'"{source.name}" has {len(blobs)} layers, its config tells of {len(ids)}'
        raise RegistryError(message, "the image has to be pushed again")
    if not blobs:
        raise RegistryError(f'"{source.name}" has no layers', "the image has to be pushed again")
    found: dict[str, SourceLayer] = {}
    for blob, diff_id in zip(reversed(blobs), reversed(ids), strict=True):
        found.setdefault(blob.digest, SourceLayer(blob, diff_id))
    return list(found.values())
