"""The fast way to a SIF: blobs stream through the merger and mksquashfs, and nothing is unpacked.

The merger (merge/ in the sources) inflates and joins the layers; Python moves compressed bytes
only, and writes the few files and headers around them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import resource
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hpcimg.errors import HpcimgError, RegistryError, RuntimeFailure
from hpcimg.oci.digest import is_digest
from hpcimg.oci.model import Descriptor
from hpcimg.process import Completed, Pipeline, Stage, failure, pipeline, run
from hpcimg.progress import OnProgress, Progress
from hpcimg.runtime.sif import Kind, Part, Sif
from hpcimg.runtime.skeleton import ImageConfig, lower_layer, parse_config, skeleton, upper_layer
from hpcimg.runtime.source import Source
from hpcimg.runtime.squashfs import set_root_time
from hpcimg.settings import Limits

REVISION = 1
"""Counted up when other bytes come of the same manifest and the same mksquashfs."""

_RUNS = 8
"""An image that is read again tells all its surprises of one kind at once; few have two kinds."""
_CORRUPT, _LIMITED, _AGAIN = 65, 73, 75
_NO_READER = "the result could not be written"
_AHEAD = 3
_WIDE_PIPE = 1 << 20
_WIDE_PIPES = 16  # a user has 64 MiB of pipes before the kernel makes them narrow
_ASK_SECONDS = 20.0
_PACKER_MEMORY = "256M"
_VERSION = re.compile(rb"version (\d+\.\d+(?:\.\d+)*)")

log = logging.getLogger(__name__)


class StreamConverter:
    """Converts with the merger and mksquashfs, which is looked for in `search_path`."""

    disk_ratio = 2

    def __init__(self, merger: str, search_path: str, limits: Limits) -> None:
        self._merger = merger
        self._environment = {"PATH": search_path, "LC_ALL": "C.UTF-8"}
        self._limits = limits

    @cached_property
    def lack(self) -> str:
        """What is missing on this node for this way, or an empty text."""
        if not os.access(self._merger, os.X_OK):
            return f'"{self._merger}" is not installed'
        if self._packer is None:
            return '"mksquashfs" is not installed'
        knows = self._ask("-help")
        if b"\n-tar" not in knows or b"zstd" not in knows:
            return '"mksquashfs" is older than 4.5, or does not know zstd'
        return "" if _VERSION.search(self._ask("-version")) else '"mksquashfs" says no version'

    @cached_property
    def id(self) -> str:
        """For example stream-1-zstd3-squashfs4.6.1."""
        found = _VERSION.search(self._ask("-version"))
        return f"stream-{REVISION}-zstd3-squashfs{found[1].decode() if found else 0}"

    def convert(self, source: Source, target: Path, work: Path, progress: OnProgress) -> None:  # noqa: ARG002 - nothing is unpacked anywhere
        """Stream the layers from the top one down; see `Converter`."""
        try:
            config = parse_config(source.config)
        except ValueError as error:
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
        self._merge(source, config, inner, self._packer_argv(target, sif), progress)
        if self._is_old:
            set_root_time(target, sif.offset, sif.time)
        sif.finish(target)
        log.debug("converted %s with %s", source.name, self.id)

    def _merge(
        self,
        source: Source,
        config: ImageConfig,
        inner: tuple[bytes, bytes],
        packer: list[str],
        progress: OnProgress,
    ) -> None:
        layers = _layers(source, config)
        target = Path(packer[2])
        with _memory_file(b"") as notes:
            for _ in range(_RUNS):
                target.unlink(missing_ok=True)
                merging = _Merging(source, layers, inner, progress)
                if not merging.run(
                    self._merger_argv(notes), notes, packer, self._environment, self._limits
                ):
                    return
                log.info("%s has to be read again", source.name)
        raise RuntimeFailure(f'could not merge the layers of "{source.name}": they do not settle')

    def _merger_argv(self, notes: int) -> list[str]:
        limits = self._limits
        numbers = (notes, limits.entries, limits.unpacked_bytes, max(limits.ratio, 1))
        return [self._merger, *(str(int(number)) for number in numbers)]

    def _packer_argv(self, target: Path, sif: Sif) -> list[str]:
        # What sqfstar does; but sqfstar 4.5 takes no compression level.
        # All belongs to root, as in what Apptainer makes as a user. A tar's root entry is passed
        # over, so the root directory is described here. To look for duplicates takes minutes with
        # many small files of one size, and saves one per cent of an ordinary image.
        fixed = ["-mkfs-time", str(sif.time), "-root-time", str(sif.time), "-root-mode", "755"]
        return [
            str(self._packer), "-", str(target), "-tar", "-comp", "zstd",
            "-Xcompression-level", "3",
            "-offset", str(sif.offset), "-all-root", *fixed, "-mem", _PACKER_MEMORY,
            "-no-duplicates", "-exit-on-error", "-quiet", "-no-progress",
            *(["-noI"] if self._is_old else []),
        ]  # fmt: skip

    @property
    def _is_old(self) -> bool:
        """Tell whether -root-time is taken and passed over, as by squashfs-tools 4.5."""
        return "squashfs4.5" in self.id

    @cached_property
    def _packer(self) -> str | None:
        return shutil.which("mksquashfs", path=self._environment["PATH"])

    def _ask(self, option: str) -> bytes:
        argv = [str(self._packer), option]
        done = run(argv, env=self._environment, timeout=_ASK_SECONDS, check=False)
        return done.stdout + done.stderr


@dataclass(frozen=True)
class _Layer:
    blob: Descriptor
    diff_id: str


def _layers(source: Source, config: ImageConfig) -> list[_Layer]:
    """Pair layers with their diff_ids, from the top one down.

    A layer that comes again further down changes nothing there: all its entries are hidden.
    """
    blobs, ids = source.manifest.layers, config.diff_ids
    if not all(map(is_digest, ids)):
        raise RegistryError(f'the config of "{source.name}" has a bad diff_id')
    if len(ids) != len(blobs):
        message = f'"{source.name}" has {len(blobs)} layers, its config tells of {len(ids)}'
        raise RegistryError(message, "the image has to be pushed again")
    if not blobs:
        raise RegistryError(f'"{source.name}" has no layers', "the image has to be pushed again")
    found: dict[str, _Layer] = {}
    for blob, diff_id in zip(reversed(blobs), reversed(ids), strict=True):
        found.setdefault(blob.digest, _Layer(blob, diff_id))
    return list(found.values())


@dataclass
class _Merging:
    """One run of the two programs, and the threads that feed the blobs to them."""

    source: Source
    layers: Sequence[_Layer]
    inner: tuple[bytes, bytes]
    progress: OnProgress
    done: int = 0
    ended: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(
        self, merger: list[str], notes: int, packer: list[str], env: dict[str, str], limits: Limits
    ) -> bool:
        """Tell whether the layers have to be read again; raises what went wrong."""
        _allow_descriptors(4 * len(self.layers) + 256)
        with contextlib.ExitStack() as opened:
            upper = opened.enter_context(_memory_file(self.inner[0]))
            lower = opened.enter_context(_memory_file(self.inner[1]))
            pipes = [_pipe(wide=len(self.layers) <= _WIDE_PIPES) for _ in self.layers]
            writers = [os.fdopen(writer, "wb", 0) for _, writer in pipes]
            for writer in writers:
                opened.callback(_close, writer)
            readers = [reader for reader, _ in pipes]
            words = [f"{upper}=-"]
            pairs = zip(readers, self.layers, strict=True)
            words += [f"{reader}={layer.diff_id}" for reader, layer in pairs]
            words.append(f"{lower}=-")
            stages = (
                Stage([*merger, *words], (notes, upper, *readers, lower)),
                Stage(packer),
            )
            try:
                running = opened.enter_context(pipeline(stages, env))
            finally:
                for reader in readers:
                    os.close(reader)
            return self._attend(running, writers, limits, (merger[0], packer))

    def _attend(
        self,
        running: Pipeline,
        writers: list[Any],
        limits: Limits,
        names: tuple[str, list[str]],
    ) -> bool:
        late = threading.Event()

        def too_late() -> None:
            late.set()
            running.kill()

        timer = threading.Timer(limits.seconds, too_late)
        timer.start()
        try:
            with ThreadPoolExecutor(_AHEAD) as pool:
                feeds = [
                    pool.submit(self._feed, layer, writer, running)
                    for layer, writer in zip(self.layers, writers, strict=True)
                ]
                ended = self._wait(running, feeds)
        finally:
            timer.cancel()
        if late.is_set():
            raise _limit(self.source.name, "seconds", limits)
        merged, packed = ended
        return self._judge(merged, packed, limits, names)

    def _wait(self, running: Pipeline, feeds: list[Future[None]]) -> tuple[Completed, Completed]:
        """Wait for the merger, which ends when its layers do, then for the feeds and mksquashfs."""
        try:
            for feed in feeds:
                # The first one that fails tells why; the later ones fail because of it.
                if feed.exception() is not None:
                    running.kill()
            merged = running.wait(0)
            if merged.returncode != 0:
                self.ended.set()
                running.kill()
            for feed in feeds:
                feed.result()
            return merged, running.wait(1)
        except BaseException:
            self.ended.set()
            running.kill()
            raise

    def _feed(self, layer: _Layer, writer: Any, running: Pipeline) -> None:
        """Move one blob into its pipe; where the merger calls it bad, read on to know who is."""
        is_wanted = True
        with contextlib.closing(writer):
            for chunk in self.source.fetch(layer.blob):
                if self.ended.is_set():
                    return
                if is_wanted and not _write(writer, chunk):
                    is_wanted = False
                    if running.returncode(0) != _CORRUPT:
                        return
                with self.lock:
                    self.done += len(chunk)
                    total = self.source.size
                    self.progress(Progress("convert", self.done, total, self.source.name))

    def _judge(
        self, merged: Completed, packed: Completed, limits: Limits, names: tuple[str, list[str]]
    ) -> bool:
        said = merged.stderr.decode(errors="replace").strip()
        if merged.returncode == _AGAIN:
            return True
        if merged.returncode == _LIMITED:
            raise _limit(self.source.name, said.partition(" ")[2], limits)
        if merged.returncode == _CORRUPT:
            raise self._corrupt(said)
        # Without a reader the merger fails too: then the other one is to blame.
        is_cut_off = merged.returncode > 0 and _NO_READER in said
        if merged.returncode != 0 and not is_cut_off:
            raise failure([names[0]], merged.returncode, merged.stderr)
        if packed.returncode != 0 or is_cut_off:
            raise failure(names[1], packed.returncode, packed.stderr)
        return False

    def _corrupt(self, said: str) -> HpcimgError:
        number, _, reason = said.partition(" ")
        # The merger counts our own uppermost layer too.
        at = int(number) - 1 if number.isdecimal() else -1
        layer = self.layers[at].blob.digest if 0 <= at < len(self.layers) else "a layer"
        return RegistryError(
            f'"{self.source.name}" cannot be converted: {layer}: {reason}',
            "the image has to be built and pushed again",
        )


def _write(writer: Any, chunk: bytes) -> bool:
    view = memoryview(chunk)
    try:
        while view:
            view = view[writer.write(view) :]
    except BrokenPipeError:
        return False
    return True


def _limit(name: str, setting: str, limits: Limits) -> RegistryError:
    return RegistryError(
        f'"{name}" goes beyond the limit {setting} of {getattr(limits, setting, "?")}',
        f"use a smaller image, or raise limits: {{{setting}: ...}} in the settings",
    )


@contextlib.contextmanager
def _memory_file(content: bytes) -> Iterator[int]:
    descriptor = os.memfd_create("hpcimg", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _pipe(*, wide: bool) -> tuple[int, int]:
    reader, writer = os.pipe()
    if wide:
        with contextlib.suppress(OSError):
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _WIDE_PIPE)
    return reader, writer


def _close(writer: Any) -> None:
    with contextlib.suppress(OSError):
        writer.close()


def _allow_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))
