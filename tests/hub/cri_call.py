"""Asks containerd's CRI socket for an image, as a kubelet does, and prints what it answers.

It reads a JSON object of `socket`, `image` and perhaps `username` and `password` from its standard
input and prints one of `image_ref`, `id` and `repo_digests`, or of `error`.
The system's Python runs it, for Debian's grpcio. The few messages are written by hand: each field
is a number and a text or a message.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import grpc

SERVICE = "/runtime.v1.ImageService/"
LENGTH_DELIMITED = 2


def field(number: int, value: str | bytes) -> bytes:
    """Encode one text or one message."""
    raw = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | LENGTH_DELIMITED) + _varint(len(raw)) + raw


def fields(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Read the texts and messages of a message; numbers are passed over."""
    at = 0
    while at < len(raw):
        key, at = _read_varint(raw, at)
        length, at = _read_varint(raw, at)
        if key & 7 == LENGTH_DELIMITED:
            yield key >> 3, raw[at : at + length]
            at += length


def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def _read_varint(raw: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        number |= (raw[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if raw[at - 1] < 0x80:
            return number, at


def main() -> None:
    """Pull the image and ask what it is."""
    asked = json.load(sys.stdin)
    spec = field(1, field(1, asked["image"]))
    login = b"".join(
        field(number, asked[key])
        for number, key in ((1, "username"), (2, "password"))
        if key in asked
    )
    channel = grpc.insecure_channel(f"unix://{asked['socket']}")
    pull, status = (
        channel.unary_unary(f"{SERVICE}PullImage"),
        channel.unary_unary(f"{SERVICE}ImageStatus"),
    )
    try:
        pulled = dict(fields(pull(spec + (field(2, login) if login else b""), timeout=120)))
        image = list(fields(dict(fields(status(spec, timeout=60)))[1]))
    except grpc.RpcError as error:
        json.dump({"error": f"{error.code().name}: {error.details()}"}, sys.stdout)
        return
    texts = {number: value.decode() for number, value in image if number == 1}
    digests = [value.decode() for number, value in image if number == 3]
    answer = {"image_ref": pulled[1].decode(), "id": texts[1], "repo_digests": digests}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
