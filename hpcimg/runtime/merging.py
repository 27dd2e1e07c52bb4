"""One run of the merger and mksquashfs, and the threads that feed an image's blobs to them.

It must not know what the programs are confined to, nor what stands around the file system.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcimg.errors import HpcimgError, RegistryError
from hpcimg.oci.model import Descriptor
from hpcimg.process import Completed, Pipeline, Stage, failure, pipeline
from hpcimg.progress import OnProgress, Progress
from hpcimg.runtime.source import Source
from hpcimg.settings import Limits

_CORRUPT, _LIMITED, _AGAIN = 65, 73, 75
_NO_READER = "the result could not be written"
_NO_MEMORY = "out of memory"  # in mksquashfs's words; the merger names the limit
_AHEAD = 3
_WIDE_PIPE = 1 << 20
_WIDE_PIPES = 16  # a user has 64 MiB of pipes before the kernel makes them narrow
_TICK_SECONDS = 0.5


@dataclass(frozen=True)
class SourceLayer:
    """A layer's blob, and the digest of what it unpacks to."""

    blob: Descriptor
    diff_id: str


@dataclass(frozen=True)
class Programs:
    """The two programs, and what stands before each on its command line, see confine.py."""

    merger: Sequence[str]
    packer: Sequence[str]
    bonds: tuple[Sequence[str], Sequence[str]]
    environment: dict[str, str]
    target: Path


@dataclass
class Merging:
    """One reading of an image's layers; `inner` are our own, above and below all of them."""

    source: Source
    layers: Sequence[SourceLayer]
    inner: tuple[bytes, bytes]
    limits: Limits
    progress: OnProgress
    done: int = 0
    ended: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, programs: Programs, notes: int) -> bool:
        """Tell whether the layers have to be read again; raises what went wrong."""
        _allow_descriptors(4 * len(self.layers) + 256)
        with contextlib.ExitStack() as opened:
            upper = opened.enter_context(memory_file(self.inner[0]))
            lower = opened.enter_context(memory_file(self.inner[1]))
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
                Stage(
                    [*programs.bonds[0], *programs.merger, *words], (notes, upper, *readers, lower)
                ),
                Stage([*programs.bonds[1], *programs.packer]),
            )
            try:
                running = opened.enter_context(pipeline(stages, programs.environment))
            finally:
                for reader in readers:
                    os.close(reader)
            return self._attend(running, writers, programs)

    def _attend(self, running: Pipeline, writers: list[Any], programs: Programs) -> bool:
        late = threading.Event()

        def too_late() -> None:
            late.set()
            self.ended.set()
            running.kill()

        timer = threading.Timer(self.limits.seconds, too_late)
        timer.start()
        try:
            with ThreadPoolExecutor(_AHEAD) as pool:
                feeds = [
                    pool.submit(self._feed, layer, writer, running)
                    for layer, writer in zip(self.layers, writers, strict=True)
                ]
                merged, packed = self._wait(running, feeds, programs.target)
        finally:
            timer.cancel()
        if late.is_set():
            raise self._limit("seconds")
        return self._judge(merged, packed, programs)

    def _wait(
        self, running: Pipeline, feeds: list[Future[None]], target: Path
    ) -> tuple[Completed, Completed]:
        """Wait for the feeds, then for the merger, then for mksquashfs."""
        try:
            ended, _ = wait(feeds, return_when=FIRST_EXCEPTION)
            # The first one that fails tells why; the later ones fail because of it.
            failed = [feed for feed in feeds if feed in ended and feed.exception() is not None]
            if failed:
                self.ended.set()
                running.kill()
            self._tell_until_end(running, target)
            merged = running.wait(0)
            if merged.returncode != 0:
                running.kill()
            for feed in (*failed, *feeds):
                feed.result()
            return merged, running.wait(1)
        except BaseException:
            self.ended.set()
            running.kill()
            raise

    def _tell_until_end(self, running: Pipeline, target: Path) -> None:
        """Say how large the file is while the last bytes are compressed; its end nobody knows."""
        while not running.is_over(_TICK_SECONDS):
            size = target.stat().st_size
            self.progress(Progress("compress", size, 0, self.source.name))

    def _feed(self, layer: SourceLayer, writer: Any, running: Pipeline) -> None:
        """Move one blob into its pipe; where the merger calls it bad, read on to know who is."""
        is_wanted = True
        part = layer.blob.digest.partition(":")[2][:12]
        done = 0
        with contextlib.closing(writer):
            if self.ended.is_set():
                return
            for chunk in self.source.fetch(layer.blob):
                if self.ended.is_set():
                    return
                if is_wanted and not _write(writer, chunk):
                    is_wanted = False
                    if running.returncode(0) != _CORRUPT:
                        return
                done += len(chunk)
                name = self.source.name
                with self.lock:
                    self.done += len(chunk)
                    self.progress(Progress("fetch", done, layer.blob.size, name, part))
                    self.progress(Progress("convert", self.done, self.source.size, name))

    def _judge(self, merged: Completed, packed: Completed, programs: Programs) -> bool:
        said = merged.stderr.decode(errors="replace").strip()
        if merged.returncode == _AGAIN:
            return True
        if merged.returncode == _LIMITED:
            raise self._limit(said.partition(" ")[2])
        if merged.returncode == _CORRUPT:
            raise self._corrupt(said)
        # Without a reader the merger fails too: then the other one is to blame.
        is_cut_off = merged.returncode > 0 and _NO_READER in said
        if merged.returncode != 0 and not is_cut_off:
            raise failure(programs.merger, merged.returncode, merged.stderr)
        if packed.returncode != 0 or is_cut_off:
            if _NO_MEMORY in packed.stderr.decode(errors="replace").lower():
                raise self._limit("memory")
            raise failure(programs.packer, packed.returncode, packed.stderr)
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

    def _limit(self, setting: str) -> RegistryError:
        return RegistryError(
            f'"{self.source.name}" goes beyond the limit {setting} of '
            f"{getattr(self.limits, setting, '?')}",
            f"use a smaller image, or raise limits: {{{setting}: ...}} in the settings",
        )


def _write(writer: Any, chunk: bytes) -> bool:
    view = memoryview(chunk)
    try:
        while view:
            view = view[writer.write(view) :]
    except BrokenPipeError:
        return False
    return True


@contextlib.contextmanager
def memory_file(content: bytes) -> Iterator[int]:
    """Give a descriptor of a file that has no name."""
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
