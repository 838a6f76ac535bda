"""Bodies of HTTP: read with a limit, unpacked and packed."""

import asyncio
import gzip
import zlib

from starlette.requests import ClientDisconnect, Request

from ebjr_det.core.errors import InvalidInput
from ebjr_det.serving.fault import Fault
from ebjr_det.serving.protocol import LENGTH

PACKED = {"gzip": 31, "deflate": 15}
"""Encoding -> zlib's window bits."""
SMALL = 1000
"""Bytes of an answer from which on packing it pays."""


async def read_body(request: Request, largest: int) -> bytes:
    """The body, unpacked. Raises Fault 413 for more than `largest` bytes, packed or not, 400 for damage."""
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > largest:
                raise too_large(largest)
            parts.append(part)
    except ClientDisconnect as error:
        raise Fault(400, "Expected a whole body, got a part of one.") from error
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() == "identity":
        return b"".join(parts)
    return await asyncio.to_thread(unpacked, b"".join(parts), encoding, largest)


def too_large(largest: int) -> Fault:
    """The refusal of a body."""
    return Fault(413, f"Expected at most {largest} bytes in a request, got more. Send fewer pictures.")


def unpacked(body: bytes, encoding: str, largest: int) -> bytes:
    """A body as it was before it was packed; never more than `largest` bytes of it are unpacked."""
    if encoding.lower() not in PACKED:
        raise Fault(415, "Expected a body packed by gzip or deflate, or not at all, got another.")
    unpacker = zlib.decompressobj(PACKED[encoding.lower()])
    try:
        content = unpacker.decompress(body, largest + 1)
    except zlib.error as error:
        raise InvalidInput(f"Expected a body packed by {encoding.lower()}, got a damaged one.") from error
    if len(content) > largest:
        raise too_large(largest)
    if not unpacker.eof:
        raise InvalidInput(f"Expected a body packed by {encoding.lower()}, got a cut one.")
    return content


def header_length(request: Request) -> int | None:
    """Bytes of JSON before raw bytes; None where all is JSON, 0 where the body is one picture."""
    text = request.headers.get(LENGTH)
    if text is None:
        return 0 if request.headers.get("content-type", "").startswith("image/") else None
    if not (text.isascii() and text.isdecimal() and len(text) < 12):
        raise InvalidInput("Expected a whole number as Inference-Header-Content-Length, got another text.")
    return int(text)


def packed(body: bytes, request: Request) -> tuple[bytes, dict[str, str]]:
    """An answer as its reader takes it, and what the headers say of it."""
    accepted = request.headers.get("accept-encoding", "")
    if len(body) < SMALL or "gzip" not in accepted:
        return body, {}
    return gzip.compress(body, compresslevel=1, mtime=0), {"Content-Encoding": "gzip"}
