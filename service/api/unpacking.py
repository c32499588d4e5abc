"""A body that was sent packed with gzip: unpacked within the bounds of one that was not.

Piece by piece: of what would grow beyond a bound no more is unpacked than shows it.
"""

import asyncio
import zlib
from typing import Protocol

from service.errors import BodyTooLarge, InvalidContentEncoding, TooMuchPending

# A header and checks of gzip, not of zlib.
_GZIP = 16 + zlib.MAX_WBITS
# Up to these it is unpacked on the event loop: in a millisecond.
_SMALL_BYTES = 64 << 10
_STEP_BYTES = 1 << 20


class Holding(Protocol):
    """What a request holds of the bytes that all of them may."""

    def take(self, size: int) -> bool:
        """Hold so many bytes more; False where there is no room for them."""

    def refuse(self) -> TooMuchPending:
        """The error of a request that does not fit."""


async def unpack(packed: bytes, limit: int, holding: Holding | None) -> bytes:
    """What was packed, at most `limit` bytes of it, which are held besides the packed ones.

    Raises BodyTooLarge, TooMuchPending; InvalidContentEncoding where it is not whole, or not gzip.
    """
    stream = zlib.decompressobj(_GZIP)
    body = bytearray()
    rest, step = packed, _SMALL_BYTES
    while not stream.eof:
        # One byte more than may be tells that there are more.
        wanted = min(step, limit + 1 - len(body))
        try:
            if len(rest) <= _SMALL_BYTES >= wanted:
                part = stream.decompress(rest, wanted)
            else:
                part = await asyncio.to_thread(stream.decompress, rest, wanted)
        except zlib.error as error:
            raise InvalidContentEncoding(
                f"the body is declared as gzip and is not, or was damaged ({error}); send it whole "
                "as it was packed, or without Content-Encoding"
            ) from None
        body += part
        if len(body) > limit:
            raise BodyTooLarge.of(limit, "unpacked")
        if holding is not None and not holding.take(len(part)):
            raise holding.refuse()
        rest, step = stream.unconsumed_tail, _STEP_BYTES
        if not part and not stream.eof:
            raise InvalidContentEncoding(
                "the body is gzip that ends too early; send it whole as it was packed, or without "
                "Content-Encoding"
            )
    if stream.unused_data:
        # Members without end, each of nothing, would keep a core busy.
        raise InvalidContentEncoding(
            f"{len(stream.unused_data)} bytes stand behind the end of the gzip body; send one "
            "member, and nothing behind it"
        )
    return bytes(body)
