"""HTTP bodies, unpacked piece by piece and never beyond a limit: a small answer may claim to be a huge one.

aiohttp would unpack whatever comes in one go; clients of others' servers switch that off (`auto_decompress=False`), ask
for gzip at most (`ACCEPT`), and read through `pieces`.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

import aiohttp

from autoscaler.clients.resolving import NoAnswer

ACCEPT = {"Accept-Encoding": "gzip"}
PIECE_BYTES = 1 << 16
MOST_RATIO = 100
"""Text of metrics or JSON is packed to a thirtieth at best; what claims more is not meant to be read."""
_SMALL_BYTES = 1 << 20
"""Below this any ratio will do."""


class TooLarge(NoAnswer):
    """The answer is larger than may be read of one service."""


async def pieces(answer: aiohttp.ClientResponse, most_bytes: int) -> AsyncIterator[bytes]:
    """The unpacked body, in pieces of up to `PIECE_BYTES`. Errors: TooLarge beyond `most_bytes`; NoAnswer for a packing
    that was not asked for or is broken; aiohttp's own."""
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip"):
        raise NoAnswer("packed in a way that was not asked for")
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS) if encoding == "gzip" else None
    came = size = 0
    async for raw in answer.content.iter_chunked(PIECE_BYTES):
        came += len(raw)
        while raw:
            if unpacker is None:
                piece, raw = raw, b""
            else:
                try:
                    piece = unpacker.decompress(raw, PIECE_BYTES)
                except zlib.error:
                    raise NoAnswer("packed with gzip, and broken") from None
                raw = unpacker.unconsumed_tail
            size += len(piece)
            if size > most_bytes:
                raise TooLarge(f"longer than {_bytes(most_bytes)}")
            if size > _SMALL_BYTES and size > MOST_RATIO * came:
                raise TooLarge(f"unpacks to more than {MOST_RATIO} times its size")
            if piece:
                yield piece
    if unpacker is not None and not unpacker.eof:
        raise NoAnswer("packed with gzip, and cut off")


def _bytes(number: int) -> str:
    return f"{number / (1 << 20):.3g} MiB" if number >= 1 << 20 else f"{number} bytes"
