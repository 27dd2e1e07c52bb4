"""Blobs to clients: from the cache by the kernel's own copy, or as they come from the upstream."""

from __future__ import annotations

import asyncio
import errno
import os
import re
from typing import TYPE_CHECKING

from aiohttp import web

from hpcimg.errors import HpcimgError
from hpcimg.hub.refusal import Refusal
from hpcimg.serve.request import Facts, RefusedError

if TYPE_CHECKING:
    from hpcimg.hub.blobs import BlobReader
    from hpcimg.oci.reference import Reference
    from hpcimg.serve.hub import Hub

_CHUNK = 256 << 10
_PIECE = 4 << 20
_PIECE_SECONDS = 300.0
"""How long a client may take for one piece."""
_POLL_SECONDS = 0.02
"""Between two looks at a blob that is still coming: threads that wait would be too many."""
_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")
_TYPE = "application/octet-stream"
_BREAKS = (HpcimgError, OSError, RuntimeError, asyncio.TimeoutError)
"""What may end an answer that has begun."""


async def send_blob(
    hub: Hub, reference: Reference, request: web.Request, noted: Facts
) -> web.StreamResponse:
    """Send a blob, or a part of it; raises the client's errors before the first byte.

    An error after it is noted and ends the connection: no client takes a part for the whole.
    """
    headers = {
        "Content-Type": _TYPE,
        "Docker-Content-Digest": reference.digest or "",
        "ETag": f'"{reference.digest}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
        "Docker-Distribution-Api-Version": "registry/2.0",
    }
    if request.method == "HEAD":
        size = await hub.ask(reference, hub.blobs.size, reference)
        return web.Response(headers={**headers, "Content-Length": str(size)})
    if f'"{reference.digest}"' in request.headers.get("If-None-Match", ""):
        await hub.ask(reference, hub.blobs.size, reference)
        return web.Response(status=304, headers=headers)
    # What is in the cache waits behind no question to a registry.
    reader = await hub.in_thread(hub.blobs.open_cached, reference)
    if reader is None:
        reader = await hub.ask(reference, hub.blobs.open, reference)
    try:
        return await _send(hub, reader, request, headers, noted)
    finally:
        reader.close()


async def _send(
    hub: Hub, reader: BlobReader, request: web.Request, headers: dict[str, str], noted: Facts
) -> web.StreamResponse:
    start, end = _part(request.headers.get("Range", ""), reader.size)
    is_part = (start, end) != (0, reader.size)
    if is_part:
        headers = {**headers, "Content-Range": f"bytes {start}-{end - 1}/{reader.size}"}
    response = web.StreamResponse(status=206 if is_part else 200, headers=headers)
    response.content_length = end - start
    await response.prepare(request)
    try:
        if reader.path is not None and request.transport is not None:
            await _send_file(reader, request.transport, start, end)
        else:
            await _stream(hub, reader, request, response, (start, end))
        await response.write_eof()
    except BaseException as error:
        # The status is sent: only a broken connection tells the client that this is not all.
        if request.transport is not None:
            request.transport.abort()
        if not isinstance(error, _BREAKS):
            raise
        noted["why"] = _why(error)
    else:
        hub.metrics.blob_bytes += end - start
    return response


def _why(error: BaseException) -> str:
    if isinstance(error, ConnectionError):
        return "the client has gone"
    return error.message if isinstance(error, HpcimgError) else repr(error)


async def _send_file(
    reader: BlobReader, transport: asyncio.Transport, start: int, end: int
) -> None:
    """Have the kernel copy from the file to the socket, for a client that keeps reading."""
    loop = asyncio.get_running_loop()
    with os.fdopen(os.dup(reader.fileno()), "rb") as file:
        while start < end:
            piece = min(_PIECE, end - start)
            sent = await asyncio.wait_for(
                loop.sendfile(transport, file, start, piece), _PIECE_SECONDS
            )
            if sent != piece:
                raise OSError(errno.EIO, "the cached blob is shorter than it was")
            start += piece


async def _stream(
    hub: Hub,
    reader: BlobReader,
    request: web.Request,
    response: web.StreamResponse,
    part: tuple[int, int],
) -> None:
    """Send bytes as they come, while the client is there."""
    start, end = part
    while start < end:
        stop = min(start + _CHUNK, end)
        while not reader.has(stop):
            if request.transport is None:
                raise ConnectionResetError
            await asyncio.sleep(_POLL_SECONDS)
        chunk = await hub.in_thread(reader.read, start, stop - start)
        await response.write(chunk)
        start += len(chunk)


def _part(header: str, size: int) -> tuple[int, int]:
    """Read which bytes are wanted, from the first to behind the last; raises RefusedError.

    What is no single range of bytes is the whole, as HTTP has it.
    """
    found = _RANGE.fullmatch(header.strip())
    if found is None or not (found[1] or found[2]):
        return 0, size
    if found[1]:
        start = int(found[1])
        end = min(int(found[2]) + 1, size) if found[2] else size
        if found[2] and int(found[2]) < start:
            return 0, size
    else:
        start, end = max(size - int(found[2]), 0), size
    if start >= end:
        headers = {"Content-Range": f"bytes */{size}"}
        why = f"the blob has {size} bytes"
        raise RefusedError(Refusal(416, "RANGE_INVALID", why, headers=headers))
    return start, end
